"""How far an indexer is behind the log, as metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from lorestream.errors import Unavailable
from lorestream.ports import Clock, Record
from lorestream.telemetry import Metrics
from stream_workers.indexing.checkpoint import Checkpoint


class LagGauges:
    """`lorestream_consumer_lag_records` and `lorestream_consumer_lag_seconds`, over all assigned partitions."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        metrics: Metrics,
        clock: Clock,
        *,
        must_finish: Callable[[], bool] = lambda: True,
    ) -> None:
        """`must_finish`: whether clients wait for this collection; while it is false the gauges are not set."""
        self._checkpoint = checkpoint
        self._metrics = metrics
        self._clock = clock
        self._must_finish = must_finish

    async def update(self, batch: Sequence[Record]) -> None:
        """Set both gauges. `batch`: the records processed last, whose age is the lag while there are more."""
        if not self._must_finish():
            return
        with contextlib.suppress(Unavailable):
            behind = await self._checkpoint.records_behind()
            self._metrics.consumer_lag_records.set(behind)
            now = self._clock.now()
            oldest = min(record.appended_at for record in batch) if batch and behind else now
            self._metrics.consumer_lag_seconds.set(max(0.0, now - oldest))
