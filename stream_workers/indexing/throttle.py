"""How fast a collection is filled that nobody searches yet: queries and new events go first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

SHARE = 0.5
"""Of one processor, at most, for work that nobody waits for."""
LONGEST_PAUSE_S = 1.0
PIECE = 8
"""So many memories are read or written at once: that stops an embedded store for a millisecond."""

COMMITS_LEFT_OUT = 5
"""Between two commits: each flushes, which stops an embedded store for a tenth of a second or more."""

T = TypeVar("T")


class Pace:
    """Rests after work, unless somebody is in a hurry."""

    def __init__(self, hurried: Callable[[], bool] = lambda: True) -> None:
        self._hurried = hurried
        self._left_out = 0

    def commits(self) -> bool:
        """Whether this turn to commit is taken: everyone, unless nobody is in a hurry."""
        self._left_out = 0 if self._hurried() else (self._left_out + 1) % (COMMITS_LEFT_OUT + 1)
        return self._left_out == 0

    async def rest(self, worked_s: float) -> None:
        """After so many seconds of work: rest long enough that it comes to its share of the time."""
        if not self._hurried():
            await asyncio.sleep(min(LONGEST_PAUSE_S, worked_s * (1 / SHARE - 1)))

    async def in_pieces(self, things: Sequence[T], work: Callable[[Sequence[T]], Awaitable[None]]) -> None:
        """Do some work on all of them, piece by piece with a rest after each; at once if somebody is in a hurry."""
        at, last = 0, len(things)
        while at < last:
            piece = things[at:] if self._hurried() else things[at : at + PIECE]
            await self.during(work(piece))
            at += len(piece)

    async def during(self, work: Awaitable[None]) -> None:
        """Do some work, and rest after it."""
        began = time.perf_counter()
        await work
        await self.rest(time.perf_counter() - began)
