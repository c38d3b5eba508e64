"""Encoding and reading of the dead letter topic.

A dead letter is a record with the raw key and value of the failed record, its headers, and headers that describe the
failure: those of Kafka Connect (`__connect.errors.*`), which tools for dead letters understand, and Lorestream's own.
Kafka cannot delete single records. A dead letter is resolved by a marker: a record without a value, whose headers
name the same topic, partition and offset, and in `lorestream.settled` the resolution. Readers leave out what a marker
names.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from lorestream import retry_headers
from lorestream.adapters.kafka import topics
from lorestream.adapters.kafka.connection import close_within_timeout
from lorestream.adapters.kafka.offsets import KafkaOffsets
from lorestream.ports import DeadLetter, NewRecord, Record, StoredDeadLetter
from lorestream.retry_headers import first_failed_at

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from aiokafka import ConsumerRecord

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.ports import RecordId, Resolution

_CONNECT = "__connect.errors."
_OURS = "lorestream."
_RESOLVED = f"{_OURS}settled"
_MAX_ERROR_CHARS = 10_000
_MAX_VALUE_BYTES = topics.MAX_RECORD_BYTES
_MAX_KEY_BYTES = 64 * 1024
_MAX_HEADERS_BYTES = 256 * 1024
"""Larger keys, values and headers come only from compressed batches of other clients; they exceed the topic's limit."""
_READ_TIMEOUT_S = 10.0
"""How long the broker may take to deliver the next records."""
_POLL_TIMEOUT_MS = 50
_ACTION = "read dead letters"


def encode(topic: str, dead_letter: DeadLetter, failed_at: float) -> NewRecord:
    """The record of the dead letter topic for a failed record of `topic`. `failed_at`: Unix seconds.

    A key or value that is too large is cut to its beginning, headers that are too large are left out, and the header
    `lorestream.cut` gives the original sizes.
    """
    record = dead_letter.record
    key, value = record.key[:_MAX_KEY_BYTES], record.value[:_MAX_VALUE_BYTES]
    headers = record.headers
    if sum(len(name.encode()) + len(value) for name, value in headers.items()) > _MAX_HEADERS_BYTES:
        headers = {}
    fields = {
        f"{_CONNECT}topic": topic,
        f"{_CONNECT}partition": str(record.partition),
        f"{_CONNECT}offset": str(record.offset),
        f"{_CONNECT}connector.name": "lorestream",
        f"{_CONNECT}task.id": "0",
        f"{_CONNECT}stage": "TASK_PUT",
        f"{_CONNECT}class.name": "stream_workers.indexing.indexer.Indexer",
        f"{_CONNECT}exception.class.name": dead_letter.reason,
        f"{_CONNECT}exception.message": dead_letter.error[:_MAX_ERROR_CHARS],
        f"{_OURS}reason": dead_letter.reason,
        f"{_OURS}attempt": str(dead_letter.attempts),
        f"{_OURS}first_failure_at": repr(first_failed_at(record, failed_at)),
        f"{_OURS}appended_at": repr(record.appended_at),
    }
    if (key, value, headers) != (record.key, record.value, record.headers):
        sizes = f"key {len(record.key)}, value {len(record.value)} bytes, {len(record.headers)} headers"
        fields[f"{_OURS}cut"] = sizes
    headers = {**headers, **{name: text.encode(errors="replace") for name, text in fields.items()}}
    return NewRecord(key, value, headers)


def encode_resolution(
    topic: str, record_id: RecordId, resolution: Resolution, resolved_at: float
) -> NewRecord:
    """The marker that the dead letter of a record of `topic` was resolved at `resolved_at`, in Unix seconds."""
    partition, offset = record_id
    fields = {
        f"{_CONNECT}topic": topic,
        f"{_CONNECT}partition": str(partition),
        f"{_CONNECT}offset": str(offset),
        _RESOLVED: resolution.value,
        f"{_RESOLVED}_at": repr(resolved_at),
    }
    key = msgspec.json.encode([topic, partition, offset])
    return NewRecord(key, b"", {name: text.encode() for name, text in fields.items()})


async def read_unresolved(
    connection: KafkaConnection, dlq_topic: str, topic: str
) -> AsyncGenerator[StoredDeadLetter]:
    """The unresolved dead letters of `topic`, the oldest first, each once. Raises Unavailable.

    The topic is read twice: the first pass finds which dead letters are unresolved, since markers come later than the
    dead letters that they name, and keeps only their record ids in memory; the second pass yields them. A dead letter
    that was written twice (its acknowledgement was lost) is yielded as it was written first.
    """
    with connection.translate_errors_while_serving(_ACTION):
        async with KafkaOffsets.open(connection, dlq_topic) as offsets:
            begins, ends = await offsets.beginning(), await offsets.end()
    first_copy: dict[RecordId, RecordId] = {}
    resolved: set[RecordId] = set()
    async for record in _read_range(connection, dlq_topic, begins, ends):
        headers = dict(record.headers)
        record_id = _record_id_of(headers, topic)
        if record_id is not None and _RESOLVED in headers:
            resolved.add(record_id)
        elif record_id is not None and _decode(record) is not None:
            first_copy.setdefault(record_id, (record.partition, record.offset))
    wanted = {at: record_id for record_id, at in first_copy.items() if record_id not in resolved}
    if not wanted:
        return
    begins = {
        partition: min((offset for at, offset in wanted if at == partition), default=ends[partition])
        for partition in begins
    }
    async for record in _read_range(connection, dlq_topic, begins, ends):
        if (record.partition, record.offset) in wanted and (dead_letter := _decode(record)) is not None:
            yield dead_letter


async def _read_range(
    connection: KafkaConnection, topic: str, begins: Mapping[int, int], ends: Mapping[int, int]
) -> AsyncGenerator[ConsumerRecord[bytes | None, bytes | None]]:
    """The records of each partition from `begins` up to, not including, `ends`."""
    unread = {TopicPartition(topic, number) for number, end in ends.items() if begins[number] < end}
    if not unread:
        return
    with connection.translate_errors_while_serving(_ACTION):
        consumer = AIOKafkaConsumer(**connection.arguments(), fetch_max_wait_ms=_POLL_TIMEOUT_MS)
    consumer.assign(list(unread))
    try:
        with connection.translate_errors_while_serving(_ACTION):
            async with asyncio.timeout(_READ_TIMEOUT_S):
                await consumer.start()
        for each in unread:
            consumer.seek(each, begins[each.partition])
        arrived_at = time.monotonic()
        while unread:
            with connection.translate_errors_while_serving(_ACTION):
                async with asyncio.timeout(_READ_TIMEOUT_S):
                    arrived = await consumer.getmany(timeout_ms=_POLL_TIMEOUT_MS)
                    reached = {each: await consumer.position(each) for each in unread}
                if arrived:
                    arrived_at = time.monotonic()
                elif time.monotonic() - arrived_at > _READ_TIMEOUT_S:
                    raise TimeoutError("no records arrived")
            for records in arrived.values():
                for record in records:
                    if record.offset < ends[record.partition]:
                        yield record
            unread = {each for each in unread if reached[each] < ends[each.partition]}
    finally:
        await close_within_timeout(consumer.stop())


def _record_id_of(headers: Mapping[str, bytes | None], topic: str) -> RecordId | None:
    """Which record of `topic` a dead letter or marker is about; None when the headers are not Lorestream's."""
    try:
        if _text(headers, f"{_CONNECT}topic") != topic:
            return None
        return int(_text(headers, f"{_CONNECT}partition")), int(_text(headers, f"{_CONNECT}offset"))
    except (KeyError, ValueError):
        return None


def _decode(record: ConsumerRecord[bytes | None, bytes | None]) -> StoredDeadLetter | None:
    """The dead letter, or None for a record that Lorestream did not write."""
    headers = {name: value or b"" for name, value in record.headers}
    own = {name: value for name, value in headers.items() if not _is_own_header(name)}
    try:
        dead_letter = DeadLetter(
            Record(
                int(headers[f"{_CONNECT}partition"]),
                int(headers[f"{_CONNECT}offset"]),
                record.key or b"",
                record.value or b"",
                own,
                float(headers[f"{_OURS}appended_at"]),
            ),
            _text(headers, f"{_OURS}reason"),
            _text(headers, f"{_CONNECT}exception.message"),
            int(headers[f"{_OURS}attempt"]),
        )
        return StoredDeadLetter(dead_letter, float(headers[f"{_OURS}first_failure_at"]))
    except (KeyError, ValueError):
        return None


def _is_own_header(name: str) -> bool:
    """Whether Lorestream added the header to the dead letter. Retry headers belong to the failed record."""
    return name.startswith((_CONNECT, _OURS)) and not name.startswith(retry_headers.PREFIX)


def _text(headers: Mapping[str, bytes | None], name: str) -> str:
    return (headers[name] or b"").decode(errors="replace")
