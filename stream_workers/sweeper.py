"""What time takes away: expired memories, overaged tombstones, records past the log's retention."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from engram.errors import Unavailable
from engram.ports import Clock, VectorStore

_log = structlog.get_logger("engram.sweeper")

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
        trim_log: Callable[[], Awaitable[int]] | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """`wanted`: whether it is this sweeper's turn, where there are several."""
        self._store = store
        self._clock = clock
        self._tombstone_life_s = tombstone_life_s
        self._interval_s = interval_s
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
            removed = await self.sweep()
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
