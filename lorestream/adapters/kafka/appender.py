"""Durable appends to one topic, batched per partition, with one batch per partition in flight.

While a batch of a partition is in flight, records appended to that partition queue up for the next batch, in the
order of the calls. A round trip takes a millisecond, whether for one record or for hundreds, so batches grow with the
load. One future per batch instead of one per record makes this three times as cheap as `AIOKafkaProducer.send`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Self

import structlog
from aiokafka import errors as kafka
from aiokafka.partitioner import murmur2

from lorestream import supervision
from lorestream.adapters.kafka.connection import CALL_TIMEOUT_S
from lorestream.adapters.kafka.producer import Producer
from lorestream.errors import EventTooLarge, Overloaded, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.structs import RecordMetadata

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.ports import NewRecord

_log = structlog.get_logger("lorestream.kafka")

QUEUE_BYTES = 32 * 1024 * 1024
ACK_TIMEOUT_S = 15.0
"""When a batch stays unacknowledged for this long, the producer is replaced: the brokers may have moved."""
RETRY_DELAY_S = 0.5
"""Pause between attempts to start a new producer."""

_WATCH_INTERVAL_S = 1.0
_RECORD_OVERHEAD_BYTES = 128
"""Upper bound for the batch header and a record's lengths and timestamps."""
_HEADER_OVERHEAD_BYTES = 10
"""Upper bound for the lengths of a record header."""


class _PendingAppend:
    """One call of `append`. Its records are acknowledged partition by partition."""

    def __init__(self, records: int, size: int) -> None:
        self.unacknowledged = records
        self.size = size
        self.highest: dict[int, int] = {}
        """Partition -> highest offset written."""
        self.abandoned = False
        """The call has ended; records that are still queued must not be sent."""
        self.acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        if not self.acknowledged.done():
            self.acknowledged.set_exception(error)
            # Mark the exception as retrieved: the caller may have been cancelled.
            self.acknowledged.exception()


class _PartitionQueue:
    """The records of one partition that wait to be sent."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.records: deque[tuple[_PendingAppend, NewRecord]] = deque()
        self.sent_at: float | None = None
        """When the batch in flight was sent (monotonic seconds); None while no batch is in flight."""

    def drop_abandoned(self) -> None:
        """Remove records of abandoned calls from the head of the queue."""
        while self.records and self.records[0][0].abandoned:
            self.records.popleft()


class KafkaAppender:
    """Appends records to one topic. Belongs to the event loop that opened it."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        *,
        producer: Producer,
        max_record_bytes: int,
        queue_bytes: int,
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._producer: Producer | None = producer
        """None while a failed producer is being replaced."""
        self._queue_bytes = queue_bytes
        self._max_record_bytes = max_record_bytes
        self._queues = [_PartitionQueue(partition) for partition in range(producer.partitions)]
        # Murmur2 in Python takes 10 microseconds per key, and the same agents write again and again.
        self._queue_of = lru_cache(maxsize=65_536)(self._find_queue)
        self._pending: set[_PendingAppend] = set()
        self._pending_bytes = 0
        self._flush: asyncio.Handle | None = None
        self._replacement: asyncio.Task[object] | None = None
        self._acknowledged_at = time.monotonic()
        self._outage_logged = False
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        connection: KafkaConnection,
        topic: str,
        *,
        max_record_bytes: int,
        queue_bytes: int = QUEUE_BYTES,
    ) -> AsyncGenerator[Self]:
        """Open an appender for an existing topic.

        `max_record_bytes` is the topic's `max.message.bytes`; `queue_bytes` limits the bytes of all calls that wait
        for an acknowledgement. On exit, calls that still wait get up to `CALL_TIMEOUT_S` to be acknowledged.
        Raises Unavailable and Misconfigured.
        """
        self = cls(
            connection,
            topic,
            producer=await Producer.start(connection, topic),
            max_record_bytes=max_record_bytes,
            queue_bytes=queue_bytes,
        )
        try:
            async with supervision.restarting(self._watch_acknowledgements, "Kafka acknowledgements"):
                yield self
        finally:
            await self._close()

    @property
    def partitions(self) -> int:
        """Number of partitions of the topic when the appender was opened."""
        return len(self._queues)

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Append in order. Returns, once all records are durable, the highest offset per partition written to.

        All records are queued before this suspends for the first time, so the order of concurrent calls is the
        order in the log. Raises Unavailable when the brokers do not acknowledge within `CALL_TIMEOUT_S` (some
        records may still be written); Overloaded when too many bytes are waiting, and EventTooLarge for a record
        that exceeds `max_record_bytes` (in both cases nothing was written).
        """
        if not records:
            return {}
        append = self._enqueue(records)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await asyncio.shield(append.acknowledged)
        except TimeoutError:
            self._note_timeout()
            raise Unavailable(f"Kafka did not acknowledge the records within {CALL_TIMEOUT_S} s") from None
        finally:
            self._abandon(append)
        return append.highest

    def _enqueue(self, records: Sequence[NewRecord]) -> _PendingAppend:
        sizes = [_size(record) for record in records]
        if (largest := max(sizes)) > self._max_record_bytes:
            raise EventTooLarge(
                f"a record of {largest} bytes: the topic {self._topic} accepts {self._max_record_bytes}"
            )
        size = sum(sizes)
        self._check_capacity(size)
        append = _PendingAppend(len(records), size)
        self._pending.add(append)
        self._pending_bytes += size
        for record in records:
            self._queue_of(record.key).records.append((append, record))
        self._schedule_flush()
        return append

    def _check_capacity(self, size: int) -> None:
        if self._closed:
            raise Unavailable("the log is closed")
        if not self._pending_bytes or self._pending_bytes + size <= self._queue_bytes:
            return
        if self._is_acknowledging():
            raise Overloaded(f"{self._pending_bytes} bytes are waiting for Kafka")
        raise Unavailable("Kafka does not acknowledge records, and the queue is full")

    def _abandon(self, append: _PendingAppend) -> None:
        """Drop a call that has ended. Its queued records are not sent: the client repeats them with the same ids."""
        append.abandoned = True
        self._pending.discard(append)
        self._pending_bytes -= append.size
        if append.unacknowledged:
            # Calls time out in the order in which they came, so abandoned records are at the heads of the queues.
            for queue in self._queues:
                queue.drop_abandoned()

    def _is_acknowledging(self) -> bool:
        return self._producer is not None and time.monotonic() - self._acknowledged_at < CALL_TIMEOUT_S

    def _note_acknowledgement(self) -> None:
        self._acknowledged_at = time.monotonic()
        if self._outage_logged:
            self._outage_logged = False
            _log.info("Kafka acknowledges records again", topic=self._topic)

    def _note_timeout(self) -> None:
        if not self._outage_logged and not self._is_acknowledging():
            self._outage_logged = True
            _log.warning(
                "Kafka acknowledges no records, writes are refused until it does: check the brokers",
                topic=self._topic,
            )

    def _find_queue(self, key: bytes) -> _PartitionQueue:
        """The partition that Kafka's own clients choose, so that all writers agree on the partition of a key."""
        return self._queues[(murmur2(key) & 0x7FFFFFFF) % len(self._queues)]

    def _schedule_flush(self) -> None:
        if self._flush is None:
            # In the next loop iteration, so that all calls of this one share a batch. Waiting longer (lingering)
            # was never faster in tests/load/log.py: under load, round trips collect enough records.
            self._flush = asyncio.get_running_loop().call_soon(self._send_queued)

    def _send_queued(self) -> None:
        self._flush = None
        if self._producer is None:
            return
        for queue in self._queues:
            if queue.records and queue.sent_at is None:
                self._send_batch(queue, self._producer)

    def _send_batch(self, queue: _PartitionQueue, producer: Producer) -> None:
        batch = producer.new_batch()
        sent: list[_PendingAppend] = []  # of each record of the batch, the call that appended it
        while queue.records:
            append, record = queue.records[0]
            if not append.abandoned:
                headers = list(record.headers.items())
                if batch.append(timestamp=None, key=record.key, value=record.value, headers=headers) is None:
                    break
                sent.append(append)
            queue.records.popleft()
        if sent:
            queue.sent_at = time.monotonic()
            producer.send(batch, queue.partition).add_done_callback(
                partial(self._on_batch_done, queue, sent, producer)
            )

    def _on_batch_done(
        self,
        queue: _PartitionQueue,
        sent: Sequence[_PendingAppend],
        producer: Producer,
        result: asyncio.Future[RecordMetadata],
    ) -> None:
        queue.sent_at = None
        error = kafka.KafkaConnectionError("cancelled") if result.cancelled() else result.exception()
        # A duplicate that the broker recognised too late to know its position has the offset -1.
        if error is not None or result.result().offset < 0:
            self._fail(sent, error, producer)
            return
        self._note_acknowledgement()
        first = result.result().offset
        for offset, append in enumerate(sent, first):
            append.highest[queue.partition] = offset
            append.unacknowledged -= 1
            if not append.unacknowledged and not append.acknowledged.done():
                append.acknowledged.set_result(None)
        if queue.records:
            self._schedule_flush()

    def _fail(self, sent: Sequence[_PendingAppend], error: BaseException | None, producer: Producer) -> None:
        for append in set(sent):
            append.fail(Unavailable(f"Kafka did not accept a batch of records: {error!r}"))
        # After a failed batch, the sequence numbers of an idempotent producer have a gap: it cannot be used any more.
        self._replace_producer(producer, repr(error))

    async def _watch_acknowledgements(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            oldest = min((queue.sent_at for queue in self._queues if queue.sent_at is not None), default=None)
            stuck = oldest is not None and time.monotonic() - oldest > ACK_TIMEOUT_S
            if stuck and self._producer is not None:
                self._replace_producer(self._producer, f"no acknowledgement for {ACK_TIMEOUT_S} s")

    def _replace_producer(self, producer: Producer, reason: str) -> None:
        if producer is self._producer and not self._closed:
            _log.warning("Kafka producer failed, replacing it", topic=self._topic, reason=reason)
            self._producer = None
            work = self._start_new_producer(producer)
            self._replacement = supervision.start_detached(work, "new Kafka producer")

    async def _start_new_producer(self, old: Producer) -> None:
        await old.stop()
        while self._producer is None:
            try:
                self._producer = await Producer.start(self._connection, self._topic)
            except Exception as error:  # noqa: BLE001 (a gateway keeps trying, whatever the error is)
                _log.warning(
                    "cannot start a new Kafka producer, trying again", topic=self._topic, error=str(error)
                )
                await asyncio.sleep(RETRY_DELAY_S)
        self._send_queued()

    async def _close(self) -> None:
        self._closed = True
        if self._pending:
            await asyncio.wait({append.acknowledged for append in self._pending}, timeout=CALL_TIMEOUT_S)
        if self._flush is not None:
            self._flush.cancel()
        if self._replacement is not None:
            await supervision.stop_tasks([self._replacement])
        if self._producer is not None:
            await self._producer.stop()


def _size(record: NewRecord) -> int:
    """An upper bound for the bytes of a record in a batch, before compression."""
    headers = sum(len(key) * 4 + len(value) + _HEADER_OVERHEAD_BYTES for key, value in record.headers.items())
    return len(record.key) + len(record.value) + headers + _RECORD_OVERHEAD_BYTES
