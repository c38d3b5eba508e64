"""KafkaLog beyond the contract suite: partitioning, order, sizes, records of other clients, dead letters."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Collection, Mapping

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from structlog.testing import capture_logs

from deploy.local.kafka import KafkaBroker
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.adapters.kafka.topics import MAX_RECORD_BYTES
from lorestream.errors import EventTooLarge, Overloaded
from lorestream.ports import DeadLetter, NewRecord, Record
from tests.contracts.test_log import (
    Opener,
    positions_after,
    read_all,
    read_count,
    read_dead_letters,
    record,
    subscribed,
    values,
)
from tests.contracts.test_log import (
    kafka as opener_of,
)

JAVA_HASHES = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""Murmur2 test vectors from UtilsTest of Kafka's Java client."""


@pytest.fixture
def opener(kafka: KafkaBroker, unique: str) -> Opener:
    return opener_of(kafka.bootstrap, unique)


@pytest.fixture
async def log(opener: Opener) -> AsyncGenerator[KafkaLog]:
    async with opener() as log:
        assert isinstance(log, KafkaLog)
        yield log


@pytest.fixture
async def stranger(kafka: KafkaBroker) -> AsyncGenerator[AIOKafkaProducer]:
    """Another Kafka client that writes to the topics."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        yield producer


async def test_keys_go_to_the_same_partitions_as_with_other_kafka_clients(
    log: KafkaLog, stranger: AIOKafkaProducer, unique: str
) -> None:
    for key, java in JAVA_HASHES.items():
        [ours] = await log.append([record("x", key)])
        assert ours == (java & 0x7FFFFFFF) % 3
        assert (await stranger.send_and_wait(f"{unique}.events", b"x", key)).partition == ours


async def test_the_order_of_the_calls_is_the_order_in_the_log(log: KafkaLog) -> None:
    calls = [
        asyncio.ensure_future(log.append([record(f"{number}.{part}") for part in range(number % 3 + 1)]))
        for number in range(300)
    ]
    answers = await asyncio.gather(*calls)
    read = await read_all(log, "indexer", 600)
    assert values(read) == [f"{n}.{part}".encode() for n in range(300) for part in range(n % 3 + 1)]
    assert [answer[read[0].partition] for answer in answers] == [
        each.offset for n, each in enumerate(read) if n % 6 in {0, 2, 5}
    ]


async def test_a_cancelled_append_withdraws_its_queued_records_and_no_others(log: KafkaLog) -> None:
    before = asyncio.ensure_future(log.append([record("before")]))
    for _ in range(3):
        await asyncio.sleep(0)
    # The first batch is in flight; the next records queue up behind it.
    first, leaving, last = (
        asyncio.ensure_future(log.append([record(value)])) for value in ("first", "leaving", "last")
    )
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(before, first, last)
    assert values(await read_all(log, "indexer", 3)) == [b"before", b"first", b"last"]


async def test_the_largest_record_fits_and_a_larger_one_is_refused_alone(log: KafkaLog) -> None:
    largest = os.urandom(MAX_RECORD_BYTES - 500)
    neighbour = asyncio.ensure_future(log.append([record("neighbour")]))
    await asyncio.sleep(0)
    with pytest.raises(EventTooLarge, match="1048576"):
        await log.append([record("never"), record(os.urandom(MAX_RECORD_BYTES + 1))])
    await log.append([record(largest), record("behind")])
    await neighbour
    assert values(await read_all(log, "indexer", 3)) == [b"neighbour", largest, b"behind"]


async def test_more_records_than_fit_into_a_batch_go_into_several(log: KafkaLog) -> None:
    many = [record(os.urandom(10_000)) for _ in range(200)]
    [(partition, last)] = (await log.append(many)).items()
    read = await read_all(log, "indexer", 200)
    assert values(read) == [each.value for each in many]
    assert (read[-1].partition, read[-1].offset) == (partition, last)


async def test_a_full_queue_refuses_an_append_and_writes_nothing_of_it(log: KafkaLog) -> None:
    log._events._queue_bytes = 10_000
    first = asyncio.ensure_future(log.append([record(b"x" * 20_000)]))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="waiting for Kafka"):
        await log.append([record("refused")])
    await first
    await log.append([record("taken")])
    assert values(await read_all(log, "indexer", 2)) == [b"x" * 20_000, b"taken"]


async def test_a_missing_key_or_value_or_header_is_empty(
    log: KafkaLog, stranger: AIOKafkaProducer, unique: str
) -> None:
    await stranger.send_and_wait(f"{unique}.events", value=b"no key", partition=0)
    await stranger.send_and_wait(f"{unique}.events", key=b"no value", partition=0, headers=[("h", None)])
    no_key, no_value = await read_all(log, "indexer", 2)
    assert (no_key.key, no_key.value) == (b"", b"no key")
    assert (no_value.key, no_value.value, no_value.headers) == (b"no value", b"", {"h": b""})


async def test_dead_letters_have_the_headers_of_kafka_connect(
    log: KafkaLog, kafka: KafkaBroker, unique: str
) -> None:
    await log.append([NewRecord(b"key", b"\xff", {"schema": b"9", "tenant": b"default"})])
    [broken] = await read_all(log, "indexer", 1)
    await log.append_dead_letters([DeadLetter(broken, "undecodable", "no JSON at byte 0", attempts=3)])

    topic = TopicPartition(f"{unique}.events.dlq", 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    consumer.assign([topic])
    async with consumer:
        dead_letter = await consumer.getone()
    headers = dict(dead_letter.headers)
    assert (dead_letter.key, dead_letter.value, headers["schema"], headers["tenant"]) == (
        b"key",
        b"\xff",
        b"9",
        b"default",
    )
    assert headers["__connect.errors.topic"] == f"{unique}.events".encode()
    assert headers["__connect.errors.partition"] == str(broken.partition).encode()
    assert headers["__connect.errors.offset"] == b"0"
    assert headers["__connect.errors.exception.message"] == b"no JSON at byte 0"
    assert headers["lorestream.reason"] == b"undecodable"
    assert headers["lorestream.attempt"] == b"3"
    assert float(headers["lorestream.first_failure_at"]) == 1_760_000_000


async def test_the_largest_record_fits_into_a_dead_letter(log: KafkaLog) -> None:
    huge = Record(0, 7, os.urandom(1000), os.urandom(MAX_RECORD_BYTES), {"h": os.urandom(1000)}, 5.5)
    dead_letter = DeadLetter(huge, "too_large", "é" * 9_000)
    await log.append_dead_letters([dead_letter])
    assert await read_dead_letters(log) == [dead_letter]


async def test_a_record_beyond_every_limit_is_cut_in_its_dead_letter(
    log: KafkaLog,
) -> None:
    headers = {f"h{number}": b"x" * 100_000 for number in range(30)}
    monster = Record(0, 7, b"k" * 3_000_000, b" " * 5_000_000, headers, 5.5)
    await log.append_dead_letters([DeadLetter(monster, "too_large", "5,000,000 bytes")])
    [stored] = await read_dead_letters(log)
    assert (stored.reason, stored.record.offset) == ("too_large", 7)
    assert stored.record.value == b" " * MAX_RECORD_BYTES
    assert stored.record.key == b"k" * 65_536


async def test_dead_letters_of_two_processes_are_returned_once_and_the_oldest_first(
    log: KafkaLog, opener: Opener, stranger: AIOKafkaProducer, unique: str
) -> None:
    dead_letters = [
        DeadLetter(Record(1, offset, b"k", b"v", {}, 0.0), "undecodable", f"error {offset}")
        for offset in range(5)
    ]
    await stranger.send_and_wait(f"{unique}.events.dlq", b"not a dead letter")
    await log.append_dead_letters(dead_letters[:3])
    async with opener() as other:
        await other.append_dead_letters(
            [DeadLetter(dead_letters[2].record, "another", "reason"), *dead_letters[3:]]
        )
        await other.append_dead_letters([dead_letters[0]])
    assert await read_dead_letters(log) == dead_letters


async def test_a_group_whose_next_records_were_deleted_continues_at_the_oldest_and_counts_them(
    log: KafkaLog, kafka: KafkaBroker, unique: str
) -> None:
    await log.append([record(str(number)) for number in range(50)])
    async with subscribed(log, "indexer") as member:
        read = await read_count(member, 10, limit=10)
        await member.commit(positions_after(read))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    partition_of_topic = TopicPartition(f"{unique}.events", read[0].partition)
    await admin.delete_records({partition_of_topic: RecordsToDelete(before_offset=40)})
    await admin.close()

    lost: list[int] = []
    with capture_logs() as lines:
        async with opener_of(kafka.bootstrap, unique, on_lost=lost.append)() as counting:
            assert values(await read_all(counting, "indexer", 10)) == [
                b"%d" % number for number in range(40, 50)
            ]
    [line] = [line for line in lines if line["log_level"] == "warning"]
    assert (line["expected"], line["got"]) == (10, 40)
    assert lost == [30]


async def test_a_group_whose_records_were_all_deleted_begins_at_the_end(
    log: KafkaLog, kafka: KafkaBroker, unique: str
) -> None:
    await log.append([record(str(number)) for number in range(50)])
    async with subscribed(log, "indexer") as member:
        read = await read_count(member, 10, limit=10)
        await member.commit(positions_after(read))
    partition = read[0].partition
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(f"{unique}.events", partition): RecordsToDelete(50)})
    await admin.close()

    class Listener:
        async def assigned(self, positions: Mapping[int, int]) -> None:
            self.positions = positions

        async def revoked(self, partitions: Collection[int]) -> None:
            pass

    listener = Listener()
    async with log.subscribe("indexer", listener) as member:
        assert listener.positions[partition] == 50 == (await member.end())[partition]
        await log.append([record("behind")])
        assert values(await read_count(member, 1)) == [b"behind"]
