"""Kafka adapters while the broker is killed, frozen, missing from the start, or refuses a producer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from deploy.local.kafka import KafkaBroker
from deploy.local.process import free_port
from lorestream.adapters.kafka import subscription, topics
from lorestream.adapters.kafka.appender import KafkaAppender
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.consumer import ConsumerConfig
from lorestream.adapters.kafka.erasure_ledger import KafkaErasureLedger
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.adapters.kafka.subscription import KafkaSubscription
from lorestream.adapters.kafka.watermarks import KafkaWatermarks
from lorestream.errors import Overloaded, Unavailable
from lorestream.memories import Erasure, Memory, SubjectKind
from lorestream.ports import NewRecord
from tests.brokers import running
from tests.contracts.test_log import (
    MEGABYTE,
    TIMEOUT_S,
    Listener,
    positions_after,
    read_count,
    record,
    values,
)
from tests.contracts.test_log import kafka as opener_of

pytestmark = pytest.mark.alone

PROMISED_S = 2.0
ERASURE = Erasure("e1", "default", SubjectKind.AGENT, ("npc:smith",), 100.0)
MEMORY = Memory(id="m", tenant="default", agent_id="npc:smith", text="", timestamp=50.0, accepted_at=100.0)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that tests of this file may kill and freeze, as long as they leave it running."""
    with running(KafkaBroker(tmp_path_factory.mktemp("faulty"))) as broker:
        yield broker


def threads(broker: KafkaBroker) -> list[Path]:
    return list(Path(f"/proc/{broker.pid}/task").glob("*/stat"))


@contextlib.contextmanager
def frozen(broker: KafkaBroker) -> Generator[None]:
    broker.pause()
    # SIGSTOP reaches the threads of the broker one by one.
    while any(stat.read_text().rpartition(")")[2].split()[0] != "T" for stat in threads(broker)):
        time.sleep(0.001)
    try:
        yield
    finally:
        broker.resume()


@pytest.fixture(autouse=True)
async def _serving(broker: KafkaBroker) -> None:
    """Wait until the broker serves: one that was frozen has to register at the controller again."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with contextlib.suppress(Unavailable):
                await topics.ensure(KafkaConnection(broker.bootstrap), [])
                return
            await asyncio.sleep(0.1)


@pytest.fixture
async def log(broker: KafkaBroker, unique: str) -> AsyncGenerator[KafkaLog]:
    consumer_config = ConsumerConfig(session_timeout_s=6, stuck_after_s=5)
    async with opener_of(broker.bootstrap, unique, consumer_config=consumer_config)() as log:
        assert isinstance(log, KafkaLog)
        yield log


async def assert_unavailable_in_time(call: Awaitable[object]) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await call
    assert time.monotonic() - began < PROMISED_S


async def append_with_retries(log: KafkaLog, records: list[NewRecord]) -> dict[int, int]:
    """Append with retries, as producers do, and check that every failure comes within the promised time."""
    while True:
        began = time.monotonic()
        try:
            return await log.append(records)
        except Unavailable:
            assert time.monotonic() - began < PROMISED_S
            await asyncio.sleep(0.1)


async def test_acknowledged_records_survive_a_killed_broker_in_order(
    broker: KafkaBroker, log: KafkaLog, unique: str
) -> None:
    agents, rounds = 8, 60
    acknowledged: dict[tuple[int, int], dict[int, int]] = {}
    read: list[tuple[int, int]] = []
    offsets: dict[tuple[int, int], list[int]] = {}
    joined, done = asyncio.Event(), asyncio.Event()

    async def play(agent: int) -> None:
        for number in range(rounds):
            records = [record(f"{agent} {number}", b"agent %d" % agent)]
            acknowledged[agent, number] = await append_with_retries(log, records)
            await asyncio.sleep(0.02)

    async def index() -> None:
        async with log.subscribe(unique, Listener()) as member:
            joined.set()
            while not (done.is_set() and len(set(read)) == agents * rounds):
                with contextlib.suppress(Unavailable):
                    records = list(await member.read(limit=50, max_bytes=MEGABYTE, wait_s=0.1))
                    for each in records:
                        agent, number = map(int, each.value.split())
                        read.append((agent, number))
                        offsets.setdefault((agent, number), []).append(each.offset)
                    await member.commit(positions_after(records))

    async with asyncio.timeout(2 * TIMEOUT_S):
        indexing = asyncio.ensure_future(index())
        await joined.wait()
        playing = [asyncio.ensure_future(play(agent)) for agent in range(agents)]
        await asyncio.sleep(0.5)
        broker.kill()
        await asyncio.sleep(0.5)
        await asyncio.to_thread(broker.start)
        await asyncio.gather(*playing)
        done.set()
        await indexing

        for event, answer in acknowledged.items():
            assert set(answer.values()) <= set(offsets[event]), (
                "the acknowledged offset is the one that is read"
            )
        for agent in range(agents):
            firsts = [min(offsets[agent, number]) for number in range(rounds)]
            assert firsts == sorted(firsts)
        assert await log.committed(unique) == {n: end for n, end in (await log.end()).items() if end}


async def test_calls_fail_in_time_while_the_broker_is_frozen_and_work_afterwards(
    broker: KafkaBroker, log: KafkaLog, unique: str
) -> None:
    connection = KafkaConnection(broker.bootstrap)
    async with KafkaErasureLedger.open(connection, topic=f"{unique}.erasures") as ledger:
        await ledger.add(ERASURE)
        async with log.subscribe(unique, Listener()) as member:
            await log.append([record("before")])
            before = await read_count(member, 1)
            watermarks = KafkaWatermarks(log, group=unique)
            with frozen(broker):
                later = Erasure("e2", "default", SubjectKind.AGENT, ("npc:smith",), 200.0)
                await asyncio.gather(
                    *(
                        assert_unavailable_in_time(log.append([record(f"frozen {number}")]))
                        for number in range(20)
                    ),
                    assert_unavailable_in_time(log.committed(unique)),
                    assert_unavailable_in_time(log.end()),
                    assert_unavailable_in_time(member.commit(positions_after(before))),
                    assert_unavailable_in_time(ledger.add(later)),
                )
                assert not await watermarks.reached({0: 0}, 0.1)
                assert ledger.covers(MEMORY)
                assert await ledger.state("e1") is not None
            await append_with_retries(log, [record("after")])
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    with contextlib.suppress(Unavailable):
                        await member.commit(positions_after(before))
                        await ledger.add(later)
                        break
            assert (await ledger.state("e2")) is not None
            seen: list[bytes] = []
            async with asyncio.timeout(TIMEOUT_S):
                while b"after" not in seen:
                    with contextlib.suppress(Unavailable):
                        seen += values(await read_count(member, 1))


async def test_the_queue_stays_bounded_while_the_broker_is_frozen(broker: KafkaBroker, log: KafkaLog) -> None:
    log._events._queue_bytes = 100_000
    await log.append([record("before")])
    with frozen(broker):
        # At first the appender cannot tell a frozen broker from a slow one.
        for expected in ({Unavailable, Overloaded}, {Unavailable}):
            calls = [asyncio.ensure_future(log.append([record(b"x" * 5000)])) for _ in range(100)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(answer) for answer in answers} == expected
        assert log._events._pending_bytes == 0
        assert sum(len(queue.records) for queue in log._events._queues) == 0
    await append_with_retries(log, [record("after")])


async def test_a_producer_whose_batches_are_refused_is_replaced(log: KafkaLog) -> None:
    await log.append([record("before")])
    producer = log._events._producer
    assert producer is not None
    for partition in range(3):
        # Simulate a lost batch: the sequence numbers get a gap.
        producer._producer._txn_manager.increment_sequence_number(TopicPartition(log._topic, partition), 5)
    with pytest.raises(Unavailable):
        await log.append([record("refused")])
    assert await log.append([record("after")])
    assert log._events._producer is not producer


async def test_a_producer_without_acknowledgements_is_replaced(
    broker: KafkaBroker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorestream.adapters.kafka.appender.ACK_TIMEOUT_S", 1.0)
    connection = KafkaConnection(broker.bootstrap)
    await topics.ensure(connection, [topics.erasures(unique)])
    async with KafkaAppender.open(connection, unique, max_record_bytes=10_000) as appender:
        await appender.append([record("before")])
        producer = appender._producer
        with frozen(broker):
            await assert_unavailable_in_time(appender.append([record("frozen")]))
            async with asyncio.timeout(TIMEOUT_S):
                while appender._producer is producer:
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                with contextlib.suppress(Unavailable):
                    await appender.append([record("after")])
                    break


async def test_closing_is_not_blocked_by_a_frozen_broker(
    broker: KafkaBroker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "STOP_TIMEOUT_S", 1.0)
    async with contextlib.AsyncExitStack() as stack:
        log = await stack.enter_async_context(opener_of(broker.bootstrap, unique)())
        member = await stack.enter_async_context(log.subscribe(unique, Listener()))
        await log.append([record("x")])
        await read_count(member, 1)
        opened = stack.pop_all()
    with frozen(broker):
        waiting = asyncio.ensure_future(log.append([record("never acknowledged")]))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await opened.aclose()
        assert time.monotonic() - began < 10
        await assert_unavailable_in_time(waiting)
    assert isinstance(member, KafkaSubscription)
    async with asyncio.timeout(TIMEOUT_S):
        # The consumer's connections are closed behind the call.
        while any(task.get_name() == "stop of a Kafka consumer" for task in asyncio.all_tasks()):
            await asyncio.sleep(0.05)


async def test_opening_fails_without_a_broker(tmp_path: Path, unique: str) -> None:
    nobody = KafkaConnection(f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable):
        async with opener_of(nobody.bootstrap, unique)():
            pass
    with pytest.raises(Unavailable):
        async with KafkaErasureLedger.open(nobody, topic=unique):
            pass
