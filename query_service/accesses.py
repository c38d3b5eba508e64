"""When memories were last returned, for recency by last access; erased ones are forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorestream import supervision

if TYPE_CHECKING:
    from lorestream.memories import Memory
    from lorestream.ports import AccessTimes, ErasureLedger


@dataclass(slots=True)
class Accesses:
    """The access times of a process, cleared of what the ledger erases from now on. A process has one."""

    times: AccessTimes
    ledger: ErasureLedger
    _erasures_seen: int = field(init=False)
    _forgetting: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

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
        # What was erased since the search found it is kept by nobody else, and would be forgotten no more.
        await self.times.touch([one for one in memories if not self.ledger.covers(one)], now)

    async def _forget_erased(self) -> None:
        async with self._forgetting:
            for erasure in self.ledger.added_since(self._erasures_seen):
                await self.times.forget(erasure)
                self._erasures_seen += 1  # afterwards: the request that forgets may be cancelled meanwhile
