"""Removal by age and number: expired memories, old tombstones, memories beyond an agent's limit, old log records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from lorestream.errors import Unavailable
from lorestream.memories import AgentKey
from lorestream.ports import Cache, Clock, StoreMaintenance

_log = structlog.get_logger("lorestream.sweeper")

STEP = 500
"""Memories removed in one call to the store; queries run between two calls."""


class Sweeper:
    """Removes memories at intervals, in bounded steps. Readers do not depend on it: they check expiry themselves."""

    def __init__(
        self,
        store: StoreMaintenance,
        clock: Clock,
        *,
        tombstone_life_s: float,
        interval_s: float,
        keep_per_agent: int = 0,
        cache: Cache | None = None,
        trim_log: Callable[[], Awaitable[int]] | None = None,
        is_responsible: Callable[[], bool] = lambda: True,
        time_problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`keep_per_agent`: the newest memories of each agent that are kept, 0 = all.

        `cache`: where agents that lost memories to that limit are invalidated. `trim_log` removes records past their
        retention and returns their number. `is_responsible`: whether this sweeper, of several, is the one to work.
        `time_problem`: why the clock cannot be believed, None when it can (see time_check.py).
        """
        self._store = store
        self._clock = clock
        self._tombstone_life_s = tombstone_life_s
        self._interval_s = interval_s
        self._keep = keep_per_agent
        self._cache = cache
        self._to_invalidate: set[AgentKey] = set()
        self._trim_log = trim_log
        self._is_responsible = is_responsible
        self._time_problem = time_problem
        self._waits = False

    async def run(self) -> None:
        """Sweep at intervals while responsible, until cancelled. An outage postpones to the next interval.

        An indexer that has just started has no partitions yet, so its first sweep comes after one interval.
        """
        while True:
            if self._is_responsible() and self._may_remove():
                await self._sweep_if_available()
            await asyncio.sleep(self._interval_s)

    def _may_remove(self) -> bool:
        """Whether the clock can be believed. Logs once when it no longer can, and once when it can again."""
        problem = self._time_problem()
        if problem is not None and not self._waits:
            _log.warning("removal by age waits", problem=problem)
        if problem is None and self._waits:
            _log.info("removal by age goes on")
        self._waits = problem is not None
        return not self._waits

    async def _sweep_if_available(self) -> None:
        # The log first: that frees space, without which the store may not be able to remove anything.
        trimmed = await self._attempt(self._trim_log) if self._trim_log else 0
        removed = await self._attempt(self.sweep) + await self._attempt(self.trim)
        if removed or trimmed:
            _log.info(
                "expired or surplus memories and old records removed", memories=removed, records=trimmed
            )

    async def _attempt(self, step: Callable[[], Awaitable[int]]) -> int:
        """What the step has removed; 0 after an outage, so that the other steps are made all the same."""
        try:
            return await step()
        except Unavailable as error:
            _log.warning("sweep failed, it is tried again at the next interval", error=error.message)
            return 0

    async def sweep(self) -> int:
        """Remove expired memories and old tombstones; return how many. Raises Unavailable."""
        now = self._clock.now()
        removed = 0
        while True:
            step = await self._store.sweep(
                expired_before=now, tombstones_before=now - self._tombstone_life_s, limit=STEP
            )
            removed += step
            if step < STEP:
                return removed
            await asyncio.sleep(0)

    async def trim(self) -> int:
        """Remove what is beyond the newest `keep_per_agent` of each agent; return how many. Raises Unavailable."""
        await self._invalidate()  # agents left over from a sweep during which the cache was unavailable
        if not self._keep:
            return 0
        removed, now = 0, self._clock.now()
        for agent in await self._store.agents_above(keep=self._keep):
            self._to_invalidate.add(
                agent
            )  # before the removal: a step that fails may have removed some memories
            count = step = await self._store.trim(agent, keep=self._keep, limit=STEP, now=now)
            while step == STEP:
                await asyncio.sleep(0)
                step = await self._store.trim(agent, keep=self._keep, limit=STEP, now=now)
                count += step
            if count:
                await self._invalidate()
            else:
                self._to_invalidate.discard(agent)
            removed += count
            await asyncio.sleep(0)
        return removed

    async def _invalidate(self) -> None:
        """Invalidate the cached answers of trimmed agents. Expiry needs none: answers expire with their memories."""
        if self._to_invalidate and self._cache is not None:
            try:
                await self._cache.invalidate(self._to_invalidate)
            except Unavailable as error:
                # A cached answer that holds a trimmed memory expires within a minute.
                _log.warning(
                    "cache invalidation after a trim failed, it is repeated at the next sweep",
                    error=error.message,
                )
                return
        self._to_invalidate.clear()
