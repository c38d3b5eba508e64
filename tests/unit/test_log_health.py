"""What the embedded log says of itself: how its last write ended, and that it is damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.errors import Misconfigured, Unavailable
from lorestream.ports import NewRecord
from tests.fixtures.sqlite_dump import FixedClock

RECORD = NewRecord(b"agent", b"value", {})


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[SqliteLog]:
    async with (
        Database.open(folder / "log.sqlite3") as database,
        SqliteLog.open(database, retention_s=1e9, max_bytes=0, clock=FixedClock()) as log,
    ):
        yield log


async def test_a_log_knows_how_its_last_write_ended(tmp_path: Path) -> None:
    """While another program holds the lock of the file, writes fail; that is known until a write works again."""
    async with opened(tmp_path) as log:
        await log.append([RECORD])
        await log.check()
        with closing(sqlite3.connect(tmp_path / "log.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await log.check()  # nobody has tried yet
            for call in (log.append([RECORD]), log.check(), log.check()):
                with pytest.raises(Unavailable, match="stop the program that holds it"):
                    await call
            other.execute("ROLLBACK")
        await log.check()
        await log.append([RECORD])


async def test_a_damaged_segment_is_said_in_one_line_whose_advice_works(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    async with opened(tmp_path) as log:
        await log.append([RECORD] * 3)
    for damage in (b"\xdc\x00\x03\xff", b"\x91" * 100_000):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE segments SET records = ?", (damage,))
        async with opened(tmp_path) as log:
            for call in (log.last(), log.read("indexer", limit=10, wait_s=0)):
                with pytest.raises(
                    Misconfigured, match=r"offset 0 .*snapshot.*move log.sqlite3 away"
                ) as said:
                    await call
                assert "\n" not in str(said.value)
    async with opened(tmp_path / "elsewhere") as log:
        assert await log.last() is None
        await log.append([RECORD])
