"""The database file: durability, lock, errors, and recovery from them."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lorestream.adapters.sqlite.database import Database
from lorestream.errors import Misconfigured, Unavailable


def create(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS kept (value BLOB)")


def keep(value: bytes):
    def job(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO kept VALUES (?)", (value,))

    return job


def kept(connection: sqlite3.Connection) -> list[bytes]:
    return [value for (value,) in connection.execute("SELECT value FROM kept")]


def footprint(folder: Path) -> int:
    """The size of all files of the database, in bytes."""
    return sum(file.stat().st_size for file in folder.iterdir())


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def contains(folder: Path, words: bytes) -> bool:
    """Whether any file of the database contains these bytes."""
    return any(words in file.read_bytes() for file in folder.iterdir())


def output(script: str) -> str:
    """The stdout of the Python script, run in another process."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@contextmanager
def largest_file(size: int) -> Generator[None]:
    """Limit the size of every file of this process, in bytes: the kernel fails larger writes with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_every_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "lorestream.db") as database:
        pragmas = [
            await database.write(
                lambda connection, name=name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            )
            for name in ("journal_mode", "synchronous", "auto_vacuum")
        ]
    full, incremental = 2, 2
    assert pragmas == ["wal", full, incremental]


async def test_the_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "lorestream.db") as database:
        await database.write(create)
        found = modes(tmp_path)
    assert set(found) == {"lorestream.db", "lorestream.db-wal", "lorestream.db-shm", "lorestream.db.lock"}
    assert set(found.values()) == {0o600}


async def test_a_job_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        keep(b"half")(connection)
        connection.execute("INSERT INTO nowhere VALUES (1)")

    async with Database.open(tmp_path / "lorestream.db") as database:
        await database.write(create)
        with pytest.raises(Unavailable, match="nowhere"):
            await database.write(half)
        with pytest.raises(ZeroDivisionError):
            await database.write(lambda connection: (keep(b"half")(connection), 1 // 0))
        await database.write(keep(b"whole"))
        assert await database.read(kept) == [b"whole"]


async def test_a_full_database_rejects_writes_until_there_is_space(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "lorestream.db") as database:
        await database.write(create)
        await database.write(keep(b"before"))
        (pages,) = await database.write(lambda connection: connection.execute("PRAGMA page_count").fetchone())
        await database.write(
            lambda connection: connection.execute(f"PRAGMA max_page_count={pages}").fetchone()
        )
        with pytest.raises(Unavailable, match="full"):
            await database.write(keep(b"x" * 100_000))
        assert await database.read(kept) == [b"before"]

        await database.write(lambda connection: connection.execute("PRAGMA max_page_count=100000").fetchone())
        await database.write(keep(b"after"))
        assert await database.read(kept) == [b"before", b"after"]


async def test_writes_succeed_again_after_an_io_error(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "lorestream.db") as database:
        await database.write(create)
        await database.write(keep(b"before"))
        with largest_file((tmp_path / "lorestream.db-wal").stat().st_size + 5000):
            for _ in range(2):
                with pytest.raises(Unavailable, match="I/O"):
                    await database.write(keep(b"x" * 100_000))
            assert await database.read(kept) == [b"before"]
        await database.write(keep(b"after"))

    async with Database.open(tmp_path / "lorestream.db") as database:
        assert await database.read(kept) == [b"before", b"after"]


async def test_writes_fail_while_another_program_holds_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorestream.adapters.sqlite.database.BUSY_TIMEOUT_S", 0.05)
    async with Database.open(tmp_path / "lorestream.db") as database:
        await database.write(create)
        backup = sqlite3.connect(tmp_path / "lorestream.db", isolation_level=None)
        backup.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            await database.write(keep(b"during"))
        assert await database.read(kept) == []
        backup.close()
        await database.write(keep(b"after"))
        assert await database.read(kept) == [b"after"]


async def test_a_closed_database_rejects_reads_and_writes(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "lorestream.db") as database:
        await database.write(create)
    with pytest.raises(Unavailable, match="closed"):
        await database.write(keep(b"late"))
    with pytest.raises(Unavailable, match="closed"):
        await database.read(kept)


async def test_a_cancelled_write_is_still_written(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "lorestream.db") as database:
        await database.write(create)
        writing = asyncio.ensure_future(database.write(keep(b"kept")))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await database.write(keep(b"later"))
        assert await database.read(kept) == [b"kept", b"later"]


async def test_a_read_that_fails_leaves_the_reader_usable(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "lorestream.db") as database:
        await database.write(create)
        with pytest.raises(Unavailable, match="readonly"):
            await database.read(keep(b"by the back door"))
        assert await database.read(kept) == []


async def test_compact_returns_the_space_of_deleted_rows(tmp_path: Path) -> None:
    path = tmp_path / "lorestream.db"
    async with Database.open(path) as database:
        await database.write(create)
        for _ in range(20):
            await database.write(keep(b"secret" * 100_000))
        assert contains(tmp_path, b"secretsecret")
        await database.write(lambda connection: connection.execute("DELETE FROM kept").rowcount)
        await database.compact()
        assert footprint(tmp_path) < 100_000
        assert not contains(tmp_path, b"secretsecret")
    async with Database.open(path) as database:
        assert await database.read(kept) == []


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lorestream.db"
    script = f"""
import asyncio
from pathlib import Path
from lorestream.adapters.sqlite.database import Database
from lorestream.errors import Misconfigured

async def main():
    async with Database.open(Path({str(path)!r})):
        pass

try:
    asyncio.run(main())
except Misconfigured as error:
    print(error)
"""
    async with Database.open(path):
        assert "in use by another process" in output(script)
    assert output(script) == ""


async def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "lorestream.db"
    path.write_bytes(b"not at all a database" * 100)
    with pytest.raises(Misconfigured, match="not a database") as refused:
        async with Database.open(path):
            pass
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == b"not at all a database" * 100


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lorestream.db"
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(Misconfigured, match="newer Lorestream"):
        async with Database.open(path):
            pass


async def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Misconfigured, match="choose another folder"):
        async with Database.open(tmp_path / "file" / "data" / "lorestream.db"):
            pass
    (tmp_path / "lorestream.db").mkdir()
    with pytest.raises(Misconfigured, match="choose another folder"):
        async with Database.open(tmp_path / "lorestream.db"):
            pass
