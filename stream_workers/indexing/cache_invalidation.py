"""The last step of a batch: caches are told, or every answer that they may hold has died by itself.

A write counts as finished only then (see the contract: `wait=indexed`, `after`, the committed offset). While
the cache cannot be reached, batches go on being stored and wait here for at most `ANSWER_LIFE_S`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog

from lorestream.errors import Unavailable
from lorestream.memories import AgentKey
from lorestream.ports import Cache

_log = structlog.get_logger("lorestream.indexer")

ANSWER_LIFE_S = 65.0
"""No answer is used longer than 60 s after its search began; the rest is for clocks that differ."""

_RETRY_S = 0.25


@dataclass(frozen=True, slots=True)
class _Untold:
    touched: frozenset[AgentKey] | None
    stored_at: float
    finish: Callable[[], Awaitable[None]]


class Finishing:
    """Tells the cache what was written, then calls `finish`, in the order of the batches."""

    def __init__(
        self,
        cache: Cache | None,
        *,
        answer_life_s: float = ANSWER_LIFE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._answer_life_s = answer_life_s
        self._monotonic = monotonic
        self._untold: deque[_Untold] = deque()
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Batches that are stored, and of which the cache could not be told yet."""
        return len(self._untold)

    async def add(self, touched: frozenset[AgentKey] | None, finish: Callable[[], Awaitable[None]]) -> None:
        """The memories of these agents have changed just now; None: of any."""
        stored_at = self._monotonic()
        if not self._untold and await self._tell(touched):
            await finish()
            return
        self._untold.append(_Untold(touched, stored_at, finish))
        self._wake.set()

    async def run(self) -> None:
        """Finish, for ever, what could not be finished at once."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._untold:
                if not await self._step():
                    await asyncio.sleep(_RETRY_S)

    async def _step(self) -> bool:
        """Tell the cache of all at once; else let go what has outlived every answer."""
        batches = list(self._untold)
        if await self._tell(together(batch.touched for batch in batches)):
            await self._let_go(len(batches))
            return True
        oldest = self._monotonic() - self._answer_life_s
        await self._let_go(sum(batch.stored_at < oldest for batch in batches))
        return False

    async def _let_go(self, count: int) -> None:
        for _ in range(count):
            await self._untold[0].finish()
            self._untold.popleft()

    async def _tell(self, touched: frozenset[AgentKey] | None) -> bool:
        if self._cache is None:
            return True
        try:
            if touched is None:
                await self._cache.clear()
            elif touched:
                await self._cache.invalidate(touched)
        except Unavailable as error:
            if not self._untold:
                _log.warning("the cache cannot be told of writes, they finish later", error=error.message)
            return False
        return True


def together(touched: Iterable[frozenset[AgentKey] | None]) -> frozenset[AgentKey] | None:
    """All of these agents; None, which is anybody, swallows the rest."""
    agents: set[AgentKey] = set()
    for some in touched:
        if some is None:
            return None
        agents |= some
    return frozenset(agents)
