"""What time takes away: expired memories, overaged tombstones, what is beyond an agent's newest, old records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from lorestream.errors import Unavailable
from lorestream.memories import AgentKey
from lorestream.ports import Cache, Clock, VectorStore

_log = structlog.get_logger("lorestream.sweeper")

STEP = 500
"""Memories removed at a stretch: queries go on in between."""


class Sweeper:
    """Removes at intervals, in bounded steps. Readers never depend on it: they look at the time themselves."""

    def __init__(
        self,
        store: VectorStore,
        clock: Clock,
        *,
        tombstone_life_s: float,
        interval_s: float,
        keep_per_agent: int = 0,
        cache: Cache | None = None,
        trim_log: Callable[[], Awaitable[int]] | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """`keep_per_agent`: how many memories of each agent stay, 0 = all. `cache`: told whose have gone.

        `wanted`: whether it is this sweeper's turn, where there are several.
        """
        self._store = store
        self._clock = clock
        self._tombstone_life_s = tombstone_life_s
        self._interval_s = interval_s
        self._keep = keep_per_agent
        self._cache = cache
        self._untold: set[AgentKey] = set()
        self._trim_log = trim_log
        self._wanted = wanted

    async def run(self) -> None:
        """Sweep for ever, once at the start."""
        while True:
            if self._wanted():
                await self._sweep_patiently()
            await asyncio.sleep(self._interval_s)

    async def _sweep_patiently(self) -> None:
        try:
            removed = await self.sweep() + await self.trim()
            trimmed = await self._trim_log() if self._trim_log else 0
        except Unavailable as error:
            _log.warning("sweep postponed", error=error.message)
        else:
            if removed or trimmed:
                _log.info("swept", memories=removed, records=trimmed)

    async def sweep(self) -> int:
        """Remove everything that is due; return how many points went. Raises Unavailable."""
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
        """Remove what is beyond the newest of each agent; return how many memories went. Raises Unavailable."""
        await self._tell()  # of those that went while the cache was away
        if not self._keep:
            return 0
        removed, now = 0, self._clock.now()
        for agent in await self._store.agents_above(keep=self._keep):
            self._untold.add(agent)  # before: a step that breaks off may have taken some
            gone = step = await self._store.trim(agent, keep=self._keep, limit=STEP, now=now)
            while step == STEP:
                await asyncio.sleep(0)
                step = await self._store.trim(agent, keep=self._keep, limit=STEP, now=now)
                gone += step
            if gone:
                await self._tell()
            else:
                self._untold.discard(agent)
            removed += gone
            await asyncio.sleep(0)
        return removed

    async def _tell(self) -> None:
        """Tell the cache whose memories have gone. What expires needs no word: no answer outlives what is in it."""
        if self._untold and self._cache is not None:
            try:
                await self._cache.invalidate(self._untold)
            except Unavailable as error:
                # An answer that holds one lives a minute at most.
                _log.warning("the cache cannot be told of what was trimmed", error=error.message)
                return
        self._untold.clear()
