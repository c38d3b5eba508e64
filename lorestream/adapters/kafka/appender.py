"""Durable appends to one topic: gathered per partition, one batch on its way at a time.

While a batch of a partition is on its way to the brokers, everything that is appended there gathers for the next
one, in the order of the calls: a round trip costs a millisecond, whether for one record or for hundreds. One
future per batch instead of one per record is what makes this three times as cheap as `AIOKafkaProducer.send`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Self

import structlog
from aiokafka import errors as kafka
from aiokafka.partitioner import murmur2

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
RENEW_AFTER_S = 15.0
"""A batch that is unacknowledged for so long gets its producer replaced: the brokers may have moved."""
RENEW_PAUSE_S = 0.5

_RECORD_OVERHEAD_BYTES = 128
"""Of the batch's header and the record's lengths and times, at most."""
_HEADER_OVERHEAD_BYTES = 10


class _Append:
    """One call: its records are acknowledged partition by partition."""

    def __init__(self, records: int, size: int) -> None:
        self.waiting = records
        self.size = size
        self.highest: dict[int, int] = {}
        self.given_up = False
        self.acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        if not self.acknowledged.done():
            self.acknowledged.set_exception(error)
            # Its caller may be gone; nobody is left to be told then.
            self.acknowledged.exception()


class _Lane:
    """The records for one partition that wait, and whether a batch of them is on its way."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.waiting: deque[tuple[_Append, NewRecord]] = deque()
        self.sent_at: float | None = None

    def forget(self) -> None:
        """Drop, from the oldest on, what nobody waits for any more."""
        while self.waiting and self.waiting[0][0].given_up:
            self.waiting.popleft()


class KafkaAppender:
    """Appends to one topic. Belongs to the event loop that opened it."""

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
        self._queue_bytes = queue_bytes
        self._max_record_bytes = max_record_bytes
        self._lanes = [_Lane(partition) for partition in range(producer.partitions)]
        # Murmur2 in Python takes 10 microseconds a key, and agents come again and again.
        self._lane = lru_cache(maxsize=65_536)(self._lane_of)
        self._waiting: set[_Append] = set()
        self._waiting_bytes = 0
        self._flush: asyncio.Handle | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._answered_at = time.monotonic()
        self._silent = False
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
        """Appends to the topic; on leaving, what was appended is still written if the brokers take it in time.

        `max_record_bytes` is the topic's own bound on a batch, `queue_bytes` the bound on what waits for the
        brokers. Raises Unavailable and Misconfigured.
        """
        self = cls(
            connection,
            topic,
            producer=await Producer.start(connection, topic),
            max_record_bytes=max_record_bytes,
            queue_bytes=queue_bytes,
        )
        watch = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            watch.cancel()
            await self._close()

    @property
    def partitions(self) -> int:
        """How many partitions the topic had when it was opened."""
        return len(self._lanes)

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Append in the order of the calls; once all are durable, the highest offset of every partition touched.

        Before its first suspension every record has its place. Raises Unavailable when the brokers do not
        acknowledge in time (a part may still be written), and, with nothing written, Overloaded when too much
        is waiting and EventTooLarge for a record that the topic cannot hold.
        """
        if not records:
            return {}
        append = self._enter(records)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await asyncio.shield(append.acknowledged)
        except TimeoutError:
            self._note_silence()
            raise Unavailable(f"Kafka acknowledged nothing for {CALL_TIMEOUT_S} s") from None
        finally:
            self._leave(append)
        return append.highest

    def _enter(self, records: Sequence[NewRecord]) -> _Append:
        sizes = [_size(record) for record in records]
        if (largest := max(sizes)) > self._max_record_bytes:
            raise EventTooLarge(f"a record of {largest} bytes: {self._topic} takes {self._max_record_bytes}")
        size = sum(sizes)
        self._admit(size)
        append = _Append(len(records), size)
        self._waiting.add(append)
        self._waiting_bytes += size
        for record in records:
            self._lane(record.key).waiting.append((append, record))
        self._flush_soon()
        return append

    def _admit(self, size: int) -> None:
        if self._closed:
            raise Unavailable("the log is closed")
        if not self._waiting_bytes or self._waiting_bytes + size <= self._queue_bytes:
            return
        if self._answers():
            raise Overloaded(f"{self._waiting_bytes} bytes are waiting for Kafka")
        raise Unavailable("Kafka does not answer, and the queue is full")

    def _leave(self, append: _Append) -> None:
        """What nobody waits for any more and is not on its way is not sent: it comes again under the same ids."""
        append.given_up = True
        self._waiting.discard(append)
        self._waiting_bytes -= append.size
        if append.waiting:
            # Those who wait give up in the order in which they came.
            for lane in self._lanes:
                lane.forget()

    def _answers(self) -> bool:
        return self._producer is not None and time.monotonic() - self._answered_at < CALL_TIMEOUT_S

    def _note_answer(self) -> None:
        self._answered_at = time.monotonic()
        if self._silent:
            self._silent = False
            _log.info("Kafka acknowledges again", topic=self._topic)

    def _note_silence(self) -> None:
        if not self._silent and not self._answers():
            self._silent = True
            _log.warning("Kafka acknowledges nothing", topic=self._topic)

    def _lane_of(self, key: bytes) -> _Lane:
        """As Kafka's own clients do it, so that all writers agree on a key's partition."""
        return self._lanes[(murmur2(key) & 0x7FFFFFFF) % len(self._lanes)]

    def _flush_soon(self) -> None:
        if self._flush is None:
            # Not at once: what else is ready in this turn of the loop comes along. Lingering longer has never
            # paid in tests/load/log.py; under load the round trips gather enough.
            self._flush = asyncio.get_running_loop().call_soon(self._send_waiting)

    def _send_waiting(self) -> None:
        self._flush = None
        if self._producer is None:
            return
        for lane in self._lanes:
            if lane.waiting and lane.sent_at is None:
                self._send(lane, self._producer)

    def _send(self, lane: _Lane, producer: Producer) -> None:
        batch = producer.new_batch()
        taken: list[_Append] = []
        while lane.waiting:
            append, record = lane.waiting[0]
            if not append.given_up:
                headers = list(record.headers.items())
                if batch.append(timestamp=None, key=record.key, value=record.value, headers=headers) is None:
                    break
                taken.append(append)
            lane.waiting.popleft()
        if taken:
            lane.sent_at = time.monotonic()
            producer.send(batch, lane.partition).add_done_callback(
                partial(self._after_send, lane, taken, producer)
            )

    def _after_send(
        self, lane: _Lane, taken: Sequence[_Append], producer: Producer, sent: asyncio.Future[RecordMetadata]
    ) -> None:
        lane.sent_at = None
        error = kafka.KafkaConnectionError("given up") if sent.cancelled() else sent.exception()
        # A repetition that the broker recognised too late to know its place has no offset.
        if error is not None or sent.result().offset < 0:
            self._fail(taken, error, producer)
            return
        self._note_answer()
        first = sent.result().offset
        for offset, append in enumerate(taken, first):
            append.highest[lane.partition] = offset
            append.waiting -= 1
            if not append.waiting and not append.acknowledged.done():
                append.acknowledged.set_result(None)
        if lane.waiting:
            self._flush_soon()

    def _fail(self, taken: Sequence[_Append], error: BaseException | None, producer: Producer) -> None:
        for append in set(taken):
            append.fail(Unavailable(f"Kafka did not take a write: {error!r}"))
        # After a batch that failed, the sequence numbers of an idempotent producer have a hole.
        self._renew(producer, repr(error))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            oldest = min((lane.sent_at for lane in self._lanes if lane.sent_at is not None), default=None)
            stuck = oldest is not None and time.monotonic() - oldest > RENEW_AFTER_S
            if stuck and self._producer is not None:
                self._renew(self._producer, f"no acknowledgement for {RENEW_AFTER_S} s")

    def _renew(self, producer: Producer, reason: str) -> None:
        if producer is self._producer and not self._closed:
            _log.warning("the producer is replaced", topic=self._topic, reason=reason)
            self._producer = None
            self._renewal = asyncio.create_task(self._replace(producer))

    async def _replace(self, producer: Producer) -> None:
        await producer.stop()
        while self._producer is None:
            try:
                self._producer = await Producer.start(self._connection, self._topic)
            except Exception as error:  # noqa: BLE001 (a gateway goes on trying, whatever is wrong)
                _log.warning("no new producer", topic=self._topic, error=str(error))
                await asyncio.sleep(RENEW_PAUSE_S)
        self._send_waiting()

    async def _close(self) -> None:
        self._closed = True
        if self._waiting:
            await asyncio.wait({append.acknowledged for append in self._waiting}, timeout=CALL_TIMEOUT_S)
        if self._flush is not None:
            self._flush.cancel()
        if self._renewal is not None:
            self._renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewal
        if self._producer is not None:
            await self._producer.stop()


def _size(record: NewRecord) -> int:
    """Bytes in a batch, at most."""
    headers = sum(len(key) * 4 + len(value) + _HEADER_OVERHEAD_BYTES for key, value in record.headers.items())
    return len(record.key) + len(record.value) + headers + _RECORD_OVERHEAD_BYTES
