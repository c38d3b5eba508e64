"""The loop around the pipeline: poll, batch, retry, dead-letter, commit, drain.

An outage is waited out for as long as it lasts; a record that can never be processed is set aside, and the
rest goes on. What is finished is published at once (`wait=indexed` looks at it), and committed behind the
store's next flush, so that no power cut can lose what the log would not read again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import stamina
import structlog

from engram.errors import InvalidRequest, Unavailable
from engram.memories import Memory
from engram.ports import DeadLetter, EventLog, Record, Watermarks
from stream_workers.pipeline import Batch, Pipeline, last_offsets

_log = structlog.get_logger("engram.indexer")

GROUP = "indexer"
POLL_S = 0.5
MAX_PAUSE_S = 5.0
PREPARED_AHEAD = 2
COMMIT_INTERVAL_S = 5.0
"""A flush of Edge stops everything for a tenth of a second, so it is rare; Qdrant's own default is the same."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a micro-batch closes."""

    records: int = 256
    age_s: float = 0.01
    """How long a batch that is not full waits for more, counted from its first record."""


class Broken(Exception):
    """Nearly every record fails for no reason that is in the records: going on would dead-letter the log."""


class Indexer:
    """Feeds one store from the log, in the order of its partitions."""

    MAX_CONSECUTIVE_FAULTS = 20

    def __init__(
        self,
        log: EventLog,
        pipeline: Pipeline,
        watermarks: Watermarks,
        *,
        group: str = GROUP,
        limits: BatchLimits | None = None,
        commit_interval_s: float = COMMIT_INTERVAL_S,
        on_indexed: Callable[[Sequence[Memory]], None] | None = None,
    ) -> None:
        self._event_log = log
        self._pipeline = pipeline
        self._watermarks = watermarks
        self._metrics = pipeline.metrics
        self._clock = pipeline.clock
        self._group = group
        self._limits = limits or BatchLimits()
        self._commit_interval_s = commit_interval_s
        self._on_indexed = on_indexed
        self._finished: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._faults = 0
        self._stopping = asyncio.Event()
        self._reading = asyncio.Lock()
        self.problem: str | None = "not started"
        """What keeps it from its work at present, None while it works."""

    async def run(self, *, burst: bool = False) -> None:
        """Work until `stop` (or, with `burst`, until the log is drained), then flush and commit."""
        committed = await self._patiently("log", lambda: self._event_log.committed(self._group))
        self._committed = dict(committed)
        self._finished = dict(committed)
        await self._watermarks.publish(self._finished)
        self.problem = None
        committer = asyncio.create_task(self._commit_regularly())
        try:
            await self._work(burst=burst)
        except Broken as error:
            self.problem = str(error)
            raise
        finally:
            committer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await committer
            with contextlib.suppress(Unavailable):
                await self._commit()

    def stop(self) -> None:
        """Finish the batch in hand and end `run`."""
        self._stopping.set()

    async def _work(self, *, burst: bool) -> None:
        """Prepare the next batches while the present one is applied: the embedder must never wait for either."""
        ahead = deque(asyncio.create_task(self._next_batch()) for _ in range(PREPARED_AHEAD))
        try:
            while not self._stopping.is_set():
                done, _ = await asyncio.wait({ahead[0]}, timeout=POLL_S)
                if not done:
                    continue
                batch = ahead.popleft().result()
                ahead.append(asyncio.create_task(self._next_batch()))
                if batch.records:
                    self._metrics.batch_size.observe(len(batch.records))
                    await self._finish(batch)
                elif burst:
                    return
                await self._report_lag(batch)
        finally:
            for task in ahead:
                task.cancel()
            # Whatever becomes of them, their records are not committed and will be read again.
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _next_batch(self) -> Batch:
        """Read a micro-batch and prepare it, however long the log or the embedder are away."""
        # The lock's turns are fair: batches are read in the order in which they were begun.
        async with self._reading:
            records = await self._patiently("log", self._read)
        try:
            return await self._patiently("embedder", lambda: self._pipeline.prepare(records))
        except Exception as error:
            self._count_fault(error)
            return await self._one_by_one(records)

    async def _read(self) -> list[Record]:
        limit = self._limits.records
        records = list(await self._event_log.read(self._group, limit=limit, wait_s=POLL_S))
        if records and len(records) < limit and self._limits.age_s:
            await asyncio.sleep(self._limits.age_s)
            records += await self._event_log.read(self._group, limit=limit - len(records), wait_s=0)
        return records

    async def _one_by_one(self, records: Sequence[Record]) -> Batch:
        """Find the records that no batch can be made of, and set them aside."""
        letters: list[DeadLetter] = []
        good: list[Record] = []
        for record in records:
            try:
                await self._patiently("embedder", lambda record=record: self._pipeline.prepare([record]))
            except Exception as error:
                self._count_fault(error)
                letters.append(DeadLetter(record, "unprocessable", repr(error)))
            else:
                good.append(record)
        await self._set_aside(letters)
        batch = await self._patiently("embedder", lambda: self._pipeline.prepare(good))
        return replace(batch, records=records)

    async def _finish(self, batch: Batch) -> None:
        """Apply a batch until it is applied; set aside what cannot be; publish how far the work has come."""
        try:
            applied = await self._patiently("store", lambda: self._pipeline.apply(batch))
        except Exception as error:
            self._count_fault(error)
            if len(batch.records) > 1:
                for record in batch.records:
                    await self._finish(await self._one_by_one([record]))
                return
            await self._set_aside([DeadLetter(batch.records[0], "unprocessable", repr(error))])
        else:
            self._faults = 0
            await self._set_aside(applied.letters)
            if self._on_indexed is not None:
                self._on_indexed(applied.memories)
        self._finished |= last_offsets(batch.records)
        await self._patiently("watermarks", lambda: self._watermarks.publish(self._finished))

    async def _set_aside(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            return
        await self._patiently("log", lambda: self._event_log.dead_letter(letters))
        for letter in letters:
            self._metrics.dlq_records.labels(letter.reason).inc()
            place = {"partition": letter.record.partition, "offset": letter.record.offset}
            _log.warning("dead letter", reason=letter.reason, error=letter.error, **place)

    def _count_fault(self, error: Exception) -> None:
        """Errors that are nobody's word about a record: a few are bad records, a row of them is a bad worker."""
        if isinstance(error, Broken):
            raise error
        _log.error("unexpected error", exc_info=error)
        self._faults += not isinstance(error, InvalidRequest)
        if self._faults >= self.MAX_CONSECUTIVE_FAULTS:
            raise Broken(f"{self._faults} records in a row failed, the last with {error!r}") from error

    async def _patiently(self, part: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it is no longer an outage that stops it, with growing pauses up to `MAX_PAUSE_S`."""
        retries = stamina.retry_context(
            on=Unavailable, attempts=None, timeout=None, wait_initial=0.1, wait_max=MAX_PAUSE_S
        )
        async for attempt in retries:
            with attempt:
                try:
                    result = await call()
                except Unavailable as error:
                    self.problem = f"{part}: {error.message}"
                    raise
                if attempt.num > 1:
                    self.problem = None
                return result
        raise AssertionError("unlimited attempts came to an end")

    async def _report_lag(self, batch: Batch) -> None:
        with contextlib.suppress(Unavailable):
            ends = await self._event_log.end()
            behind = sum(max(0, end - self._finished.get(partition, 0)) for partition, end in ends.items())
            self._metrics.consumer_lag_records.set(behind)
            oldest = batch.records[-1].appended_at if batch.records and behind else self._clock.now()
            self._metrics.consumer_lag_seconds.set(max(0.0, self._clock.now() - oldest))

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._commit_interval_s)
            try:
                await self._commit()
            except Unavailable as error:
                _log.warning("commit postponed", error=str(error))

    async def _commit(self) -> None:
        """Make the store durable, then the offsets that stand for it."""
        finished = dict(self._finished)
        if finished != self._committed:
            await self._pipeline.store.flush()
            await self._event_log.commit(self._group, finished)
            self._committed = finished
