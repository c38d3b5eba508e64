"""The loop that indexes a log: read, prepare, apply, invalidate caches, finish.

During an outage the indexer retries for as long as it lasts. A record that can never be processed becomes a dead
letter, and the indexer continues with the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lorestream import supervision
from lorestream.memories import Erasure
from lorestream.ports import Cache, DeadLetter, EventLog, Record, Subscription, WatermarkPublisher
from lorestream.tracing import TRACEPARENT, Indexed
from stream_workers.indexing.cache_invalidation import InvalidationQueue, union
from stream_workers.indexing.checkpoint import COMMIT_INTERVAL_S, Checkpoint, Delivery
from stream_workers.indexing.failures import DeadLetterPolicy, IndexingFailed, RetryUntilAvailable
from stream_workers.indexing.lag import LagGauges
from stream_workers.indexing.pipeline import Applied, Batch, Pipeline
from stream_workers.indexing.stall_detector import StallDetector

GROUP = "indexer"
POLL_INTERVAL_S = 0.5
PREPARED_AHEAD = 2
"""Batches that are read and embedded while the one before them is written."""

LATE_WRITE_S = 3600.0
"""An erasure is applied again for this long after its acceptance, against writes of a worker that was suspended."""

ERASURES_PER_TURN = 50
"""How many erasures are applied between two batches: after a rebalance all of the last hour are applied again, and
events do not wait for them. On a Qdrant server each takes at least one round trip; no read shows what it covers."""

STALL_TIMEOUT_S = 120.0
"""The indexer ends with an error after this time without progress, if there are records to index."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A batch is closed when it reaches the first of these."""

    records: int = 256
    bytes: int = 2**20
    """Total size of the values. The first record may be larger."""
    age_s: float = 0.01
    """How long a batch that is not full waits for more records after its first."""


@dataclass(frozen=True, slots=True)
class _PreparedBatch:
    """`read_at`, `prepared_at`: when its records had been read and prepared, in Unix seconds."""

    batch: Batch
    deliveries: Sequence[Delivery]
    read_at: float
    prepared_at: float


class Indexer:
    """One member of the consumer group that fills a store from the log, in the order of each partition.

    It is the group's RebalanceListener as well: partitions may be assigned and revoked while it runs.
    """

    def __init__(
        self,
        log: EventLog,
        pipeline: Pipeline,
        publisher: WatermarkPublisher | None,
        *,
        cache: Cache | None,
        group: str = GROUP,
        limits: BatchLimits | None = None,
        commit_interval_s: float = COMMIT_INTERVAL_S,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        """`publisher` is None where the committed offsets are the watermarks."""
        self._event_log = log
        self._pipeline = pipeline
        self._group = group
        self._limits = limits or BatchLimits()
        self._retry = RetryUntilAvailable()
        self._dead_letters = DeadLetterPolicy(log, pipeline.metrics, self._retry)
        self._invalidation = InvalidationQueue(cache)
        self.checkpoint = Checkpoint(
            flush=pipeline.store.flush,
            publisher=publisher,
            metrics=pipeline.metrics,
            is_foreground=pipeline.throttle.is_foreground,
            commit_interval_s=commit_interval_s,
        )
        self._lag = LagGauges(
            self.checkpoint, pipeline.metrics, pipeline.clock, must_finish=pipeline.must_finish
        )
        self._batches_applied = 0
        self._stall = StallDetector(
            records_behind=self.checkpoint.records_behind,
            progress=lambda: self._batches_applied + pipeline.examined.count + pipeline.embedder.ingested,
            is_waiting=lambda: (
                self._retry.problem is not None or self._invalidation.pending > 0 or pipeline.store.paused
            ),
            timeout_s=stall_timeout_s,
        )
        self._erasures_applied = self._rewinds_applied = 0
        self._stopping = asyncio.Event()
        self._reading = asyncio.Lock()

    @property
    def problem(self) -> str | None:
        """What the indexer is waiting for at present, None while it works."""
        return self._retry.problem

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are assigned to it at present."""
        return frozenset(self.checkpoint.offsets.watermarks())

    async def run(self, *, burst: bool = False) -> None:
        """Work until `stop`, or with `burst` until the log is drained; then flush and commit.

        Raises IndexingFailed.
        """
        async with contextlib.AsyncExitStack() as stack:
            member = await self._retry(
                "log",
                lambda: stack.enter_async_context(self._event_log.subscribe(self._group, self)),
            )
            self.checkpoint.join(member)
            self._retry.problem = None
            try:
                await supervision.run_together(
                    {
                        "indexer": self._index(member, burst=burst),
                        "cache invalidation": self._invalidation.run(),
                        "checkpoint": self.checkpoint.run(),
                        "lag": self._lag.run(),
                        "stall detector": self._stall.run(),
                    }
                )
            except IndexingFailed as error:
                self._retry.problem = str(error)
                raise
            finally:
                await self.checkpoint.leave()

    def stop(self) -> None:
        """Finish the current batch and end `run`."""
        self._stopping.set()

    # --- rebalances ------------------------------------------------------------------------------------------

    async def assigned(self, positions: Mapping[int, int]) -> None:
        """Continue with these partitions at these offsets."""
        # The previous owner may have died between a late write and the erasure that should follow it.
        self._erasures_applied = self._rewinds_applied = 0
        await self.checkpoint.assign(positions)

    async def revoked(self, partitions: Collection[int]) -> None:
        """Finish and commit what is in progress, within `checkpoint.REVOKE_TIMEOUT_S`."""
        # All members of the group wait for this one, and what it does not finish is done again by another.
        with self._pipeline.throttle.hurry():
            await self.checkpoint.revoke(partitions)

    # --- the steps of a batch --------------------------------------------------------------------------------

    async def _index(self, member: Subscription, *, burst: bool) -> None:
        """Prepare batches ahead and process them one by one, so that embedder and store work at the same time."""
        ahead = deque(self._prepare_next(member) for _ in range(PREPARED_AHEAD))
        more_erasures = False
        try:
            while not self._stopping.is_set():
                done, _ = await asyncio.wait({ahead[0]}, timeout=0 if more_erasures else POLL_INTERVAL_S)
                more_erasures = await self._apply_new_erasures()
                await self._apply_new_rewinds()
                if not done:
                    continue
                prepared = ahead.popleft().result()
                ahead.append(self._prepare_next(member))
                if prepared.batch.records:
                    # A batch from before a rebalance would only delay those of the new assignment.
                    if self.checkpoint.offsets.counts(prepared.deliveries):
                        await self._process(prepared)
                elif burst and not more_erasures and await self._is_drained():
                    return
        finally:
            # Their records are not committed and will be read again, so their errors do not matter.
            await supervision.stop_tasks(ahead)

    def _prepare_next(self, member: Subscription) -> asyncio.Task[_PreparedBatch]:
        return supervision.start_shared(self._next_batch(member), "next batch")

    async def _next_batch(self, member: Subscription) -> _PreparedBatch:
        """Steps 1 and 2: read a batch and prepare it."""
        # asyncio.Lock is fair: batches are read in the order in which these calls began.
        async with self._reading:
            records, deliveries = await self._read(member)
        read_at = self._pipeline.clock.now()
        try:
            batch = await self._retry("embedder", lambda: self._pipeline.prepare(records))
        except Exception as error:
            self._dead_letters.record_fault(error)
            batch = await self._prepare_one_by_one(records)
        return _PreparedBatch(batch, deliveries, read_at, self._pipeline.clock.now())

    async def _process(self, prepared: _PreparedBatch) -> None:
        """Steps 3 to 5: apply a batch, invalidate the answers that it changes, finish it."""
        self._pipeline.metrics.batch_size.observe(len(prepared.batch.records))
        applied = await self._apply(prepared.batch)
        self._batches_applied += 1
        changed = union(each.changed_agents for each in applied)
        applied_at = self._pipeline.clock.now()
        # While the cache is away, many batches wait for that: without records, memories and vectors.
        left = [replace(each, memories=(), dead_letters=()) for each in applied]
        traced = self._traced(prepared.batch.records)
        times = prepared.read_at, prepared.prepared_at, applied_at
        await self._invalidation.add(changed, partial(self._finish, left, prepared.deliveries, traced, times))

    async def _read(self, member: Subscription) -> tuple[list[Record], list[Delivery]]:
        """Step 1: read until the batch is full or old enough. Empty when nothing comes for `POLL_INTERVAL_S`."""
        records: list[Record] = []
        deliveries: list[Delivery] = []
        wait_s, left = POLL_INTERVAL_S, self._limits.bytes
        while True:
            limit = self._limits.records - len(records)
            more = await self._retry(
                "log",
                lambda limit=limit, left=left, wait_s=wait_s: member.read(
                    limit=limit, max_bytes=left, wait_s=wait_s
                ),
            )
            # Before anything else is awaited: a revocation has to know which records are in progress.
            deliveries.append(self.checkpoint.offsets.track(more))
            records += more
            left -= sum(len(record.value) for record in more)
            if not wait_s or not more or len(more) == limit or left <= 0 or not self._limits.age_s:
                return records, deliveries
            await asyncio.sleep(self._limits.age_s)
            wait_s = 0.0

    async def _apply(self, batch: Batch) -> list[Applied]:
        """Step 3: change the store. After an unexpected error record by record: what fails becomes a dead letter."""
        try:
            applied = await self._retry("store", lambda: self._pipeline.apply(batch))
        except Exception as error:
            self._dead_letters.record_fault(error)
            if len(batch.records) == 1:
                await self._dead_letters.append([DeadLetter(batch.records[0], "unprocessable", repr(error))])
                return []
            return [
                applied
                for record in batch.records
                for applied in await self._apply(await self._prepare_one_by_one([record]))
            ]
        self._dead_letters.record_success(len(applied.memories) + applied.folded)
        await self._dead_letters.append(applied.dead_letters)
        return [applied]

    def _traced(self, records: Sequence[Record]) -> Sequence[Indexed]:
        """What a tracer needs of the records; nothing without one."""
        if self._pipeline.metrics.tracer is None:
            return ()
        return [Indexed(one.headers.get(TRACEPARENT, b""), one.partition, one.offset) for one in records]

    async def _finish(
        self,
        applied: Sequence[Applied],
        deliveries: Sequence[Delivery],
        traced: Sequence[Indexed],
        times: tuple[float, float, float],
    ) -> None:
        """Step 5, called by the invalidation queue (step 4): the batch is findable, and no old answer is in use.

        `times`: when it had been read, prepared and applied, in Unix seconds.
        """
        for each in applied:
            await self._retry("ledger", lambda each=each: self._pipeline.finish(each))
        await self.checkpoint.finish(deliveries)
        tracer = self._pipeline.metrics.tracer
        if tracer is not None and self._pipeline.must_finish():
            read_at, prepared_at, applied_at = times
            ends = (
                ("embed", prepared_at),
                ("store", applied_at),
                ("finish", self._pipeline.clock.now()),
            )
            tracer.indexed(traced, ends, read_at)

    # --- errors, erasures, burst -----------------------------------------------------------------------------

    async def _prepare_one_by_one(self, records: Sequence[Record]) -> Batch:
        """A batch of the records that can be prepared; the others become dead letters."""
        dead_letters: list[DeadLetter] = []
        good: list[Record] = []
        for record in records:
            try:
                await self._retry("embedder", lambda record=record: self._pipeline.prepare([record]))
            except Exception as error:
                self._dead_letters.record_fault(error)
                dead_letters.append(DeadLetter(record, "unprocessable", repr(error)))
            else:
                good.append(record)
        await self._dead_letters.append(dead_letters)
        batch = await self._retry("embedder", lambda: self._pipeline.prepare(good))
        return replace(batch, records=records)

    async def _apply_new_erasures(self) -> bool:
        """Erase what this indexer stored before its ledger had the erasure. Returns whether more may be left.

        That happens when the ledger lags behind, or the process was suspended.
        Called between two batches, when none of its writes is in progress. The indexer that processes the erasure's
        own record erases everything that is stored at that time.
        """
        since, due = self._pipeline.clock.now() - LATE_WRITE_S, list[Erasure]()
        # Counted before anything is awaited: a rebalance meanwhile begins at 0 again.
        for erasure in self._pipeline.ledger.added_since(self._erasures_applied):
            if len(due) == ERASURES_PER_TURN:
                break
            self._erasures_applied += 1
            if erasure.accepted_at > since:
                due.append(erasure)
        for erasure in due:
            agents = await self._retry("store", lambda erasure=erasure: self._pipeline.store.erase(erasure))
            await self._invalidation.add(frozenset(agents), _do_nothing)
        return len(due) == ERASURES_PER_TURN

    async def _apply_new_rewinds(self) -> None:
        """Set aside, or show again, what this indexer stored before its ledger had a rewind or its undoing.

        For the reasons of `_apply_new_erasures`. Each takes a scan of what the server sent since.
        """
        since = self._pipeline.clock.now() - LATE_WRITE_S
        changed = self._pipeline.ledger.rewinds.changed_since(self._rewinds_applied)
        # Counted before anything is awaited: a rebalance meanwhile begins at 0 again.
        self._rewinds_applied += len(changed)
        for rewind in {one.id: one for one in changed if one.changed_at > since}.values():
            agents = await self._retry("store", lambda rewind=rewind: self._pipeline.rewind(rewind))
            await self._invalidation.add(frozenset(agents), _do_nothing)

    async def _is_drained(self) -> bool:
        """Whether the log has no record that is not finished, once partitions were assigned."""
        await self.checkpoint.assigned.wait()
        await self.checkpoint.publish()
        behind = await self._retry("log", self.checkpoint.records_behind)
        return behind == 0 and not self._invalidation.pending


async def _do_nothing() -> None:
    """An erasure applied between batches has no offsets to finish."""
