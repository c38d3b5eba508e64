"""The loop around the pipeline: poll, batch, retry, dead-letter, finish, drain.

An outage is waited out for as long as it lasts; a record that can never be processed is set aside, and the
rest goes on. How far that has come is told and committed by `share`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from lorestream.errors import Unavailable
from lorestream.memories import Memory
from lorestream.ports import Cache, DeadLetter, EventLog, Record, Subscription, WatermarkPublisher
from stream_workers.indexing.cache_invalidation import Finishing, together
from stream_workers.indexing.checkpoint import COMMIT_INTERVAL_S, Share
from stream_workers.indexing.lag import Lag
from stream_workers.indexing.offsets import Delivery
from stream_workers.indexing.pipeline import Applied, Batch, Pipeline
from stream_workers.indexing.retry import Broken, Patience, Rejects

_log = structlog.get_logger("lorestream.indexer")

GROUP = "indexer"
POLL_S = 0.5
PREPARED_AHEAD = 2

LATE_S = 3600.0
"""How late a write may come that an erasure should have taken: a worker may have slept, or died on its way."""

STUCK_S = 120.0
"""How long there may be work and none be done before the worker ends."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a micro-batch closes: whatever comes first."""

    records: int = 256
    bytes: int = 2**20
    """Of values, behind the first."""
    age_s: float = 0.01
    """How long a batch that is not full waits for more, counted from its first record."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    batch: Batch
    deliveries: Sequence[Delivery]


class Indexer:
    """One member of the group that feeds a store from the log, in the order of each partition.

    It is the group's RebalanceListener as well: partitions may come and go while it runs.
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
        stuck_s: float = STUCK_S,
        on_indexed: Callable[[Sequence[Memory]], None] | None = None,
    ) -> None:
        self._event_log = log
        self._pipeline = pipeline
        self._metrics = pipeline.metrics
        self._group = group
        self._limits = limits or BatchLimits()
        self._stuck_s = stuck_s
        self._on_indexed = on_indexed
        self._share = Share(pipeline, publisher, commit_interval_s)
        self._offsets = self._share.offsets
        self._finishing = Finishing(cache)
        self._patiently = Patience()
        self._rejects = Rejects(log, pipeline.metrics, self._patiently)
        self._lag = Lag(
            self._offsets, pipeline.metrics, pipeline.clock, self._patiently, counts=pipeline.searched
        )
        self._learned = 0
        self._stopping = asyncio.Event()
        self._reading = asyncio.Lock()

    @property
    def problem(self) -> str | None:
        """What keeps it from its work at present, None while it works."""
        return self._patiently.problem

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are its own at present."""
        return frozenset(self._offsets.positions())

    async def run(self, *, burst: bool = False) -> None:
        """Work until `stop` (or, with `burst`, until the log is drained), then flush and commit. Raises Broken."""
        async with contextlib.AsyncExitStack() as stack:
            member = await self._patiently(
                "log",
                lambda: stack.enter_async_context(self._event_log.subscribe(self._group, self)),
            )
            self._share.member = member
            self._patiently.problem = None
            duties = [
                asyncio.create_task(duty)
                for duty in (
                    self._work(member, burst=burst),
                    self._finishing.run(),
                    self._share.commit_regularly(member),
                    self._lag.watch(member, self._stuck_s, lambda: self._finishing.waiting > 0),
                )
            ]
            try:
                done, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
                for duty in done:
                    duty.result()
            except Broken as error:
                self._patiently.problem = str(error)
                raise
            finally:
                for duty in duties:
                    duty.cancel()
                await asyncio.gather(*duties, return_exceptions=True)
                self._share.member = None
                with contextlib.suppress(Unavailable):
                    await self._share.commit(member)

    def stop(self) -> None:
        """Finish the batch in hand and end `run`."""
        self._stopping.set()

    # --- the partitions --------------------------------------------------------------------------------------

    async def assigned(self, positions: Mapping[int, int]) -> None:
        """Go on with these partitions at these offsets."""
        self._learned = 0  # whoever had them before may have died between a late write and this
        await self._share.take(positions)

    async def revoked(self, partitions: Collection[int]) -> None:
        """Finish and commit what is in hand of them, within `share.DRAIN_S`."""
        await self._share.give_back(partitions)

    # --- the loop --------------------------------------------------------------------------------------------

    async def _work(self, member: Subscription, *, burst: bool) -> None:
        """Prepare the next batches while the present one is applied: the embedder must never wait for either."""
        ahead = deque(asyncio.create_task(self._next_batch(member)) for _ in range(PREPARED_AHEAD))
        try:
            while not self._stopping.is_set():
                done, _ = await asyncio.wait({ahead[0]}, timeout=POLL_S)
                await self._erase_what_was_learned()
                if not done:
                    continue
                prepared = ahead.popleft().result()
                ahead.append(asyncio.create_task(self._next_batch(member)))
                if prepared.batch.records:
                    self._metrics.batch_size.observe(len(prepared.batch.records))
                    await self._process(prepared)
                elif burst and await self._drained(member):
                    return
                await self._lag.report(member, prepared.batch.records)
        finally:
            for task in ahead:
                task.cancel()
            # Whatever becomes of them, their records are not committed and will be read again.
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _drained(self, member: Subscription) -> bool:
        await self._share.begun.wait()
        await self._share.publish()
        behind = await self._patiently("log", lambda: self._lag.behind(member))
        return behind == 0 and not self._finishing.waiting

    async def _next_batch(self, member: Subscription) -> _Prepared:
        """Read a micro-batch and prepare it, however long the log or the embedder are away."""
        # The lock's turns are fair: batches are read in the order in which they were begun.
        async with self._reading:
            records, deliveries = await self._read(member)
        try:
            batch = await self._patiently("embedder", lambda: self._pipeline.prepare(records))
        except Exception as error:
            self._rejects.count(error)
            batch = await self._one_by_one(records)
        return _Prepared(batch, deliveries)

    async def _read(self, member: Subscription) -> tuple[list[Record], list[Delivery]]:
        """A micro-batch. What is read is noted before anything is awaited: a rebalance has to know of it."""
        records: list[Record] = []
        deliveries: list[Delivery] = []
        wait_s, left = POLL_S, self._limits.bytes
        while True:
            limit = self._limits.records - len(records)
            more = await self._patiently(
                "log",
                lambda limit=limit, left=left, wait_s=wait_s: member.read(
                    limit=limit, max_bytes=left, wait_s=wait_s
                ),
            )
            deliveries.append(self._offsets.deliver(more))
            records += more
            left -= sum(len(record.value) for record in more)
            if not wait_s or not more or len(more) == limit or left <= 0 or not self._limits.age_s:
                return records, deliveries
            await asyncio.sleep(self._limits.age_s)
            wait_s = 0.0

    async def _one_by_one(self, records: Sequence[Record]) -> Batch:
        """Find the records that no batch can be made of, and set them aside."""
        dead_letters: list[DeadLetter] = []
        good: list[Record] = []
        for record in records:
            try:
                await self._patiently("embedder", lambda record=record: self._pipeline.prepare([record]))
            except Exception as error:
                self._rejects.count(error)
                dead_letters.append(DeadLetter(record, "unprocessable", repr(error)))
            else:
                good.append(record)
        await self._rejects.set_aside(dead_letters)
        batch = await self._patiently("embedder", lambda: self._pipeline.prepare(good))
        return replace(batch, records=records)

    async def _process(self, prepared: _Prepared) -> None:
        """Apply a batch until it is applied, and set aside what cannot be; it finishes when caches are told."""
        applied = await self._apply(prepared.batch)
        self._lag.applied += 1

        async def finish() -> None:
            for each in applied:
                await self._patiently("ledger", lambda each=each: self._pipeline.conclude(each))
            for delivery in prepared.deliveries:
                self._offsets.finish(delivery)
            await self._share.publish()

        await self._finishing.add(together(each.touched for each in applied), finish)

    async def _erase_what_was_learned(self) -> None:
        """Take what this worker has stored before it heard of an erasure: its ledger lagged, or it slept.

        Between two batches, so that none of its writes is on the way. Whoever processes the erasure's own record
        has taken all that was there by then.
        """
        news = self._pipeline.ledger.added_since(self._learned)
        self._learned += len(news)
        for erasure in news:
            if erasure.accepted_at > self._pipeline.clock.now() - LATE_S:
                lost = await self._patiently(
                    "store", lambda erasure=erasure: self._pipeline.store.erase(erasure)
                )
                await self._finishing.add(frozenset(lost), _nothing)

    async def _apply(self, batch: Batch) -> list[Applied]:
        try:
            applied = await self._patiently("store", lambda: self._pipeline.apply(batch))
        except Exception as error:
            self._rejects.count(error)
            if len(batch.records) == 1:
                await self._rejects.set_aside([DeadLetter(batch.records[0], "unprocessable", repr(error))])
                return []
            return [
                applied
                for record in batch.records
                for applied in await self._apply(await self._one_by_one([record]))
            ]
        self._rejects.progress(len(applied.memories))
        await self._rejects.set_aside(applied.dead_letters)
        if self._on_indexed is not None:
            self._on_indexed(applied.memories)
        return [applied]


async def _nothing() -> None:
    """What is finished when nothing waits for it."""
