"""Offsets, membership, publishing and committing of one member of a consumer group.

For each record, `track` notes that it was read, and `finish` that all work on it is done. The watermark of a
partition is the lowest offset that is not finished; everything below it is finished without a gap. Watermarks are
published at once (`wait=indexed` waits for them) and committed at intervals, after a flush of the store, so that a
power cut loses nothing that the log would not deliver again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from lorestream.errors import Unavailable
from lorestream.ports import Record, Subscription, WatermarkPublisher
from lorestream.telemetry import Metrics

_log = structlog.get_logger("lorestream.indexer")

COMMIT_INTERVAL_S = 5.0
"""A flush of Edge blocks every reader for about 0.1 s, so commits are rare. Qdrant flushes as often by default."""

BACKGROUND_COMMIT_EVERY = 6
"""In the background only every sixth commit interval ends with a commit, because each commit flushes the store."""

REVOKE_TIMEOUT_S = 7.5
"""Limit of a whole revocation: less than the 8 s that the Kafka adapter allows."""
COMMIT_RESERVE_S = 2.5
"""The part of `REVOKE_TIMEOUT_S` kept for the last commit. So the current batch may delay a rebalance by 5 s."""

DRAIN_POLL_INTERVAL_S = 0.01


@dataclass(slots=True, eq=False)
class _Span:
    """Records of one partition that were read together. `end` is the offset after the last of them."""

    end: int
    appended_at: float
    """When the log stored the first of them: Unix seconds."""
    finished: bool = False


@dataclass(slots=True, eq=False)
class _Partition:
    """An assigned partition: its watermark, and the spans read beyond it, in order."""

    watermark: int
    spans: deque[_Span] = field(default_factory=deque[_Span])

    def advance(self) -> None:
        """Raise the watermark past all spans that are finished without a gap."""
        while self.spans and self.spans[0].finished:
            self.watermark = max(self.watermark, self.spans.popleft().end)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Records that were read together and are being worked on, as `Offsets` keeps them."""

    spans: Sequence[tuple[_Partition, _Span]]


class Offsets:
    """The watermarks of the assigned partitions. In memory; no method blocks.

    Deliveries may be finished in any order. A delivery from before a revocation no longer counts, even when the same
    partition is assigned again: another member may have continued from the committed offset in the meantime.
    """

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}

    def assign(self, positions: Mapping[int, int]) -> None:
        """Add partitions, each with the offset below which everything is finished."""
        for partition, position in positions.items():
            self._partitions[partition] = _Partition(position)

    def revoke(self, partitions: Collection[int]) -> None:
        """Remove partitions."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    def track(self, records: Iterable[Record]) -> Delivery:
        """Note records that were read, in the order of each partition. Those of other partitions are ignored."""
        spans: dict[int, _Span] = {}
        for record in records:
            span = spans.setdefault(record.partition, _Span(record.offset, record.appended_at))
            span.end = record.offset + 1
        tracked: list[tuple[_Partition, _Span]] = []
        for number, span in spans.items():
            partition = self._partitions.get(number)
            if partition is not None:
                partition.spans.append(span)
                tracked.append((partition, span))
        return Delivery(tracked)

    def finish(self, delivery: Delivery) -> None:
        """Note that all work on these records is done."""
        for partition, span in delivery.spans:
            span.finished = True
            partition.advance()

    def counts(self, deliveries: Iterable[Delivery]) -> bool:
        """Whether the end of work on some of these records can still raise a watermark.

        False when all their partitions were revoked: whoever owns these now reads the records again.
        """
        assigned = self._partitions.values()
        return any(partition in assigned for delivery in deliveries for partition, _ in delivery.spans)

    def watermarks(self) -> dict[int, int]:
        """The lowest unfinished offset of each assigned partition: the highest that may be committed."""
        return {number: partition.watermark for number, partition in self._partitions.items()}

    def oldest_unfinished(self) -> float | None:
        """When the oldest record that was read and is not finished was appended, Unix seconds; None if there is none."""
        waiting = [
            partition.spans[0].appended_at for partition in self._partitions.values() if partition.spans
        ]
        return min(waiting, default=None)

    def in_progress(self, partitions: Collection[int]) -> bool:
        """Whether records of these partitions were read and are not finished."""
        return any(partition.spans for number in partitions if (partition := self._partitions.get(number)))


class Checkpoint:
    """The progress of one member of a consumer group in its partitions. Only this class commits it."""

    def __init__(
        self,
        *,
        flush: Callable[[], Awaitable[None]],
        publisher: WatermarkPublisher | None,
        metrics: Metrics,
        is_foreground: Callable[[], bool] = lambda: True,
        commit_interval_s: float = COMMIT_INTERVAL_S,
    ) -> None:
        """`flush` makes the store durable. `publisher` is None where the committed offsets are the watermarks.

        While `is_foreground` is false, only every `BACKGROUND_COMMIT_EVERY`-th interval ends with a commit.
        """
        self.offsets = Offsets()
        self.assigned = asyncio.Event()
        """Set once the first partitions were assigned."""
        self._flush = flush
        self._publisher = publisher
        self._metrics = metrics
        self._is_foreground = is_foreground
        self._commit_interval_s = commit_interval_s
        self._member: Subscription | None = None
        self._committed: dict[int, int] = {}
        self._skipped = 0

    # --- membership ------------------------------------------------------------------------------------------

    def join(self, member: Subscription) -> None:
        """Commit through this subscription from now on."""
        self._member = member

    async def leave(self) -> None:
        """Commit a last time, if the log and the store can be reached. Later revocations commit nothing."""
        member, self._member = self._member, None
        if member is not None:
            with contextlib.suppress(Unavailable):
                await self._commit(member)

    async def assign(self, positions: Mapping[int, int]) -> None:
        """Take over partitions, each with the offset to continue at."""
        self.offsets.assign(positions)
        self._committed |= positions
        self._metrics.rebalances.inc()
        _log.info("partitions assigned", partitions=sorted(positions))
        await self.publish()
        self.assigned.set()

    async def revoke(self, partitions: Collection[int]) -> None:
        """Wait until the records in progress are finished, commit, and give the partitions up.

        All of it within `REVOKE_TIMEOUT_S`; what is unfinished then is read again by the next owner. The partitions
        are given up even when this is cancelled.
        """
        deadline = asyncio.get_running_loop().time() + REVOKE_TIMEOUT_S
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline - COMMIT_RESERVE_S):
                    while self.offsets.in_progress(partitions):  # noqa: ASYNC110 (rare, and for a moment)
                        await asyncio.sleep(DRAIN_POLL_INTERVAL_S)
            if self._member is not None:
                with contextlib.suppress(Unavailable, TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await self._commit(self._member)
        finally:
            unfinished = self.offsets.in_progress(partitions)
            self.offsets.revoke(partitions)
            for partition in partitions:
                self._committed.pop(partition, None)
            _log.info("partitions revoked", partitions=sorted(partitions), unfinished=unfinished)

    # --- progress --------------------------------------------------------------------------------------------

    async def finish(self, deliveries: Sequence[Delivery]) -> None:
        """Note that all work on these records is done, and publish how far that raises the watermarks."""
        for delivery in deliveries:
            self.offsets.finish(delivery)
        await self.publish()

    async def publish(self) -> None:
        """Publish the watermarks. When that fails, waiting callers see them at the next commit."""
        if self._publisher is not None:
            with contextlib.suppress(Unavailable):
                await self._publisher.publish(self.offsets.watermarks())

    async def run(self) -> None:
        """Publish and commit at intervals until cancelled. An outage postpones the commit."""
        while True:
            await asyncio.sleep(self._commit_interval_s)
            try:
                await self.publish()
                if self.take_commit_turn() and self._member is not None:
                    await self._commit(self._member)
            except Unavailable as error:
                _log.warning("commit failed, it is tried again at the next interval", error=str(error))

    def take_commit_turn(self) -> bool:
        """Count an interval. Returns whether it ends with a commit: each in the foreground, every sixth one in the background."""
        self._skipped = 0 if self._is_foreground() else (self._skipped + 1) % BACKGROUND_COMMIT_EVERY
        return self._skipped == 0

    async def records_behind(self) -> int:
        """How many records of the assigned partitions are not finished. Raises Unavailable."""
        if self._member is None:
            return 0
        watermarks = self.offsets.watermarks()
        ends = await self._member.end()
        return sum(max(0, end - watermarks.get(partition, end)) for partition, end in ends.items())

    async def _commit(self, member: Subscription) -> None:
        """Commit the watermarks that have risen since the last commit. Raises Unavailable.

        1. Take the watermarks now: what is finished later waits for the next commit.
        2. Flush the store, so that everything below them survives a power cut.
        3. Commit them at the log.
        4. Remember them, but not for partitions that were revoked meanwhile.
        """
        risen = {
            partition: offset
            for partition, offset in self.offsets.watermarks().items()
            if offset > self._committed.get(partition, -1)
        }
        if not risen:
            return
        await self._flush()
        await member.commit(risen)
        self._committed |= {p: offset for p, offset in risen.items() if p in self._committed}
