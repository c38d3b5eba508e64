"""What a database of this process holds at one moment, copied beside its writes."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Self

from lorestream.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

_PAGES = 1024  # 4 MB between two looks at whether to stop


class PinnedDatabase:
    """A file as it was when it was pinned. Its write-ahead log is not cut back as long as it is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-copy")
        self._connection: sqlite3.Connection | None = None
        self._stopped = threading.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncGenerator[Self]:
        """Pin the database at `path`, which is in use in WAL mode. Raises Unavailable."""
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
        """Write it to the new file `to`, where these groups and no others have committed these offsets.

        Raises Unavailable for what cannot be read, OSError for what cannot be written.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._copy, to, commits)

    def _pin(self) -> None:
        try:
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            self._connection.execute("PRAGMA query_only=ON")
            # The first read begins the transaction; the backup goes on in it.
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path.name} cannot be read: {error}") from error

    def _unpin(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _copy(self, to: Path, commits: Mapping[str, int]) -> None:
        assert self._connection is not None
        os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(sqlite3.connect(to, isolation_level=None)) as target:
                self._connection.backup(target, pages=_PAGES, progress=self._look)
                target.execute("BEGIN")
                with target:
                    target.execute("DELETE FROM commits")
                    target.executemany("INSERT INTO commits VALUES (?, ?)", commits.items())
        except sqlite3.Error as error:
            raise OSError(errno.EIO, str(error), str(to)) from error

    def _look(self, _status: int, _left: int, _total: int) -> None:
        if self._stopped.is_set():
            raise Unavailable("the copy was broken off")
