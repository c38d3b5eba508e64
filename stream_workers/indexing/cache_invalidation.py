"""Invalidation of cached answers after a write; only then is the write finished.

A write is finished (`wait=indexed`, `after`, the committed offset) when no answer from before it can be in use any
more: the cache was invalidated, or every answer that it held has expired. While the cache cannot be reached, batches
are still stored, and wait here for at most `MAX_ANSWER_AGE_S`.
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

MAX_ANSWER_AGE_S = 65.0
"""A cached answer expires 60 s after its search began; 5 s more allow for clocks that differ."""

RETRY_DELAY_S = 0.25


@dataclass(frozen=True, slots=True)
class _Pending:
    """A stored batch whose agents have not been invalidated yet. `agents` is None for all agents."""

    agents: frozenset[AgentKey] | None
    stored_at: float
    finish: Callable[[], Awaitable[None]]


class InvalidationQueue:
    """Invalidates the agents of each batch, then calls the batch's `finish`, in the order of the batches."""

    def __init__(
        self,
        cache: Cache | None,
        *,
        max_answer_age_s: float = MAX_ANSWER_AGE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._max_answer_age_s = max_answer_age_s
        self._monotonic = monotonic
        self._queue: deque[_Pending] = deque()
        self._wake = asyncio.Event()

    @property
    def pending(self) -> int:
        """Batches that are stored and not finished, because the cache cannot be reached."""
        return len(self._queue)

    async def add(self, agents: frozenset[AgentKey] | None, finish: Callable[[], Awaitable[None]]) -> None:
        """Finish a batch that has just changed memories of these agents, None for all agents.

        `finish` is called before this returns if the cache can be reached and no earlier batch waits; otherwise
        later, by `run`.
        """
        stored_at = self._monotonic()
        if not self._queue and await self._invalidate(agents):
            await finish()
            return
        self._queue.append(_Pending(agents, stored_at, finish))
        self._wake.set()

    async def run(self) -> None:
        """Finish the batches that wait, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                if not await self._try_to_finish():
                    await asyncio.sleep(RETRY_DELAY_S)

    async def _try_to_finish(self) -> bool:
        """Finish all batches if the cache can be reached, else those older than any cached answer."""
        batches = list(self._queue)
        if await self._invalidate(union(batch.agents for batch in batches)):
            await self._finish_first(len(batches))
            return True
        oldest_answer = self._monotonic() - self._max_answer_age_s
        await self._finish_first(sum(batch.stored_at < oldest_answer for batch in batches))
        return False

    async def _finish_first(self, count: int) -> None:
        for _ in range(count):
            await self._queue[0].finish()
            self._queue.popleft()

    async def _invalidate(self, agents: frozenset[AgentKey] | None) -> bool:
        """Invalidate these agents. Returns whether the cache holds none of their old answers; True without a cache."""
        if self._cache is None:
            return True
        try:
            if agents is None:
                await self._cache.clear()
            elif agents:
                await self._cache.invalidate(agents)
        except Unavailable as error:
            if not self._queue:
                _log.warning(
                    "cache invalidation failed: writes are stored, their commits are delayed",
                    error=error.message,
                    at_most_s=self._max_answer_age_s,
                )
            return False
        return True


def union(agent_sets: Iterable[frozenset[AgentKey] | None]) -> frozenset[AgentKey] | None:
    """All agents of these sets. None stands for all agents: if one set is None, so is the result."""
    agents: set[AgentKey] = set()
    for some in agent_sets:
        if some is None:
            return None
        agents |= some
    return frozenset(agents)
