"""A copy of a database as it was at one moment, made while writes go on."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import threading
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Self

from lorestream import os_support
from lorestream.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

_PAGES_PER_STEP = 1024  # 4 MB, after which the copy may be stopped


class PinnedDatabase:
    """A read transaction on a database file. While it is open, SQLite cannot truncate the write-ahead log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-copy")
        self._connection: sqlite3.Connection | None = None
        self._stopped = threading.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncGenerator[Self]:
        """Begin the transaction on the database at `path`, which is open in WAL mode. Raises Unavailable."""
        self = cls(path)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._pin)
            yield self
        finally:
            self._stopped.set()
            await loop.run_in_executor(self._thread, self._unpin)
            self._thread.shutdown()

    async def copy(self, to: Path, commits: Mapping[str, int]) -> None:
        """Copy the database to the new file `to`, and replace the commits in the copy.

        `commits`: the next offset of each group. Raises Unavailable when the database cannot be read, and OSError
        when the copy cannot be written.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._copy, to, commits)

    def _pin(self) -> None:
        try:
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            self._connection.execute("PRAGMA query_only=ON")
            # The first read begins the transaction, which the backup continues.
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path.name} cannot be read: {error}") from error

    def _unpin(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _copy(self, to: Path, commits: Mapping[str, int]) -> None:
        assert self._connection is not None
        os_support.create(to, 0o600).close()
        try:
            with closing(sqlite3.connect(to, isolation_level=None)) as target:
                self._connection.backup(target, pages=_PAGES_PER_STEP, progress=self._check_stopped)
                target.execute("BEGIN")
                with target:
                    target.execute("DELETE FROM commits")
                    target.executemany("INSERT INTO commits VALUES (?, ?)", commits.items())
        except sqlite3.Error as error:
            raise OSError(errno.EIO, str(error), str(to)) from error

    def _check_stopped(self, _status: int, _left: int, _total: int) -> None:
        if self._stopped.is_set():
            raise Unavailable("the copy was cancelled")
