"""The port of the access times: when memories were last returned to somebody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorestream.memories import Erasure, Memory

TOUCH_INTERVAL_S = 300.0
"""A memory that is returned again within this time keeps its access time."""


class AccessTimes(Protocol):
    """The time of the last access of each memory: when a search or a context returned it.

    Kept without a write to the log, and best effort: an adapter may forget any of them at any time, and in an outage it
    knows none and keeps none. It is bounded in size. No method raises.
    """

    async def last(self, memories: Sequence[Memory]) -> Mapping[str, float]:
        """Memory id -> Unix seconds of the last access, of those that are known."""
        ...

    async def touch(self, memories: Sequence[Memory], now: float) -> None:
        """The memories were returned at the time `now`. Kept to within TOUCH_INTERVAL_S."""
        ...

    async def forget(self, erasure: Erasure) -> None:
        """Forget the accesses of what is erased; where the adapter does not know whose they are, they expire in a week."""
        ...
