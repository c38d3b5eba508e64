"""KafkaErasureLedger beyond the contract suite: concurrent writers, compaction, invalid records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.kafka import KafkaBroker
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.erasure_entry import Entry, decoded, key_of
from lorestream.adapters.kafka.erasure_ledger import KafkaErasureLedger
from lorestream.errors import Misconfigured
from lorestream.memories import Erasure, Memory, SubjectKind
from lorestream.ports import ErasureState

TIMEOUT_S = 30.0
NEWER = Erasure("newer", "default", SubjectKind.AGENT, ("npc:smith", "npc:baker"), 100.0)
OLDER = replace(NEWER, id="older", accepted_at=90.0)
SMITH = key_of("default", "agent", "npc:smith")


class Ledgers:
    """Opens several ledgers on one topic, and reads and writes the topic directly."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.bootstrap = bootstrap
        self.topic = topic

    def open(self):
        return KafkaErasureLedger.open(KafkaConnection(self.bootstrap), topic=self.topic)

    async def last_records(self) -> dict[bytes, Entry | None]:
        """The last record of each key, which is what compaction keeps."""
        partition = TopicPartition(self.topic, 0)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        consumer.assign([partition])
        last_records: dict[bytes, Entry | None] = {}
        async with consumer:
            [end] = (await consumer.end_offsets([partition])).values()
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    keyed = {record.key or b"": record.value for record in records}
                    last_records |= {key: decoded(key, value) for key, value in keyed.items()}
        return last_records

    async def write_raw(self, key: bytes, value: bytes) -> None:
        """Write a record as another gateway would that has not read the newest records."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            await producer.send_and_wait(self.topic, value, key)


@pytest.fixture
async def ledgers(kafka: KafkaBroker, unique: str) -> Ledgers:
    return Ledgers(kafka.bootstrap, unique)


@pytest.fixture
async def ledger(ledgers: Ledgers) -> AsyncGenerator[KafkaErasureLedger]:
    async with ledgers.open() as ledger:
        yield ledger


async def eventually_covers(ledger: KafkaErasureLedger, memory: Memory) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not ledger.covers(memory):
            await asyncio.sleep(0.01)


def memory(accepted_at: float) -> Memory:
    return Memory("m", "default", "npc:smith", "", 0.0, accepted_at)


async def test_the_record_keys_are_those_of_the_contract(
    ledger: KafkaErasureLedger, ledgers: Ledgers
) -> None:
    await ledger.add(NEWER)
    entry = Entry.of(NEWER)
    assert await ledgers.last_records() == {
        b'["default","agent","npc:smith"]': entry,
        b'["default","agent","npc:baker"]': entry,
        b'["default","state","newer"]': entry,
    }
    await ledger.mark_done("newer")
    assert set((await ledgers.last_records()).values()) == {entry.finished()}


async def test_a_known_erasure_is_not_written_again(ledger: KafkaErasureLedger) -> None:
    await ledger.add(NEWER)
    end = ledger._next_offset
    await ledger.add(NEWER)
    await ledger.mark_done("unknown")
    assert ledger._next_offset == end
    await ledger.add(OLDER)
    assert ledger._next_offset == end + 1, "an older one has its state, and takes nothing"


async def test_an_added_erasure_reaches_the_other_processes(
    ledger: KafkaErasureLedger, ledgers: Ledgers
) -> None:
    async with ledgers.open() as other:
        await ledger.add(NEWER)
        await eventually_covers(other, memory(100.0))
        await other.mark_done("newer")
        async with asyncio.timeout(TIMEOUT_S):
            while await ledger.state("newer") != ErasureState(NEWER, done=True):
                await asyncio.sleep(0.01)


async def test_an_erasure_id_is_found_at_every_gateway_at_once(
    ledger: KafkaErasureLedger, ledgers: Ledgers
) -> None:
    async with ledgers.open() as other:
        for number in range(100):
            erasure = replace(NEWER, id=str(number), accepted_at=100.0 + number)
            await ledger.add(erasure)
            assert await other.state(erasure.id) == ErasureState(erasure, done=False)
        assert await other.state("unheard of") is None


async def test_a_topic_with_several_partitions_is_refused(ledgers: Ledgers) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=ledgers.bootstrap)
    await admin.start()
    configs = {"cleanup.policy": "compact", "retention.ms": "-1"}
    await admin.create_topics([NewTopic(ledgers.topic, 3, 1, None, configs)])
    await admin.close()
    with pytest.raises(Misconfigured, match=r"3 partitions.*ERASURES_TOPIC"):
        async with ledgers.open():
            pass


async def test_of_two_erasures_written_at_once_the_newer_is_kept(
    ledger: KafkaErasureLedger, ledgers: Ledgers
) -> None:
    async with ledgers.open() as other:
        for number in range(10):
            newer, older = (
                replace(each, id=f"{each.id}{number}", subjects=(f"npc:{number}",)) for each in (NEWER, OLDER)
            )
            await asyncio.gather(ledger.add(newer), other.add(older))
    last_records = await ledgers.last_records()
    for number in range(10):
        entry = last_records[key_of("default", "agent", f"npc:{number}")]
        assert entry is not None
        assert entry.id == f"newer{number}"


async def test_an_older_erasure_as_last_record_of_a_key_is_corrected(
    ledger: KafkaErasureLedger, ledgers: Ledgers
) -> None:
    await ledger.add(NEWER)
    await ledgers.write_raw(SMITH, Entry.of(OLDER).encoded())
    assert (await ledgers.last_records())[SMITH] == Entry.of(OLDER)
    async with ledgers.open() as late:
        assert late.covers(memory(100.0))
    assert (await ledgers.last_records())[SMITH] == Entry.of(NEWER)

    await ledgers.write_raw(SMITH, Entry.of(OLDER).encoded())
    async with asyncio.timeout(TIMEOUT_S):
        while not ledger._outdated:
            await asyncio.sleep(0.01)
    assert ledger.covers(memory(100.0))
    await ledger.add(NEWER)
    assert (await ledgers.last_records())[SMITH] == Entry.of(NEWER)


async def test_a_done_erasure_stays_done_after_a_late_record(
    ledger: KafkaErasureLedger, ledgers: Ledgers
) -> None:
    await ledger.add(NEWER)
    await ledger.mark_done("newer")
    await ledgers.write_raw(key_of("default", "state", "newer"), Entry.of(NEWER).encoded())
    async with ledgers.open() as late:
        assert await late.state("newer") == ErasureState(NEWER, done=True)
    assert (await ledgers.last_records())[key_of("default", "state", "newer")] == Entry.of(NEWER).finished()


async def test_records_that_are_not_erasures_are_ignored(
    ledger: KafkaErasureLedger, ledgers: Ledgers
) -> None:
    await ledgers.write_raw(b"key", b"no JSON")
    await ledgers.write_raw(SMITH, b'{"id": 5}')
    await ledgers.write_raw(SMITH, Entry.of(NEWER).encoded().replace(b'"agent"', b'"village"'))
    await ledger.add(NEWER)
    assert ledger.covers(memory(100.0))
    async with ledgers.open() as late:
        assert late.covers(memory(100.0))
        assert not late.covers(memory(101.0))
