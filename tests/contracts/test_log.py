"""Contract suite of the EventLog port, run over each adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lorestream import retry_headers
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.ports import DeadLetter, EventLog, NewRecord, Record, Resolution, Subscription

Opener = Callable[[], AbstractAsyncContextManager[EventLog]]
"""Opens the log. After closing, it can be opened again with the same records."""

TIMEOUT_S = 30.0
MEGABYTE = 2**20


class StoppedClock:
    def now(self) -> float:
        return 1_760_000_000.0


def sqlite(folder: Path) -> Opener:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[EventLog]:
        async with (
            Database.open(folder / "log.db") as database,
            SqliteLog.open(database, retention_s=86_400, max_bytes=0, clock=StoppedClock()) as log,
        ):
            yield log

    return opened


def kafka(bootstrap: str | KafkaConnection, prefix: str, **options: Any) -> Opener:
    """A log with three partitions: enough to test several, few because each is a directory at the broker."""
    connection = KafkaConnection(bootstrap) if isinstance(bootstrap, str) else bootstrap

    @asynccontextmanager
    async def opened() -> AsyncGenerator[EventLog]:
        async with KafkaLog.open(
            connection,
            topic=f"{prefix}.events",
            dlq_topic=f"{prefix}.events.dlq",
            partitions=3,
            retention_s=86_400,
            clock=StoppedClock(),
            **options,
        ) as log:
            yield log

    return opened


@pytest.fixture(params=["sqlite", "kafka"])
def opener(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Opener:
    if request.param == "kafka":
        return kafka(request.getfixturevalue("kafka").bootstrap, unique)
    return sqlite(tmp_path)


@pytest.fixture
async def log(opener: Opener) -> AsyncGenerator[EventLog]:
    async with opener() as log:
        yield log


def record(value: str | bytes, key: bytes = b"agent") -> NewRecord:
    return NewRecord(key, value.encode() if isinstance(value, str) else value, {})


class Listener:
    """Records the assigned partitions and the starting positions."""

    def __init__(self) -> None:
        self.began: dict[int, int] = {}
        self.owned: set[int] = set()

    async def assigned(self, positions: Mapping[int, int]) -> None:
        self.began |= positions
        self.owned |= set(positions)

    async def revoked(self, partitions: Collection[int]) -> None:
        self.owned -= set(partitions)


def subscribed(log: EventLog, group: str) -> AbstractAsyncContextManager[Subscription]:
    """A subscription as the only member of a group."""
    return log.subscribe(group, Listener())


async def read_count(member: Subscription, count: int, *, limit: int = 7) -> list[Record]:
    """Read until `count` records have arrived; a log may return them in reads of any size."""
    records: list[Record] = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(records) < count:
            portion = await member.read(limit=limit, max_bytes=MEGABYTE, wait_s=TIMEOUT_S)
            assert len(portion) <= limit
            records += portion
    return records


async def read_all(log: EventLog, group: str, count: int) -> list[Record]:
    """Read `count` records as a new member of the group, without committing."""
    async with subscribed(log, group) as member:
        return await read_count(member, count)


async def read_and_commit(
    log: EventLog, group: str, count: int, *, finished: int | None = None
) -> list[Record]:
    """Read `count` records and commit the first `finished` of them (None: all)."""
    async with subscribed(log, group) as member:
        records = await read_count(member, count)
        await member.commit(positions_after(records[:finished]))
        return records


async def at_end(member: Subscription) -> bool:
    return await member.read(limit=1, max_bytes=MEGABYTE, wait_s=0) == []


def values(records: list[Record]) -> list[bytes]:
    return [each.value for each in records]


async def read_dead_letters(log: EventLog) -> list[DeadLetter]:
    """The unresolved dead letters, the oldest first."""
    return [each.dead_letter async for each in log.dead_letters()]


def positions_after(records: list[Record]) -> dict[int, int]:
    """The positions to commit after these records."""
    return {each.partition: each.offset + 1 for each in records}


async def test_records_of_one_key_are_read_in_the_order_in_which_they_were_appended(log: EventLog) -> None:
    await log.append([record("0"), record("1")])
    await log.append([record(str(number)) for number in range(2, 20)])

    async with subscribed(log, "indexer") as member:
        records = await read_count(member, 20)
        assert await at_end(member)

    assert values(records) == [str(number).encode() for number in range(20)]
    assert all(earlier.offset < later.offset for earlier, later in pairwise(records))


async def test_append_returns_the_highest_offset_per_partition_written_to(
    log: EventLog,
) -> None:
    first = await log.append([record(str(number), key=str(number).encode()) for number in range(30)])
    second = await log.append([record(str(number), key=str(number).encode()) for number in range(30, 60)])

    records = await read_all(log, "indexer", 60)

    for touched, numbers in ((first, range(30)), (second, range(30, 60))):
        highest: dict[int, int] = {}
        for each in records:
            if int(each.value) in numbers:
                highest[each.partition] = max(each.offset, highest.get(each.partition, -1))
        assert touched == highest


async def test_a_reader_reads_each_partition_from_its_position_on_and_belongs_to_no_group(
    log: EventLog,
) -> None:
    await log.append([record(str(number), key=str(number).encode()) for number in range(30)])
    ends = await log.end()
    begin = {partition: end // 2 for partition, end in ends.items()}
    async with log.reader(begin) as reader, asyncio.timeout(TIMEOUT_S):
        for partition, first in begin.items():
            position = first
            while position < ends[partition]:
                portion = await reader.read(partition, limit=3, wait_s=TIMEOUT_S)
                assert [each.offset for each in portion] == [*range(position, position + len(portion))]
                assert 0 < len(portion) <= 3
                position = portion[-1].offset + 1
            assert await reader.read(partition, limit=3, wait_s=0) == []
        waiting = asyncio.gather(*(reader.read(each, limit=3, wait_s=0.5) for each in begin))
        await log.append([record("new", key=b"0")])
        assert {each.value for found in await waiting for each in found} <= {b"new"}
    assert not await log.groups()


async def test_appending_no_records_writes_nothing(log: EventLog) -> None:
    assert await log.append([]) == {}
    async with subscribed(log, "indexer") as member:
        assert await at_end(member)


async def test_any_bytes_and_all_headers_are_read_back_unchanged(log: EventLog) -> None:
    every_byte = bytes(range(256))
    headers = {"schema": b"1", "binary": every_byte, "empty": b"", "größe": "ü".encode()}
    await log.append([NewRecord(every_byte, b"\x00" + every_byte * 64, headers), NewRecord(b"", b"", {})])

    full, empty = sorted(await read_all(log, "indexer", 2), key=lambda each: len(each.value), reverse=True)

    assert (full.key, full.value, dict(full.headers)) == (every_byte, b"\x00" + every_byte * 64, headers)
    assert (empty.key, empty.value, dict(empty.headers)) == (b"", b"", {})


async def test_records_have_the_time_of_their_append(log: EventLog) -> None:
    await log.append([record("now")])
    (only,) = await read_all(log, "indexer", 1)
    assert only.appended_at > 1_700_000_000


async def test_max_bytes_limits_a_read_but_not_its_first_record(log: EventLog) -> None:
    await log.append([record(b"x" * 1000) for _ in range(10)])
    async with subscribed(log, "indexer") as member:
        sizes: list[int] = []
        async with asyncio.timeout(TIMEOUT_S):
            while sum(sizes) < 10:
                sizes.append(len(await member.read(limit=10, max_bytes=2500, wait_s=TIMEOUT_S)))
        assert max(sizes) <= 2
        await log.append([record(b"x" * 5000)])
        assert len(await member.read(limit=10, max_bytes=1, wait_s=TIMEOUT_S)) == 1


async def test_groups_are_independent(log: EventLog) -> None:
    await log.append([record(str(number)) for number in range(10)])

    one = await read_and_commit(log, "one", 10)
    other = await read_all(log, "other", 10)

    assert values(one) == values(other)
    assert await log.committed("one") == positions_after(one)
    assert await log.committed("other") == {}


async def test_a_new_group_begins_at_the_oldest_record(log: EventLog) -> None:
    await log.append([record("old")])
    await read_and_commit(log, "first", 1)
    await log.append([record("new")])

    assert values(await read_all(log, "late", 2)) == [b"old", b"new"]


async def test_the_listener_gets_all_partitions_and_starting_positions(opener: Opener) -> None:
    async with opener() as log:
        await log.append([record(str(number)) for number in range(5)])
        [partition] = {each.partition for each in await read_and_commit(log, "indexer", 5, finished=3)}

    async with opener() as log:
        listener = Listener()
        async with log.subscribe("indexer", listener) as member:
            rest = await read_count(member, 2)
            assert listener.owned == set(await log.end())
            assert listener.began[partition] == rest[0].offset
            assert await member.end() == await log.end()


async def test_a_group_continues_at_its_committed_position_after_reopening(opener: Opener) -> None:
    async with opener() as log:
        await log.append([record(str(number)) for number in range(10)])
        records = await read_and_commit(log, "indexer", 10, finished=4)

    async with opener() as log:
        assert await log.committed("indexer") == positions_after(records[:4])
        async with subscribed(log, "indexer") as member:
            again = await read_count(member, 6)
            await log.append([record("10")])
            again += await read_count(member, 1)

    assert [each.offset for each in again[:6]] == [each.offset for each in records[4:]]
    assert values(again) == [str(number).encode() for number in range(4, 11)]


async def test_records_that_were_not_committed_are_read_again_by_the_next_member(log: EventLog) -> None:
    await log.append([record("0"), record("1")])
    await read_all(log, "indexer", 2)
    assert values(await read_all(log, "indexer", 2)) == [b"0", b"1"]


async def test_every_assigned_partition_has_an_owner(log: EventLog) -> None:
    assert await log.owners("indexer") == {}
    async with subscribed(log, "indexer"):
        found = await log.owners("indexer")
        assert found.keys() == (await log.end()).keys()
        assert all(found.values())
        assert await log.owners("other") == {}


async def test_a_commit_is_never_lowered(opener: Opener) -> None:
    async with opener() as log:
        await log.append([record(str(number)) for number in range(5)])
        async with subscribed(log, "indexer") as member:
            records = await read_count(member, 5)
            await member.commit(positions_after(records))
            await member.commit(positions_after(records[:2]))
        assert await log.committed("indexer") == positions_after(records)

    async with opener() as log:
        assert await log.committed("indexer") == positions_after(records)


async def test_concurrent_commits_keep_the_highest_position(opener: Opener) -> None:
    async with opener() as log:
        await log.append([record(str(number)) for number in range(5)])
        async with subscribed(log, "indexer") as member:
            records = await read_count(member, 5)
            await asyncio.gather(
                *(member.commit(positions_after(records[:count])) for count in (3, 5, 1, 4, 2))
            )

    async with opener() as log:
        assert await log.committed("indexer") == positions_after(records)


async def test_a_waiting_read_returns_as_soon_as_a_record_is_appended(log: EventLog) -> None:
    async with subscribed(log, "indexer") as member:
        reading = asyncio.ensure_future(member.read(limit=10, max_bytes=MEGABYTE, wait_s=3600))
        await asyncio.sleep(0)
        await log.append([record("at last")])
        async with asyncio.timeout(TIMEOUT_S):
            assert values(list(await reading)) == [b"at last"]


async def test_a_read_of_an_empty_log_returns_no_records(log: EventLog) -> None:
    async with subscribed(log, "indexer") as member:
        assert await at_end(member)
        assert await member.read(limit=10, max_bytes=MEGABYTE, wait_s=0.01) == []


async def test_a_cancelled_read_loses_no_records(log: EventLog) -> None:
    await log.append([record(str(number)) for number in range(100)])
    async with subscribed(log, "indexer") as member:
        begun: list[bytes] = []
        for steps in range(12):
            reading = asyncio.ensure_future(member.read(limit=5, max_bytes=MEGABYTE, wait_s=1))
            for _ in range(steps):
                await asyncio.sleep(0)
            if reading.cancel():
                await asyncio.wait({reading})
            begun += values(list(reading.result())) if not reading.cancelled() else []
        begun += values(await read_count(member, 100 - len(begun)))
    assert begun == [str(number).encode() for number in range(100)]


async def test_concurrent_appends_are_stored_once_and_keep_the_order_of_each_key(log: EventLog) -> None:
    async def append(task: int) -> dict[int, int]:
        answers = [await log.append([record(f"{task}:{at}", b"%d" % task)]) for at in range(10)]
        return answers[-1]

    answers = await asyncio.gather(*(append(task) for task in range(50)))

    async with subscribed(log, "indexer") as member:
        records = await read_count(member, 500, limit=100)
        assert await at_end(member)
    for task, answer in enumerate(answers):
        own = [each for each in records if each.key == b"%d" % task]
        assert values(own) == [f"{task}:{at}".encode() for at in range(10)]
        assert answer == {own[-1].partition: own[-1].offset}
    assert len({(each.partition, each.offset) for each in records}) == 500


async def test_the_end_is_the_offset_of_the_next_record(opener: Opener) -> None:
    async with opener() as log:
        before = await log.end()
        await log.append([record("a"), record("b"), record("c")])
        after = await log.end()
    assert sum(after.values()) - sum(before.values()) == 3

    async with opener() as log:
        assert await log.end() == after
        appended = await log.append([record("d")])
        assert all(after[partition] == offset for partition, offset in appended.items())


async def test_a_dead_letter_is_stored_raw_and_only_once(opener: Opener) -> None:
    async with opener() as log:
        await log.append([NewRecord(b"agent", b"\xff broken", {"schema": b"9"}), record("fine")])
        broken, fine = await read_all(log, "indexer", 2)
        dead_letter = DeadLetter(broken, "undecodable", "no JSON at byte 0", attempts=3)
        await log.append_dead_letters([])
        assert await read_dead_letters(log) == []
        await log.append_dead_letters([dead_letter, dead_letter])
        await log.append_dead_letters([DeadLetter(broken, "another", "reason")])
        assert await read_dead_letters(log) == [dead_letter]

    async with opener() as log:
        await log.append_dead_letters([dead_letter, DeadLetter(fine, "too_large", "17 KiB")])
        assert sorted(each.reason for each in await read_dead_letters(log)) == ["too_large", "undecodable"]


async def test_dead_letters_are_returned_in_the_order_in_which_they_were_stored(log: EventLog) -> None:
    await log.append([record(str(number)) for number in range(150)])
    records = await read_all(log, "indexer", 150)
    found = [DeadLetter(each, "undecodable", "no JSON") for each in reversed(records)]
    for start in range(0, 150, 50):
        await log.append_dead_letters(found[start : start + 50])
    assert await read_dead_letters(log) == found


async def test_iterating_dead_letters_leaves_out_those_added_meanwhile(log: EventLog) -> None:
    """Otherwise an operator who retries each dead letter would never come to an end."""
    await log.append([record(str(number)) for number in range(6)])
    first, second, *others = await read_all(log, "indexer", 6)
    await log.append_dead_letters(
        [DeadLetter(first, "undecodable", ""), DeadLetter(second, "undecodable", "")]
    )
    walked: list[Record] = []
    async for stored in log.dead_letters():
        walked.append(stored.dead_letter.record)
        await log.resolve_dead_letters([stored.record_id], Resolution.RETRIED)
        await log.append_dead_letters([DeadLetter(others.pop(), "undecodable", "")])
    assert walked == [first, second]
    assert len(await read_dead_letters(log)) == 2


async def test_a_resolved_dead_letter_never_comes_back(opener: Opener) -> None:
    async with opener() as log:
        await log.append([record(str(number)) for number in range(4)])
        broken = [DeadLetter(each, "undecodable", "") for each in await read_all(log, "indexer", 4)]
        await log.append_dead_letters(broken[:3])
        await log.resolve_dead_letters([], Resolution.DROPPED)
        await log.resolve_dead_letters([(99, 99)], Resolution.DROPPED)
        [one, two] = [(each.record.partition, each.record.offset) for each in broken[:2]]
        await log.resolve_dead_letters([one, two], Resolution.DROPPED)
        await log.resolve_dead_letters([two], Resolution.RETRIED)
        assert await read_dead_letters(log) == [broken[2]]

    async with opener() as log:
        assert await read_dead_letters(log) == [broken[2]]
        # Another reader of the same record, such as a replay, does not add it again.
        await log.append_dead_letters([broken[0], broken[3]])
        assert await read_dead_letters(log) == broken[2:]


async def test_a_retried_record_is_unchanged_and_keeps_its_attempts_and_first_failure(log: EventLog) -> None:
    await log.append([NewRecord(b"agent", b"\xff broken", {"schema": b"9", "kind": b"put"})])
    [broken] = await read_all(log, "indexer", 1)
    await log.append_dead_letters([DeadLetter(broken, "undecodable", "no JSON at byte 0", attempts=2)])
    [stored] = [each async for each in log.dead_letters()]
    await log.append([retry_headers.retry_record(stored)])
    await log.resolve_dead_letters([stored.record_id], Resolution.RETRIED)

    retried = (await read_all(log, "indexer", 2))[1]
    assert (retried.key, retried.value) == (broken.key, broken.value)
    assert dict(broken.headers).items() <= dict(retried.headers).items()
    assert retry_headers.first_appended_at(retried) == broken.appended_at
    once_more = retry_headers.with_attempts(DeadLetter(retried, "undecodable", "still none"))
    assert once_more.attempts == 3

    await log.append_dead_letters([once_more])
    [back] = [each async for each in log.dead_letters()]
    assert (back.dead_letter, back.failed_at) == (once_more, stored.failed_at)


async def test_retention_s_is_the_configured_retention(log: EventLog) -> None:
    assert log.retention_s == 86_400


# --- where a new group begins --------------------------------------------------------------------------------


async def test_offsets_for_time_returns_the_first_record_at_or_after_it(log):
    assert await log.offsets_for_time(0) == {}
    await log.append([record("a"), record("b")])
    [(partition, (offset, appended_at))] = (await log.offsets_for_time(0)).items()
    assert offset == 0
    assert await log.offsets_for_time(appended_at) == {partition: (offset, appended_at)}
    assert await log.offsets_for_time(appended_at + 3600) == {}


async def test_a_group_begins_at_the_offsets_that_were_set(log):
    await log.append([record(f"{n}") for n in range(10)])
    [(partition, _)] = (await log.offsets_for_time(0)).items()
    await log.set_group_offsets("later", {partition: 7})
    assert (await log.committed("later"))[partition] == 7
    assert [one.value for one in await read_all(log, "later", 3)] == [b"7", b"8", b"9"]
    assert len(await read_all(log, "other", 10)) == 10
    await log.delete_group("later")
