"""The watermarks of a consumer group, read from the offsets that it has committed at the broker.

Nothing is published: the commit itself is the watermark. So this is a WatermarkReader only.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from lorestream.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

POLL_S = 0.1
"""The log shares its answer among all who ask within this time."""
FIRST_ANSWER_S = 0.25
"""One question is asked even when there is no time to wait."""


class Commits(Protocol):
    """A log, or whatever else can tell a group's commits."""

    async def committed(self, group: str) -> Mapping[int, int]:
        """The next offset to read of each partition. Raises Unavailable."""
        ...


class KafkaWatermarks:
    """What one group has committed."""

    def __init__(self, commits: Commits, *, group: str) -> None:
        self._commits = commits
        self._group = group
        self._finished: dict[int, int] = {}

    async def reached(self, positions: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is committed, waiting at most `timeout_s`.

        False, too, when the broker could not be asked in that time.
        """
        deadline = time.monotonic() + timeout_s
        patience_s = max(timeout_s, FIRST_ANSWER_S)
        while not self._finished_past(positions):
            await self._ask(patience_s)
            patience_s = deadline - time.monotonic()
            if self._finished_past(positions) or patience_s <= 0:
                break
            await asyncio.sleep(min(POLL_S, patience_s))
        return self._finished_past(positions)

    def _finished_past(self, positions: Mapping[int, int]) -> bool:
        return all(self._finished.get(partition, 0) > offset for partition, offset in positions.items())

    async def _ask(self, patience_s: float) -> None:
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(patience_s):
                committed = await self._commits.committed(self._group)
            for partition, position in committed.items():
                self._finished[partition] = max(position, self._finished.get(partition, 0))
