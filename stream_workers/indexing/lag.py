"""The lag gauges of an indexer, set at intervals.

They are set beside the indexing, not by it: an indexer that waits for a store or a model must still show how its lag
grows, or no alert can fire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lorestream.errors import Unavailable
from lorestream.ports import Clock
from lorestream.telemetry import Metrics
from stream_workers.indexing.checkpoint import Checkpoint

UPDATE_INTERVAL_S = 5.0
"""A third of the interval at which Prometheus reads the gauges."""


class LagGauges:
    """`lorestream_consumer_lag_records` and `lorestream_consumer_lag_seconds`, over all assigned partitions."""

    def __init__(
        self, checkpoint: Checkpoint, metrics: Metrics, clock: Clock, *, must_finish: Callable[[], bool]
    ) -> None:
        """`must_finish`: whether clients wait for this collection; while it is false the gauges are not set."""
        self._checkpoint = checkpoint
        self._metrics = metrics
        self._clock = clock
        self._must_finish = must_finish
        self._up_to_date_at = clock.now()
        """When nothing was unfinished, or records were being read: what is unfinished and unread is younger."""

    async def run(self) -> None:
        """Set both gauges every `UPDATE_INTERVAL_S` seconds, until cancelled."""
        while True:
            if self._must_finish():
                await self._update()
            await asyncio.sleep(UPDATE_INTERVAL_S)

    async def _update(self) -> None:
        try:
            behind = await self._checkpoint.records_behind()
        except Unavailable:
            behind = None  # as many as before: a log that is away takes no records
        else:
            self._metrics.consumer_lag_records.set(behind)
        now = self._clock.now()
        oldest = self._checkpoint.offsets.oldest_unfinished()
        if oldest is not None or behind == 0:
            self._up_to_date_at = now
        if behind is None and oldest is None:
            return
        since = self._up_to_date_at if oldest is None else oldest
        self._metrics.consumer_lag_seconds.set(max(0.0, now - since))
