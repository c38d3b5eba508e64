"""The gauges of the size of the active collection: its memories and documents, and the bytes of its files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from lorestream.errors import Unavailable
from lorestream.ports import Clock, StoreMaintenance
from lorestream.telemetry import Metrics

INTERVAL_S = 60.0

_log = structlog.get_logger("lorestream.store")


class StoreGauges:
    """Measures one collection at intervals while it is the active one."""

    def __init__(
        self, store: StoreMaintenance, clock: Clock, metrics: Metrics, is_active: Callable[[], bool]
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._is_active = is_active

    async def run(self) -> None:
        """Measure at once and then at intervals, until cancelled. After an outage the gauges keep their values."""
        while True:
            if self._is_active():
                try:
                    await self.measure()
                except Unavailable as error:
                    _log.debug("the size of the store could not be measured", error=error.message)
            await asyncio.sleep(INTERVAL_S)

    async def measure(self) -> None:
        """Set the gauges. Raises Unavailable."""
        self._metrics.store_memories.set(await self._store.size(now=self._clock.now()))
        self._metrics.store_documents.set(await self._store.documents())
        size = await self._store.disk_bytes()
        if size is not None:
            self._metrics.store_bytes.set(size)
