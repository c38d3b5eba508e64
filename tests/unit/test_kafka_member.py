"""Members of a group: who reads what, what becomes of work in hand, and that nobody is taken for dead."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition

from deploy.local.kafka import KafkaBroker
from lorestream.adapters.kafka.consumer import ConsumerConfig
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.adapters.kafka.subscription import KafkaSubscription
from lorestream.errors import Misconfigured, Unavailable
from lorestream.ports import NewRecord, Record
from tests.contracts.test_log import MEGABYTE, PATIENCE_S, behind, record, take, values
from tests.contracts.test_log import kafka as opener_of

QUICK = ConsumerConfig(session_timeout_s=3, revoke_timeout_s=1)


class Member:
    """A listener that remembers what it was told; `on_revoked` is what it does about partitions that go."""

    def __init__(self) -> None:
        self.told: list[tuple[str, set[int]]] = []
        self.owned: set[int] = set()
        self.on_revoked: Callable[[Collection[int]], Awaitable[object]] | None = None

    async def assigned(self, positions: Mapping[int, int]) -> None:
        self.told.append(("assigned", set(positions)))
        self.owned = set(positions)

    async def revoked(self, partitions: Collection[int]) -> None:
        self.told.append(("revoked", set(partitions)))
        self.owned -= set(partitions)
        if self.on_revoked is not None:
            await self.on_revoked(partitions)


@pytest.fixture
async def log(kafka: KafkaBroker, unique: str, request: pytest.FixtureRequest) -> AsyncGenerator[KafkaLog]:
    """Three partitions; a parameter is the membership of its members."""
    consumer_config = getattr(request, "param", QUICK)
    async with opener_of(kafka.bootstrap, unique, consumer_config=consumer_config)() as log:
        assert isinstance(log, KafkaLog)
        yield log


def group_of(log: KafkaLog) -> str:
    """One per test: a group of another test may not have ended yet."""
    return log._topic


def joined(log: KafkaLog, listener: Member, consumer_config: ConsumerConfig = QUICK):
    log._consumer_config = consumer_config
    return log.subscribe(group_of(log), listener)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


async def patiently(read: Callable[[], Awaitable[list[Record]]]) -> list[Record]:
    """As a worker does it: an outage is waited out."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await read()
            except Unavailable:
                await asyncio.sleep(0.05)


def spread(count: int, start: int = 0) -> list[NewRecord]:
    """Records for all partitions."""
    return [record(str(number), b"agent %d" % (number % 50)) for number in range(start, start + count)]


async def test_members_share_the_partitions_and_lose_nothing_when_one_comes_and_goes(log: KafkaLog) -> None:
    seen: dict[bytes, int] = {}
    writing, ended = asyncio.Event(), asyncio.Event()

    async def work(listener: Member, leave: asyncio.Event) -> None:
        async with joined(log, listener) as member:
            while not leave.is_set():
                records = await member.read(limit=20, max_bytes=MEGABYTE, wait_s=0.05)
                assert {each.partition for each in records} <= listener.owned
                for each in records:
                    seen[each.value] = seen.get(each.value, 0) + 1
                await member.commit(behind(list(records)))

    async def write() -> None:
        for start in range(0, 3000, 50):
            await log.append(spread(50, start))
            await asyncio.sleep(0.02)
        writing.set()

    staying, coming = Member(), Member()
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
    assert sum(seen.values()) - 3000 <= 40, "no more is read twice than two members have in hand"


async def test_what_was_read_ahead_of_a_partition_that_goes_is_not_handed_out(log: KafkaLog) -> None:
    await log.append(spread(300))
    first, second = Member(), Member()
    async with joined(log, first) as one:
        in_hand = list(await one.read(limit=30, max_bytes=MEGABYTE, wait_s=PATIENCE_S))
        leftover: list[Record] = []

        async def finish(_partitions: Collection[int]) -> None:
            leftover.extend(await one.read(limit=1000, max_bytes=MEGABYTE, wait_s=0.1))
            await one.commit(behind(in_hand))

        first.on_revoked = finish
        async with joined(log, second) as other:
            await eventually(lambda: bool(first.owned) and bool(second.owned) and len(first.told) == 3)
            assert leftover == []
            rest = list(await other.read(limit=1000, max_bytes=MEGABYTE, wait_s=PATIENCE_S))
            assert {each.partition for each in rest} <= second.owned
            here = await take(one, 300 - len(in_hand) - await left_for(other, rest), limit=1000)
    assert sorted(map(int, values(in_hand + rest + here))) == list(range(300))


async def left_for(member: KafkaSubscription, records: list[Record]) -> int:
    """Read the rest of the member's share into `records`; how many there are."""
    while more := await member.read(limit=1000, max_bytes=MEGABYTE, wait_s=1):
        records += more
    return len(records)


async def test_a_listener_that_hangs_is_cut_off_and_the_others_go_on(log: KafkaLog) -> None:
    await log.append(spread(30))
    first, second = Member(), Member()
    cut = asyncio.Event()

    async def hang(_partitions: Collection[int]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cut.set()

    first.on_revoked = hang
    async with joined(log, first) as one:
        await take(one, 30)
        began = time.monotonic()
        async with joined(log, second):
            assert cut.is_set()
            assert QUICK.revoke_timeout_s <= time.monotonic() - began < QUICK.session_timeout_s


async def test_nothing_is_committed_of_partitions_that_have_gone(log: KafkaLog) -> None:
    await log.append(spread(300))
    first, second = Member(), Member()
    async with joined(log, first) as one:
        records = await take(one, 300, limit=300)
        async with joined(log, second) as other:
            await eventually(lambda: len(first.told) == 3)
            await one.commit(behind(records))
            assert set(await log.committed(group_of(log))) == first.owned
            await other.commit(behind(records))
            assert await log.committed(group_of(log)) == await log.end()
            await other.commit(dict.fromkeys(range(3), 1))
            await one.commit(dict.fromkeys(range(3), 1))
            assert await log.committed(group_of(log)) == await log.end()


IMPATIENT = ConsumerConfig(
    session_timeout_s=3, max_poll_interval_s=0.5, buffer_records=10, buffer_bytes=2000, stuck_after_s=2
)


@pytest.mark.parametrize("log", [IMPATIENT], indirect=True)
async def test_a_slow_reader_stays_a_member_and_its_buffers_stay_small(log: KafkaLog) -> None:
    await log.append(spread(2000))
    listener = Member()
    async with log.subscribe(group_of(log), listener) as member:
        await asyncio.sleep(1.5)
        assert all(partition.paused for partition in member._partitions.values())
        records = await take(member, 500, limit=50)
        await asyncio.sleep(0.7)
        records += await take(member, 1500, limit=50)
    assert listener.told == [("assigned", {0, 1, 2})]
    assert len(set(values(records))) == 2000
    for number in range(3):
        offsets = [each.offset for each in records if each.partition == number]
        assert offsets == list(range(len(offsets)))


async def test_a_partition_is_paused_by_its_bytes_too(log: KafkaLog) -> None:
    await log.append([record(b"x" * 1500) for _ in range(100)])
    async with joined(log, Member(), IMPATIENT) as member:
        await eventually(lambda: any(partition.paused for partition in member._partitions.values()))
        assert len(await take(member, 100)) == 100


async def test_a_member_without_partitions_waits(log: KafkaLog) -> None:
    listeners = [Member() for _ in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        for listener in listeners:
            last = await stack.enter_async_context(joined(log, listener))
        await eventually(lambda: sum(len(each.owned) for each in listeners) == 3)
        idle = next(each for each in listeners if not each.owned)
        assert idle.told[-1] == ("assigned", set())
        assert set(await last.end()) == listeners[-1].owned


async def test_a_static_member_that_comes_back_soon_disturbs_nobody(log: KafkaLog) -> None:
    await log.append(spread(30))
    staying, first, again = Member(), Member(), Member()
    static = ConsumerConfig(session_timeout_s=6, static_member="worker-1")
    async with joined(log, staying):
        async with joined(log, first, static):
            await eventually(lambda: bool(staying.owned) and len(staying.told) == 3)
        async with joined(log, again, static) as member:
            assert again.owned == first.owned
            assert staying.told[-1] == ("assigned", staying.owned)
            assert len(staying.told) == 3
            assert {each.partition for each in await take(member, 1)} <= again.owned


async def test_two_workers_of_one_name_are_told_of(log: KafkaLog) -> None:
    one, other = (replace(QUICK, static_member=name) for name in ("worker-1", "worker-2"))
    holder, neighbour = Member(), Member()

    def told() -> list[MutableMapping[str, Any]]:
        return [entry for entry in said if "LORESTREAM_LOG__MEMBER" in entry["event"]]

    with structlog.testing.capture_logs() as said:
        async with joined(log, holder, one) as member, joined(log, neighbour, other):
            await eventually(lambda: len(holder.owned) + len(neighbour.owned) == 3 and bool(neighbour.owned))
            coordinator = member._consumer._coordinator
            await coordinator._stop_heartbeat_task()
            await eventually(lambda: len(neighbour.owned) == 3)
            coordinator._start_heartbeat_task()
            await eventually(lambda: len(neighbour.owned) < 3 and holder.told[-2][0] == "revoked")
            assert told() == []  # it was silent for too long: nobody else has its name
            async with joined(log, Member(), one):
                await eventually(lambda: bool(told()))
    assert {(entry["log_level"], entry["member"]) for entry in told()} == {("error", "worker-1")}


STUCK = ConsumerConfig(session_timeout_s=3, stuck_after_s=1)


@pytest.mark.parametrize("log", [STUCK], indirect=True)
async def test_a_consumer_that_no_longer_brings_what_is_there_is_replaced(log: KafkaLog) -> None:
    listener = Member()
    async with log.subscribe(group_of(log), listener) as member:
        await log.append([record("before")])
        [before] = await take(member, 1)
        await member.commit(behind([before]))
        assert member._consumer is not None
        member._consumer.pause(*(TopicPartition(log._topic, number) for number in range(3)))
        await log.append([record("behind")])
        assert values(await patiently(lambda: take(member, 1))) == [b"behind"]
    assert [what for what, _ in listener.told] == ["assigned", "revoked", "assigned"]


@pytest.mark.parametrize("log", [STUCK], indirect=True)
async def test_a_quiet_consumer_is_left_alone(log: KafkaLog) -> None:
    listener = Member()
    async with log.subscribe(group_of(log), listener) as member:
        await log.append([record("read"), record("not read")])
        await take(member, 1, limit=1)
        await asyncio.sleep(1.7)
        await take(member, 1)
    assert [what for what, _ in listener.told] == ["assigned"]


async def test_a_session_that_the_broker_does_not_allow_is_told(log: KafkaLog) -> None:
    with pytest.raises(Misconfigured, match="session_timeout_s"):
        async with joined(log, Member(), ConsumerConfig(session_timeout_s=0.3)):
            pass


async def test_a_listener_that_fails_is_asked_again_by_a_new_consumer(log: KafkaLog) -> None:
    class Failing(Member):
        async def assigned(self, positions: Mapping[int, int]) -> None:
            await super().assigned(positions)
            if len(self.told) == 1:
                raise Unavailable("the store is away")

    listener = Failing()
    await log.append([record("waits")])
    with pytest.raises(Unavailable, match="the store is away"):
        async with joined(log, listener):
            pass
    async with joined(log, listener) as member:
        assert values(await take(member, 1)) == [b"waits"]
