"""Dead letters as records of a topic: raw key and value, the record's own headers, and why it lies there.

The reasons stand in Kafka Connect's header names, which tools for dead letters know, and in three of our own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition

from engram.adapters import kafka_topics
from engram.adapters.kafka_connection import let_end
from engram.adapters.kafka_offsets import KafkaOffsets
from engram.ports import DeadLetter, NewRecord, Record, StoredLetter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import ConsumerRecord

    from engram.adapters.kafka_connection import KafkaConnection

_CONNECT = "__connect.errors."
_OURS = "engram."
_MAX_ERROR_CHARS = 10_000
_MAX_VALUE_BYTES = kafka_topics.MAX_RECORD_BYTES
_MAX_KEY_BYTES = 64 * 1024
_MAX_HEADERS_BYTES = 256 * 1024
"""What is larger was inflated from a compressed batch that no gateway wrote, and fits into no topic as it is."""
_READ_TIMEOUT_S = 10.0
_POLL_MS = 50


def to_record(topic: str, letter: DeadLetter, failed_at: float) -> NewRecord:
    """What is written for a record of `topic` that was set aside at `failed_at`, Unix seconds.

    Of what is too large for any letter the beginning is kept, and the header `engram.cut` says how large it was.
    """
    record = letter.record
    key, value = record.key[:_MAX_KEY_BYTES], record.value[:_MAX_VALUE_BYTES]
    headers = record.headers
    if sum(len(name.encode()) + len(held) for name, held in headers.items()) > _MAX_HEADERS_BYTES:
        headers = {}
    why = {
        f"{_CONNECT}topic": topic,
        f"{_CONNECT}partition": str(record.partition),
        f"{_CONNECT}offset": str(record.offset),
        f"{_CONNECT}connector.name": "engram",
        f"{_CONNECT}task.id": "0",
        f"{_CONNECT}stage": "TASK_PUT",
        f"{_CONNECT}class.name": "stream_workers.runner.Indexer",
        f"{_CONNECT}exception.class.name": letter.reason,
        f"{_CONNECT}exception.message": letter.error[:_MAX_ERROR_CHARS],
        f"{_OURS}reason": letter.reason,
        f"{_OURS}attempt": str(letter.attempts),
        f"{_OURS}first_failure_at": repr(failed_at),
        f"{_OURS}appended_at": repr(record.appended_at),
    }
    if (key, value, headers) != (record.key, record.value, record.headers):
        sizes = f"key {len(record.key)}, value {len(record.value)} bytes, {len(record.headers)} headers"
        why[f"{_OURS}cut"] = sizes
    headers = {**headers, **{name: text.encode(errors="replace") for name, text in why.items()}}
    return NewRecord(key, value, headers)


async def newest(connection: KafkaConnection, topic: str, limit: int) -> Sequence[StoredLetter]:
    """At most `limit` dead letters, the latest first, each record once. Raises Unavailable and Misconfigured."""
    # Twice as many: a letter that was confirmed too late has been written again.
    records = await _tail(connection, topic, 2 * limit)
    letters: dict[tuple[str, int, int], StoredLetter] = {}
    for record in sorted(records, key=lambda each: (each.timestamp, each.offset)):
        letter = _to_letter(record)
        if letter is not None:
            letters.setdefault(*letter)
    return list(reversed(letters.values()))[:limit]


async def _tail(
    connection: KafkaConnection, topic: str, count: int
) -> list[ConsumerRecord[bytes | None, bytes | None]]:
    """The last `count` records of each partition."""
    async with KafkaOffsets.open(connection, topic) as offsets:
        begins, ends = await offsets.beginning(), await offsets.end()
    unread = {TopicPartition(topic, number) for number, end in ends.items() if begins[number] < end}
    records: list[ConsumerRecord[bytes | None, bytes | None]] = []
    if not unread:
        return records
    consumer = AIOKafkaConsumer(**connection.arguments(), fetch_max_wait_ms=_POLL_MS)
    consumer.assign(list(unread))
    with connection.serving("read dead letters"):
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                await consumer.start()
                for each in unread:
                    consumer.seek(each, max(begins[each.partition], ends[each.partition] - count))
                while unread:
                    for arrived in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                        records += arrived
                    unread = {each for each in unread if await consumer.position(each) < ends[each.partition]}
        finally:
            await let_end(consumer.stop())
    return records


def _to_letter(
    record: ConsumerRecord[bytes | None, bytes | None],
) -> tuple[tuple[str, int, int], StoredLetter] | None:
    """The letter and what identifies it, or None for what somebody else has put there."""
    headers = {name: value or b"" for name, value in record.headers}
    own = {name: value for name, value in headers.items() if not name.startswith((_CONNECT, _OURS))}
    try:
        partition, offset = (int(headers[f"{_CONNECT}{name}"]) for name in ("partition", "offset"))
        letter = DeadLetter(
            Record(
                partition,
                offset,
                record.key or b"",
                record.value or b"",
                own,
                float(headers[f"{_OURS}appended_at"]),
            ),
            _text(headers, f"{_OURS}reason"),
            _text(headers, f"{_CONNECT}exception.message"),
            int(headers[f"{_OURS}attempt"]),
        )
        failed_at = float(headers[f"{_OURS}first_failure_at"])
    except (KeyError, ValueError):
        return None
    return (_text(headers, f"{_CONNECT}topic"), partition, offset), StoredLetter(letter, failed_at)


def _text(headers: Mapping[str, bytes], name: str) -> str:
    return headers[name].decode(errors="replace")
