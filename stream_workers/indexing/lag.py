"""How far behind the log a worker is, and whether it gets on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from lorestream.errors import Unavailable
from lorestream.ports import Clock, Record, Subscription
from lorestream.telemetry import Metrics
from stream_workers.indexing.offsets import Offsets
from stream_workers.indexing.retry import Broken, Patience

WATCH_INTERVAL_S = 5.0


class Lag:
    """Measures a worker against the end of its partitions."""

    def __init__(
        self,
        offsets: Offsets,
        metrics: Metrics,
        clock: Clock,
        patience: Patience,
        *,
        counts: Callable[[], bool] = lambda: True,
    ) -> None:
        """`counts`: whether anybody waits for what this worker does."""
        self._offsets = offsets
        self._metrics = metrics
        self._clock = clock
        self._counts = counts
        self._patience = patience
        self.applied = 0
        """Batches that have changed the store so far."""

    async def behind(self, member: Subscription) -> int:
        """Records of its partitions that are not finished. Raises Unavailable."""
        positions = self._offsets.positions()
        ends = await member.end()
        return sum(max(0, end - positions.get(partition, end)) for partition, end in ends.items())

    async def report(self, member: Subscription, batch: Sequence[Record]) -> None:
        """Set the gauges, after this batch."""
        if not self._counts():
            return
        with contextlib.suppress(Unavailable):
            behind = await self.behind(member)
            self._metrics.consumer_lag_records.set(behind)
            now = self._clock.now()
            oldest = min(record.appended_at for record in batch) if batch and behind else now
            self._metrics.consumer_lag_seconds.set(max(0.0, now - oldest))

    async def watch(self, member: Subscription, stuck_s: float, excused: Callable[[], bool]) -> None:
        """End a worker that has work, knows of nothing that keeps it from it, and does not get on.

        Consumers have been seen to hang after a broker's restart without any error. Raises Broken.
        """
        still_s, applied = 0.0, self.applied
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            idle = self.applied == applied and self._patience.problem is None and not excused()
            applied = self.applied
            still_s = still_s + WATCH_INTERVAL_S if idle and await self._has_work(member) else 0.0
            if still_s >= stuck_s:
                raise Broken(f"there is work, and none was done for {still_s:.0f} s")

    async def _has_work(self, member: Subscription) -> bool:
        try:
            return await self.behind(member) > 0
        except Unavailable:
            return False
