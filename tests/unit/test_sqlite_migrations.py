"""The schema of the embedded database: files of every released version are migrated, and read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lorestream.adapters.sqlite import migrations
from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.erasure_ledger import SqliteErasureLedger
from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.adapters.sqlite.pinned_copy import PinnedDatabase
from lorestream.errors import Misconfigured
from lorestream.memories import SubjectKind
from tests.fixtures.sqlite_dump import NOW, FixedClock
from tests.parts import read_dead_letters

DUMPS = sorted((Path(__file__).parents[1] / "fixtures").glob("sqlite_v*.sql"))


def load(dump: Path, path: Path) -> Path:
    """The database file that the SQL describes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))
    return path


def schema(path: Path) -> dict[str, str]:
    """The tables, each as the SQL that made it."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


async def opened(path: Path) -> None:
    async with Database.open(path):
        pass


async def test_every_released_version_has_its_fixture() -> None:
    assert [dump.stem for dump in DUMPS] == [
        f"sqlite_v{number}" for number in range(1, len(migrations.MIGRATIONS) + 1)
    ]


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
async def test_a_file_of_an_earlier_version_is_migrated_and_read(tmp_path: Path, dump: Path) -> None:
    path, clock = load(dump, tmp_path / "log.sqlite3"), FixedClock()
    async with Database.open(path) as database:
        ledger = await SqliteErasureLedger.open(database, clock=clock)
        async with SqliteLog.open(database, retention_s=1e9, max_bytes=0, clock=clock) as log:
            assert await log.end() == {0: 5}
            assert await log.committed("indexer") == {0: 4}
            records = await log.read("test", limit=10, wait_s=0)
            assert [record.value for record in records] == [b"value %d" % number for number in range(5)]
            assert [len(record.headers) for record in records] == [1, 1, 1, 0, 0]
            assert {record.appended_at for record in records} == {NOW}
            [dead_letter] = await read_dead_letters(log)
            assert dead_letter.dead_letter.record == records[2]
        running = await ledger.state("e-1")
        assert running is not None
        assert not running.done
        assert running.erasure.kind is SubjectKind.PLAYER
        assert running.erasure.subjects == ("subject-1",)
        done = await ledger.state("e-0")
        assert done is not None
        assert done.done
    assert version(path) == len(migrations.MIGRATIONS)
    await opened(tmp_path / "new")
    assert schema(path) == schema(tmp_path / "new")


async def test_migrations_run_once_in_order_and_keep_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = load(DUMPS[0], tmp_path / "log.sqlite3")
    later = (
        ("CREATE TABLE notes (text TEXT)", "INSERT INTO notes SELECT consumers FROM commits"),
        ("INSERT INTO notes VALUES ('second')",),
    )
    monkeypatch.setattr(migrations, "MIGRATIONS", (migrations.MIGRATIONS[0], *later))
    for _ in range(2):
        async with Database.open(path) as database:
            notes = await database.read(
                lambda connection: connection.execute("SELECT * FROM notes").fetchall()
            )
        assert notes == [("indexer",), ("second",)]
        assert version(path) == 3


async def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = load(DUMPS[0], tmp_path / "log.sqlite3")
    before = schema(path)
    broken = ("CREATE TABLE notes (text TEXT)", "DELETE FROM commits", "INSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr(migrations, "MIGRATIONS", (migrations.MIGRATIONS[0], broken))
    with pytest.raises(Misconfigured, match="no such table: nowhere") as refused:
        await opened(path)
    assert "\n" not in str(refused.value)
    assert (version(path), schema(path)) == (1, before)
    monkeypatch.undo()
    async with Database.open(path) as database:
        commits = await database.read(
            lambda connection: connection.execute("SELECT * FROM commits").fetchall()
        )
    assert commits == [("indexer", 4)]


async def test_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    path = load(DUMPS[-1], tmp_path / "log.sqlite3")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(Misconfigured, match=r"newer Lorestream.*99.*start that version") as refused:
        await opened(path)
    assert "\n" not in str(refused.value)
    assert version(path) == 99


async def test_each_log_has_an_identity_of_its_own_that_stays(tmp_path: Path) -> None:
    async def identity(name: str) -> str:
        async with Database.open(tmp_path / name) as database:
            return await database.identity()

    async with Database.open(tmp_path / "a") as database:
        found = await database.identity()
        pinned = PinnedDatabase.open(tmp_path / "a")
        async with pinned as copied:
            await copied.copy(tmp_path / "copy", {})
    load(DUMPS[0], tmp_path / "migrated")
    assert await identity("a") == await identity("copy") == found
    names = {found, await identity("b"), await identity("migrated")}
    assert len(names) == 3
    assert min(map(len, names)) == 32
