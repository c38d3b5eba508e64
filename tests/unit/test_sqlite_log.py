"""The embedded log beyond the contract of all logs: offsets, groups, limits, disk errors and retention."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lorestream.adapters.sqlite import segments as segments_sql
from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.errors import Overloaded, Unavailable
from lorestream.ports import DeadLetter, NewRecord, OnLost, Resolution
from lorestream.ports.log import DEAD_LETTER_RETENTION_S
from tests.parts import read_dead_letters

DAY_S = 86_400.0
TIMEOUT_S = 30.0


class SetClock:
    def __init__(self) -> None:
        self.time = 1_760_000_000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    async with Database.open(tmp_path / "lorestream.db") as database:
        yield database


@asynccontextmanager
async def opened(
    database: Database,
    clock: SetClock,
    *,
    max_bytes: int = 0,
    queue_records: int = 20_000,
    on_lost: OnLost | None = None,
) -> AsyncGenerator[SqliteLog]:
    async with SqliteLog.open(
        database,
        retention_s=30 * DAY_S,
        max_bytes=max_bytes,
        queue_records=queue_records,
        clock=clock,
        on_lost=on_lost,
    ) as log:
        yield log


@pytest.fixture
async def log(database: Database, clock: SetClock) -> AsyncGenerator[SqliteLog]:
    async with opened(database, clock) as log:
        yield log


def records(*numbers: int, size: int = 0) -> Sequence[NewRecord]:
    return [NewRecord(b"agent", b"%d" % number + b"." * size, {}) for number in numbers]


async def offsets(log: SqliteLog, group: str) -> list[int]:
    """The offsets that the group has not read yet."""
    found: list[int] = []
    while portion := await log.read(group, limit=100, wait_s=0):
        found += [each.offset for each in portion]
    return found


def segments(connection: sqlite3.Connection) -> int:
    """The number of rows of the table of segments."""
    return connection.execute("SELECT count(*) FROM segments").fetchone()[0]


def footprint(folder: Path) -> int:
    """The size of all files of the database, in bytes."""
    return sum(file.stat().st_size for file in folder.iterdir())


class BlockedWriter:
    """Blocks the writing thread of the database, as a disk that hangs does, until `release`."""

    def __init__(self, database: Database) -> None:
        self._released = threading.Event()
        self._held = database.submit(lambda _: self._released.wait(TIMEOUT_S))

    async def release(self) -> None:
        self._released.set()
        await self._held


async def test_offsets_start_at_zero_and_have_no_gaps(log: SqliteLog) -> None:
    assert await log.append(records(0, 1, 2)) == {0: 2}
    assert await log.append(records(3)) == {0: 3}
    assert await offsets(log, "indexer") == [0, 1, 2, 3]
    assert await log.end() == {0: 4}


async def test_a_batch_larger_than_a_segment_is_read_from_any_offset(
    database: Database, clock: SetClock
) -> None:
    async with opened(database, clock) as log:
        assert await log.append(records(*range(1000))) == {0: 999}
        assert await database.read(segments) == 4
        for start in (0, 1, 255, 256, 257, 511, 999):
            await log.commit(f"from-{start}", {0: start})
    async with opened(database, clock) as log:
        for start in (0, 1, 255, 256, 257, 511, 999):
            portion = await log.read(f"from-{start}", limit=300, wait_s=0)
            assert [int(each.value) for each in portion] == list(range(start, min(start + 300, 1000)))


async def test_records_larger_than_a_segment_are_kept_whole(log: SqliteLog) -> None:
    large = [NewRecord(b"agent", bytes([number]) * 1_500_000, {}) for number in range(3)]
    await log.append([*records(7), *large])
    values = [each.value for each in await log.read("indexer", limit=10, wait_s=0)]
    assert values == [b"7", *(each.value for each in large)]


async def test_appends_and_commits_during_a_write_share_the_next_transaction(
    database: Database, log: SqliteLog
) -> None:
    blocked = BlockedWriter(database)
    appends = [asyncio.ensure_future(log.append(records(number))) for number in range(100)]
    await asyncio.sleep(0)
    commit = asyncio.ensure_future(log.commit("indexer", {0: 0}))
    await asyncio.sleep(0)
    await blocked.release()

    assert await asyncio.gather(*appends) == [{0: number} for number in range(100)]
    await commit
    assert await database.read(segments) == 1


async def test_a_lower_commit_after_a_higher_one_changes_nothing(database: Database, clock: SetClock) -> None:
    async with opened(database, clock) as log:
        await log.append(records(*range(5)))
        blocked = BlockedWriter(database)
        higher = asyncio.ensure_future(log.commit("indexer", {0: 5}))
        for _ in range(3):
            await asyncio.sleep(0)
        lower = asyncio.ensure_future(log.commit("indexer", {0: 3}))
        await asyncio.sleep(0)
        await blocked.release()
        await asyncio.gather(higher, lower)
        assert await log.committed("indexer") == {0: 5}
    async with opened(database, clock) as log:
        assert await log.committed("indexer") == {0: 5}


async def test_an_append_beyond_the_queue_limit_is_refused_and_not_written(
    database: Database, clock: SetClock
) -> None:
    async with opened(database, clock, queue_records=10) as log:
        blocked = BlockedWriter(database)
        waiting = asyncio.ensure_future(log.append(records(*range(8))))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await log.append(records(100, 101, 102))
        fitting = asyncio.ensure_future(log.append(records(8, 9)))
        await asyncio.sleep(0)
        await blocked.release()
        assert await waiting == {0: 7}
        assert await fitting == {0: 9}
        # A batch larger than the whole queue passes when nothing waits: it would never pass otherwise.
        assert await log.append(records(*range(10, 30))) == {0: 29}
        assert [int(each.value) for each in await log.read("indexer", limit=100, wait_s=0)] == list(range(30))


async def test_a_disk_that_hangs_is_reported_within_the_write_timeout(
    database: Database, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorestream.adapters.sqlite.group_commit.WRITE_TIMEOUT_S", 0.05)
    blocked = BlockedWriter(database)
    with pytest.raises(Unavailable, match="did not complete a write"):
        await log.append(records(0))
    with pytest.raises(Unavailable, match="did not complete a write"):
        await log.commit("indexer", {0: 0})
    await blocked.release()
    monkeypatch.undo()
    assert await log.append(records(1)) == {0: 1}


async def test_appends_succeed_again_after_a_full_disk(database: Database, log: SqliteLog) -> None:
    def pages(limit: int) -> Callable[[sqlite3.Connection], None]:
        return lambda connection: connection.execute(f"PRAGMA max_page_count={limit}").fetchone()

    await log.append(records(0))
    await database.write(pages(1))
    refused = await asyncio.gather(
        *(log.append(records(number, size=20_000)) for number in range(5)), return_exceptions=True
    )
    assert [type(each) for each in refused] == [Unavailable] * 5
    assert await log.end() == {0: 1}

    await database.write(pages(1_000_000))
    assert await log.append(records(1)) == {0: 1}
    assert await offsets(log, "indexer") == [0, 1]


async def test_an_append_whose_caller_is_cancelled_is_written_and_wakes_readers(log: SqliteLog) -> None:
    reading = asyncio.ensure_future(log.read("indexer", limit=10, wait_s=3600))
    appending = asyncio.ensure_future(log.append(records(0)))
    await asyncio.sleep(0)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    async with asyncio.timeout(TIMEOUT_S):
        assert [each.offset for each in await reading] == [0]


async def test_closing_writes_what_was_appended_and_wakes_readers(
    database: Database, clock: SetClock
) -> None:
    async with opened(database, clock) as log:
        reading = asyncio.ensure_future(log.read("slow", limit=1, wait_s=3600))
        await asyncio.sleep(0)
        appending = asyncio.ensure_future(log.append(records(0, 1)))
        await asyncio.sleep(0)
    assert await log.end() == {0: 2}
    assert await appending == {0: 1}
    async with asyncio.timeout(TIMEOUT_S):
        await reading
    with pytest.raises(Unavailable, match="closed"):
        await log.append(records(2))
    with pytest.raises(Unavailable, match="closed"):
        await log.commit("indexer", {0: 2})


async def test_the_last_record_survives_reopening(database: Database, clock: SetClock) -> None:
    async with opened(database, clock) as log:
        assert await log.last() is None
        await log.append(records(*range(300)))
    async with opened(database, clock) as log:
        last = await log.last()
        assert last is not None
        assert (last.offset, last.value, last.appended_at) == (299, b"299", clock.now())


# --- retention -------------------------------------------------------------------------------------------


async def test_trim_deletes_records_past_their_retention(log: SqliteLog, clock: SetClock) -> None:
    await log.append(records(0, 1))
    clock.time += 20 * DAY_S
    await log.append(records(2))
    assert await log.trim() == 0
    clock.time += 10.1 * DAY_S
    assert await log.trim() == 2
    assert await offsets(log, "indexer") == [2]


async def test_offsets_are_not_used_again_after_all_records_are_deleted(
    database: Database, clock: SetClock
) -> None:
    async with opened(database, clock) as log:
        await log.append(records(0, 1, 2))
        clock.time += 31 * DAY_S
        assert await log.trim() == 3
        assert await log.end() == {0: 3}
        assert await log.last() is None
    async with opened(database, clock) as log:
        assert await log.end() == {0: 3}
        assert await log.append(records(3)) == {0: 3}
        assert await offsets(log, "indexer") == [3]


async def test_a_read_leaves_the_segments_beyond_its_bytes_alone(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(8):
        await log.append([NewRecord(b"k", b"x" * 600, {})])
    decoded, decode = list[int](), segments_sql._decode
    monkeypatch.setattr(
        segments_sql, "_decode", lambda first, blob: decoded.append(first) or decode(first, blob)
    )
    assert [record.offset for record in await log.read("group", limit=8, max_bytes=1300, wait_s=0)] == [0, 1]
    assert [record.offset for record in await log.read("group", limit=8, max_bytes=1, wait_s=0)] == [2]
    assert decoded == [0, 1, 2, 2, 3]


async def test_trim_deletes_the_oldest_records_beyond_max_bytes(database: Database, clock: SetClock) -> None:
    async with opened(database, clock, max_bytes=50_000) as log:
        for number in range(20):
            await log.append(records(number, size=10_000))
        assert await log.trim() == 16
        assert await offsets(log, "indexer") == [16, 17, 18, 19]
        assert await log.trim() == 0
        await log.append(records(20, size=10_000))
        assert await log.trim() == 1


async def test_without_max_bytes_the_size_is_not_limited(log: SqliteLog) -> None:
    await log.append(records(*range(100), size=10_000))
    assert await log.trim() == 0


async def test_trim_keeps_what_a_group_has_not_committed(database: Database, clock: SetClock) -> None:
    async with opened(database, clock, max_bytes=1) as log:
        for number in range(10):
            await log.append(records(number))
        await log.commit("fast", {0: 10})
        await log.commit("slow", {0: 4})
        clock.time += 31 * DAY_S
        assert await log.trim() == 4
        assert await offsets(log, "slow") == [4, 5, 6, 7, 8, 9]

        await log.commit("slow", {0: 5})
        assert set(await log.groups()) == {"fast", "slow"}
        await log.delete_group("slow")
        assert set(await log.groups()) == {"fast"}
        assert await log.committed("slow") == {}
        assert await log.trim() == 6
    async with opened(database, clock) as log:
        assert await log.committed("slow") == {}
        assert await log.committed("fast") == {0: 10}


class IgnoringListener:
    async def assigned(self, positions: Mapping[int, int]) -> None:
        pass

    async def revoked(self, partitions: Collection[int]) -> None:
        pass


async def test_trim_keeps_what_a_group_reads_that_has_not_committed_yet(
    database: Database, clock: SetClock
) -> None:
    """The first commit comes seconds after the first record: until then a trim deleted records unread."""
    async with opened(database, clock, max_bytes=1) as log:
        await log.append(records(0, 1, 2))
        await log.append(records(3))
        async with log.subscribe("indexer", IgnoringListener()) as member:
            assert await log.trim() == 0
            await member.commit({0: 3})
            assert await log.trim() == 3


async def test_records_that_were_deleted_unread_are_counted(database: Database, clock: SetClock) -> None:
    lost: list[int] = []
    async with opened(database, clock, on_lost=lost.append) as log:
        await log.append(records(*range(10)))
        clock.time += 31 * DAY_S
        assert await log.trim() == 10
        await log.append(records(10))
        assert await offsets(log, "new") == [10]
        assert lost == []  # a new group begins at the oldest record
        await log.set_group_offsets("late", {0: 3})
        assert await offsets(log, "late") == [10]
        assert lost == [7]


async def test_a_large_trim_runs_in_steps_and_returns_its_space(tmp_path: Path, clock: SetClock) -> None:
    async with Database.open(tmp_path / "lorestream.db") as database, opened(database, clock) as log:
        for at in range(40):
            await log.append(records(*range(at * 100, at * 100 + 100), size=4_000))
        clock.time += 31 * DAY_S
        await log.append(records(4000))
        appending = asyncio.ensure_future(log.append(records(4001)))
        assert await log.trim() == 4000
        await appending
        assert await offsets(log, "indexer") == [4000, 4001]
        assert footprint(tmp_path) < 500_000


async def test_dead_letters_have_a_retention_of_their_own(log: SqliteLog, clock: SetClock) -> None:
    first_failure = clock.now()
    await log.append([NewRecord(b"key", b"\xff", {"schema": b"9"})])
    (broken,) = await log.read("indexer", limit=1, wait_s=0)
    await log.append_dead_letters([DeadLetter(broken, "undecodable", "bad byte")])
    clock.time += 60
    await log.append_dead_letters([DeadLetter(broken, "undecodable", "bad byte", attempts=2)])

    (kept,) = await read_dead_letters(log)
    assert kept.failed_at == first_failure
    assert kept.dead_letter == DeadLetter(broken, "undecodable", "bad byte", attempts=1)

    clock.time = first_failure + DEAD_LETTER_RETENTION_S
    await log.trim()
    assert len(await read_dead_letters(log)) == 1
    clock.time += 1
    await log.trim()
    assert await read_dead_letters(log) == []


async def test_a_resolved_dead_letter_does_not_come_back_while_a_replay_can_read_its_record(
    log: SqliteLog, database: Database, clock: SetClock
) -> None:
    await log.append([NewRecord(b"key", b"\xff", {"schema": b"9"})])
    (broken,) = await log.read("indexer", limit=1, wait_s=0)
    dead_letter = DeadLetter(broken, "undecodable", "bad byte")
    await log.append_dead_letters([dead_letter])
    await log.resolve_dead_letters([(broken.partition, broken.offset)], Resolution.DROPPED)
    for _ in range(2):
        clock.time += 20 * DAY_S
        await log.trim()
        await log.append_dead_letters([dead_letter])
        assert await read_dead_letters(log) == []
    clock.time += 5 * DAY_S
    await log.trim()
    assert await database.read(lambda file: file.execute("SELECT * FROM settled_letters").fetchall()) == []


# --- kill -9 ----------------------------------------------------------------------------------------

APPENDER = """
import asyncio, itertools, sys, time
from pathlib import Path
from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.ports import NewRecord

class SystemClock:
    now = staticmethod(time.time)

async def append(log, task):
    for number in itertools.count():
        name = b"%s:%d:%d" % (sys.argv[2].encode(), task, number)
        answer = await log.append([NewRecord(b"%d" % task, name + b"/%d" % part, {}) for part in range(3)])
        print(name.decode(), answer[0], flush=True)

async def main():
    async with Database.open(Path(sys.argv[1])) as database:
        async with SqliteLog.open(database, retention_s=1e9, max_bytes=0, clock=SystemClock()) as log:
            await asyncio.gather(*(append(log, task) for task in range(8)))

asyncio.run(main())
"""


def kill_while_appending(path: Path, life: int, acknowledgements: int) -> list[tuple[str, int]]:
    """Start the appender and kill it after so many acknowledgements; return (record name, offset) of all of them."""
    command = [sys.executable, "-c", APPENDER, str(path), str(life)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as appender:
        assert appender.stdout is not None
        lines = [appender.stdout.readline() for _ in range(acknowledgements)]
        os.kill(appender.pid, signal.SIGKILL)
        lines += appender.stdout.readlines()
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(name, int(offset)) for name, offset in whole]


async def test_every_acknowledged_record_is_stored_once_after_a_kill(tmp_path: Path, clock: SetClock) -> None:
    path = tmp_path / "lorestream.db"
    chance = random.Random(7)
    acknowledged: list[tuple[str, int]] = []
    for life in range(5):
        acknowledged += kill_while_appending(path, life, chance.randint(1, 300))

    async with Database.open(path) as database, opened(database, clock) as log:
        found: dict[int, bytes] = {}
        while portion := await log.read("indexer", limit=500, wait_s=0):
            found |= {each.offset: each.value for each in portion}
        assert await database.read(
            lambda connection: connection.execute("PRAGMA integrity_check").fetchone()
        ) == ("ok",)
    assert sorted(found) == list(range(len(found)))
    assert len(set(found.values())) == len(found)
    for name, offset in acknowledged:
        assert [found[offset - 2 + part] for part in range(3)] == [
            f"{name}/{part}".encode() for part in range(3)
        ]


async def test_two_readers_of_one_group_share_its_records(log: SqliteLog) -> None:
    await log.append(records(*range(40)))
    portions = await asyncio.gather(*(log.read("indexer", limit=10, wait_s=1) for _ in range(4)))
    assert sorted(int(each.value) for portion in portions for each in portion) == list(range(40))
