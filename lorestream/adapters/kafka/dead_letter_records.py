"""Dead letters as records of a topic: raw key and value, the record's own headers, and why it lies there.

The reasons stand in Kafka Connect's header names, which tools for dead letters know, and in some of our own. No
letter can be removed by itself; one that is done with is followed by a record without a value whose headers name
the same topic, partition and offset, and in `lorestream.settled` what became of it: readers leave such letters out.
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
"""What is larger was inflated from a compressed batch that no gateway wrote, and fits into no topic as it is."""
_SILENCE_S = 10.0
"""How long a broker may take for the next records."""
_POLL_MS = 50


def encode(topic: str, dead_letter: DeadLetter, failed_at: float) -> NewRecord:
    """What is written for a record of `topic` that was set aside at `failed_at`, Unix seconds.

    Of what is too large for any letter the beginning is kept, and the header `lorestream.cut` says how large it was.
    """
    record = dead_letter.record
    key, value = record.key[:_MAX_KEY_BYTES], record.value[:_MAX_VALUE_BYTES]
    headers = record.headers
    if sum(len(name.encode()) + len(held) for name, held in headers.items()) > _MAX_HEADERS_BYTES:
        headers = {}
    why = {
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
        why[f"{_OURS}cut"] = sizes
    headers = {**headers, **{name: text.encode(errors="replace") for name, text in why.items()}}
    return NewRecord(key, value, headers)


def encode_resolution(
    topic: str, record_id: RecordId, resolution: Resolution, resolved_at: float
) -> NewRecord:
    """What says that the letter of a record of `topic` is done with, since `resolved_at`, Unix seconds."""
    partition, offset = record_id
    why = {
        f"{_CONNECT}topic": topic,
        f"{_CONNECT}partition": str(partition),
        f"{_CONNECT}offset": str(offset),
        _RESOLVED: resolution.value,
        f"{_RESOLVED}_at": repr(resolved_at),
    }
    key = msgspec.json.encode([topic, partition, offset])
    return NewRecord(key, b"", {name: text.encode() for name, text in why.items()})


async def read_unresolved(
    connection: KafkaConnection, dlq_topic: str, topic: str
) -> AsyncGenerator[StoredDeadLetter]:
    """The letters of `topic` that are not done with, the earliest first, each once. Raises Unavailable.

    The topic is read twice, since only its end says which letters are done with: of all of them no more than
    the places are kept in memory. A letter that was confirmed too late has been written again; the first counts.
    """
    async with KafkaOffsets.open(connection, dlq_topic) as offsets:
        begins, ends = await offsets.beginning(), await offsets.end()
    first: dict[RecordId, RecordId] = {}
    done: set[RecordId] = set()
    async for record in _read_range(connection, dlq_topic, begins, ends):
        headers = dict(record.headers)
        record_id = _record_id_of(headers, topic)
        if record_id is not None and _RESOLVED in headers:
            done.add(record_id)
        elif record_id is not None and _decode(record) is not None:
            first.setdefault(record_id, (record.partition, record.offset))
    wanted = {at: record_id for record_id, at in first.items() if record_id not in done}
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
    """What stands between these offsets of each partition."""
    unread = {TopicPartition(topic, number) for number, end in ends.items() if begins[number] < end}
    if not unread:
        return
    consumer = AIOKafkaConsumer(**connection.arguments(), fetch_max_wait_ms=_POLL_MS)
    consumer.assign(list(unread))
    try:
        with connection.serving("read dead letters"):
            async with asyncio.timeout(_SILENCE_S):
                await consumer.start()
        for each in unread:
            consumer.seek(each, begins[each.partition])
        heard = time.monotonic()
        while unread:
            with connection.serving("read dead letters"):
                async with asyncio.timeout(_SILENCE_S):
                    arrived = await consumer.getmany(timeout_ms=_POLL_MS)
                    reached = {each: await consumer.position(each) for each in unread}
                if arrived:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _SILENCE_S:
                    raise TimeoutError("no records come")
            for records in arrived.values():
                for record in records:
                    if record.offset < ends[record.partition]:
                        yield record
            unread = {each for each in unread if reached[each] < ends[each.partition]}
    finally:
        await close_within_timeout(consumer.stop())


def _record_id_of(headers: Mapping[str, bytes | None], topic: str) -> RecordId | None:
    """The record of `topic` that a letter is about, None for what somebody else has put there."""
    try:
        if _text(headers, f"{_CONNECT}topic") != topic:
            return None
        return int(_text(headers, f"{_CONNECT}partition")), int(_text(headers, f"{_CONNECT}offset"))
    except (KeyError, ValueError):
        return None


def _decode(record: ConsumerRecord[bytes | None, bytes | None]) -> StoredDeadLetter | None:
    """The letter, or None for what somebody else has put there."""
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
    return name.startswith((_CONNECT, _OURS)) and not name.startswith(retry_headers.PREFIX)


def _text(headers: Mapping[str, bytes | None], name: str) -> str:
    return (headers[name] or b"").decode(errors="replace")
