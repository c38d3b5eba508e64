"""KafkaSubscription: assignments, rebalances, commits, bounded buffers, replacement of stuck consumers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, cast

import pytest
import structlog
from aiokafka import TopicPartition

from deploy.local.kafka import KafkaBroker
from lorestream.adapters.kafka.buffers import AssignedPartition
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.consumer import ConsumerConfig
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.adapters.kafka.subscription import KafkaSubscription
from lorestream.errors import Misconfigured, Unavailable
from lorestream.ports import NewRecord, Record
from tests.contracts.test_log import MEGABYTE, TIMEOUT_S, positions_after, read_count, record, values
from tests.contracts.test_log import kafka as opener_of

SHORT_TIMEOUTS = ConsumerConfig(session_timeout_s=3, revoke_timeout_s=1)


class RecordingListener:
    """A listener that records its calls; `on_revoked` is called for revoked partitions."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, set[int]]] = []
        self.owned: set[int] = set()
        self.on_revoked: Callable[[Collection[int]], Awaitable[object]] | None = None

    async def assigned(self, positions: Mapping[int, int]) -> None:
        self.calls.append(("assigned", set(positions)))
        self.owned = set(positions)

    async def revoked(self, partitions: Collection[int]) -> None:
        self.calls.append(("revoked", set(partitions)))
        self.owned -= set(partitions)
        if self.on_revoked is not None:
            await self.on_revoked(partitions)


@pytest.fixture
async def log(kafka: KafkaBroker, unique: str, request: pytest.FixtureRequest) -> AsyncGenerator[KafkaLog]:
    """A log with three partitions; the parameter is the ConsumerConfig of its members."""
    consumer_config = getattr(request, "param", SHORT_TIMEOUTS)
    async with opener_of(kafka.bootstrap, unique, consumer_config=consumer_config)() as log:
        assert isinstance(log, KafkaLog)
        yield log


def group_of(log: KafkaLog) -> str:
    """A group name per test: the group of another test may still have members."""
    return log._topic


def joined(log: KafkaLog, listener: RecordingListener, consumer_config: ConsumerConfig = SHORT_TIMEOUTS):
    log._consumer_config = consumer_config
    return log.subscribe(group_of(log), listener)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not holds():
            await asyncio.sleep(0.01)


async def with_retries(read: Callable[[], Awaitable[list[Record]]]) -> list[Record]:
    """Retry while the log is unavailable, as a worker does."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                return await read()
            except Unavailable:
                await asyncio.sleep(0.05)


def spread(count: int, start: int = 0) -> list[NewRecord]:
    """Records with keys of all partitions."""
    return [record(str(number), b"agent %d" % (number % 50)) for number in range(start, start + count)]


async def test_members_share_the_partitions_and_lose_no_records_in_rebalances(log: KafkaLog) -> None:
    seen: dict[bytes, int] = {}
    writing, ended = asyncio.Event(), asyncio.Event()

    async def work(listener: RecordingListener, leave: asyncio.Event) -> None:
        async with joined(log, listener) as member:
            while not leave.is_set():
                records = await member.read(limit=20, max_bytes=MEGABYTE, wait_s=0.05)
                assert {each.partition for each in records} <= listener.owned
                for each in records:
                    seen[each.value] = seen.get(each.value, 0) + 1
                await member.commit(positions_after(list(records)))

    async def write() -> None:
        for start in range(0, 3000, 50):
            await log.append(spread(50, start))
            await asyncio.sleep(0.02)
        writing.set()

    staying, coming = RecordingListener(), RecordingListener()
    leave = asyncio.Event()
    tasks = [asyncio.ensure_future(each) for each in (work(staying, ended), write())]
    await eventually(lambda: len(staying.owned) == 3)
    guest = asyncio.ensure_future(work(coming, leave))
    await eventually(lambda: bool(coming.owned) and len(staying.owned) + len(coming.owned) == 3)
    assert not staying.owned & coming.owned
    await asyncio.sleep(0.5)
    leave.set()
    await guest
    await eventually(lambda: len(staying.owned) == 3)
    await writing.wait()
    await eventually(lambda: len(seen) == 3000)
    ended.set()
    await asyncio.gather(*tasks)

    assert await log.committed(group_of(log)) == await log.end()
    assert sum(seen.values()) - 3000 <= 40, (
        "at most what two members had read and not committed is read twice"
    )


async def test_buffered_records_of_revoked_partitions_are_not_returned(log: KafkaLog) -> None:
    await log.append(spread(300))
    first, second = RecordingListener(), RecordingListener()
    async with joined(log, first) as one:
        in_hand = list(await one.read(limit=30, max_bytes=MEGABYTE, wait_s=TIMEOUT_S))
        leftover: list[Record] = []

        async def finish(_partitions: Collection[int]) -> None:
            leftover.extend(await one.read(limit=1000, max_bytes=MEGABYTE, wait_s=0.1))
            await one.commit(positions_after(in_hand))

        first.on_revoked = finish
        async with joined(log, second) as other:
            await eventually(lambda: bool(first.owned) and bool(second.owned) and len(first.calls) == 3)
            assert leftover == []
            rest = list(await other.read(limit=1000, max_bytes=MEGABYTE, wait_s=TIMEOUT_S))
            assert {each.partition for each in rest} <= second.owned
            here = await read_count(one, 300 - len(in_hand) - await left_for(other, rest), limit=1000)
    assert sorted(map(int, values(in_hand + rest + here))) == list(range(300))


async def left_for(member: KafkaSubscription, records: list[Record]) -> int:
    """Read the remaining records of the member into `records`; returns their total number."""
    while more := await member.read(limit=1000, max_bytes=MEGABYTE, wait_s=1):
        records += more
    return len(records)


async def test_a_listener_that_hangs_in_revoked_is_cancelled(log: KafkaLog) -> None:
    await log.append(spread(30))
    first, second = RecordingListener(), RecordingListener()
    cut = asyncio.Event()

    async def hang(_partitions: Collection[int]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cut.set()

    first.on_revoked = hang
    async with joined(log, first) as one:
        await read_count(one, 30)
        began = time.monotonic()
        async with joined(log, second):
            assert cut.is_set()
            assert (
                SHORT_TIMEOUTS.revoke_timeout_s <= time.monotonic() - began < SHORT_TIMEOUTS.session_timeout_s
            )


async def test_partitions_that_were_revoked_are_not_committed(log: KafkaLog) -> None:
    await log.append(spread(300))
    first, second = RecordingListener(), RecordingListener()
    async with joined(log, first) as one:
        records = await read_count(one, 300, limit=300)
        async with joined(log, second) as other:
            await eventually(lambda: len(first.calls) == 3)
            await one.commit(positions_after(records))
            assert set(await log.committed(group_of(log))) == first.owned
            await other.commit(positions_after(records))
            assert await log.committed(group_of(log)) == await log.end()
            await other.commit(dict.fromkeys(range(3), 1))
            await one.commit(dict.fromkeys(range(3), 1))
            assert await log.committed(group_of(log)) == await log.end()


SMALL_BUFFERS = ConsumerConfig(
    session_timeout_s=3, max_poll_interval_s=0.5, buffer_records=10, buffer_bytes=2000, stuck_after_s=2
)


@pytest.mark.parametrize("log", [SMALL_BUFFERS], indirect=True)
async def test_a_slow_reader_stays_a_member_with_bounded_buffers(log: KafkaLog) -> None:
    await log.append(spread(2000))
    listener = RecordingListener()
    async with log.subscribe(group_of(log), listener) as member:
        await asyncio.sleep(1.5)
        assert all(partition.paused for partition in member._partitions.values())
        records = await read_count(member, 500, limit=50)
        await asyncio.sleep(0.7)
        records += await read_count(member, 1500, limit=50)
    assert listener.calls == [("assigned", {0, 1, 2})]
    assert len(set(values(records))) == 2000
    for number in range(3):
        offsets = [each.offset for each in records if each.partition == number]
        assert offsets == list(range(len(offsets)))


async def test_a_partition_is_paused_when_its_buffer_has_enough_bytes(log: KafkaLog) -> None:
    await log.append([record(b"x" * 1500) for _ in range(100)])
    async with joined(log, RecordingListener(), SMALL_BUFFERS) as member:
        await eventually(lambda: any(partition.paused for partition in member._partitions.values()))
        assert len(await read_count(member, 100)) == 100


async def test_a_member_without_partitions_waits(log: KafkaLog) -> None:
    listeners = [RecordingListener() for _ in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        for listener in listeners:
            last = await stack.enter_async_context(joined(log, listener))
        await eventually(lambda: sum(len(each.owned) for each in listeners) == 3)
        idle = next(each for each in listeners if not each.owned)
        assert idle.calls[-1] == ("assigned", set())
        assert set(await last.end()) == listeners[-1].owned


async def test_a_static_member_that_restarts_causes_no_rebalance(log: KafkaLog) -> None:
    await log.append(spread(30))
    staying, first, again = RecordingListener(), RecordingListener(), RecordingListener()
    static = ConsumerConfig(session_timeout_s=6, static_member="worker-1")
    async with joined(log, staying):
        async with joined(log, first, static):
            await eventually(lambda: bool(staying.owned) and len(staying.calls) == 3)
        async with joined(log, again, static) as member:
            assert again.owned == first.owned
            assert staying.calls[-1] == ("assigned", staying.owned)
            assert len(staying.calls) == 3
            assert {each.partition for each in await read_count(member, 1)} <= again.owned


async def test_two_members_with_the_same_name_are_logged_as_an_error(log: KafkaLog) -> None:
    one, other = (replace(SHORT_TIMEOUTS, static_member=name) for name in ("worker-1", "worker-2"))
    holder, neighbour = RecordingListener(), RecordingListener()

    def calls() -> list[MutableMapping[str, Any]]:
        return [entry for entry in log_lines if "LORESTREAM_LOG__MEMBER" in entry["event"]]

    with structlog.testing.capture_logs() as log_lines:
        async with joined(log, holder, one) as member, joined(log, neighbour, other):
            await eventually(lambda: len(holder.owned) + len(neighbour.owned) == 3 and bool(neighbour.owned))
            coordinator = member._consumer._coordinator
            await coordinator._stop_heartbeat_task()
            await eventually(lambda: len(neighbour.owned) == 3)
            coordinator._start_heartbeat_task()
            await eventually(lambda: len(neighbour.owned) < 3 and holder.calls[-2][0] == "revoked")
            assert calls() == []  # its session timed out: no other member has its name
            async with joined(log, RecordingListener(), one):
                await eventually(lambda: bool(calls()))
    assert {(entry["log_level"], entry["member"]) for entry in calls()} == {("error", "worker-1")}


SHORT_STUCK_TIMEOUT = ConsumerConfig(session_timeout_s=3, stuck_after_s=1)


@pytest.mark.parametrize("log", [SHORT_STUCK_TIMEOUT], indirect=True)
async def test_a_consumer_that_receives_nothing_while_records_wait_is_replaced(log: KafkaLog) -> None:
    listener = RecordingListener()
    async with log.subscribe(group_of(log), listener) as member:
        await log.append([record("before")])
        [before] = await read_count(member, 1)
        await member.commit(positions_after([before]))
        assert member._consumer is not None
        member._consumer.pause(*(TopicPartition(log._topic, number) for number in range(3)))
        await log.append([record("behind")])
        assert values(await with_retries(lambda: read_count(member, 1))) == [b"behind"]
    assert [what for what, _ in listener.calls] == ["assigned", "revoked", "assigned"]


@pytest.mark.parametrize("log", [SHORT_STUCK_TIMEOUT], indirect=True)
async def test_a_consumer_without_new_records_is_not_replaced(log: KafkaLog) -> None:
    listener = RecordingListener()
    async with log.subscribe(group_of(log), listener) as member:
        await log.append([record("read"), record("not read")])
        await read_count(member, 1, limit=1)
        await asyncio.sleep(1.7)
        await read_count(member, 1)
    assert [what for what, _ in listener.calls] == ["assigned"]


async def test_a_session_timeout_that_the_broker_does_not_allow_is_reported(log: KafkaLog) -> None:
    with pytest.raises(Misconfigured, match="session_timeout_s"):
        async with joined(log, RecordingListener(), ConsumerConfig(session_timeout_s=0.3)):
            pass


async def test_a_failed_consumer_is_stopped_also_when_the_listener_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Consumer:
        stopped = False

        async def stop(self) -> None:
            self.stopped = True

    consumer = Consumer()

    async def consume(self: Any) -> None:
        self._consumer = consumer
        self._partitions = {0: AssignedPartition(0, 0, 0)}
        raise Unavailable("the broker is away")

    async def fail(_partitions: Collection[int]) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(KafkaSubscription, "_consume", consume)
    listener, unused = RecordingListener(), cast("Any", None)
    listener.on_revoked = fail
    subscription = KafkaSubscription(
        KafkaConnection("127.0.0.1:1"),
        unused,
        listener,
        topic="events",
        group="group",
        config=SHORT_TIMEOUTS,
        on_lost=unused,
    )
    with pytest.raises(RuntimeError, match="a fault"):
        await subscription._run()
    assert consumer.stopped
    assert subscription._consumer is None


async def test_a_listener_that_fails_in_assigned_gets_a_new_consumer(log: KafkaLog) -> None:
    class Failing(RecordingListener):
        async def assigned(self, positions: Mapping[int, int]) -> None:
            await super().assigned(positions)
            if len(self.calls) == 1:
                raise Unavailable("the store is away")

    listener = Failing()
    await log.append([record("waits")])
    with pytest.raises(Unavailable, match="the store is away"):
        async with joined(log, listener):
            pass
    async with joined(log, listener) as member:
        assert values(await read_count(member, 1)) == [b"waits"]
