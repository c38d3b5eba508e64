"""When memories were last returned, for recency by last access; erased ones are forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorestream import supervision

if TYPE_CHECKING:
    from lorestream.memories import Memory
    from lorestream.ports import AccessTimes, ErasureLedger


@dataclass(slots=True)
class Accesses:
    """The access times of a process, cleared of what the ledger erases from now on."""

    times: AccessTimes
    ledger: ErasureLedger
    _erasures_seen: int = 0

    def __post_init__(self) -> None:
        self._erasures_seen = len(self.ledger.added_since(0))

    async def last(self, memories: Sequence[Memory]) -> Mapping[str, float]:
        """Memory id -> Unix seconds of its last access, of those that are known."""
        await self._forget_erased()
        return await self.times.last(memories)

    def note(self, memories: Sequence[Memory], now: float) -> None:
        """The memories are returned at the time `now`. Nobody waits until that is kept."""
        if memories:
            supervision.start_detached(self._touch(memories, now), "access times")

    async def _touch(self, memories: Sequence[Memory], now: float) -> None:
        await self._forget_erased()
        await self.times.touch(memories, now)

    async def _forget_erased(self) -> None:
        new = self.ledger.added_since(self._erasures_seen)
        self._erasures_seen += len(new)
        for erasure in new:
            await self.times.forget(erasure)
