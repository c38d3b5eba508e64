"""One SQLite file of this process: a thread that writes, a thread that reads, and never the event loop.

Every write is one transaction, durable (WAL, `synchronous=FULL`) when its future is done. Only the writer's
connection ever writes or checkpoints. A second process on the same file is refused by a lock beside it;
SQLite's own locks would let it in.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

from lorestream.durable import PRIVATE, LockHeld, ProcessLock
from lorestream.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

SCHEMA_VERSION = 1

BUSY_TIMEOUT_S = 1.0
"""How long a lock of a foreign program (a backup, the sqlite3 shell) is waited for."""

WAL_LIMIT_BYTES = 16 * 1024 * 1024
"""What the write-ahead log is cut back to once it has been checkpointed."""

_HARMLESS = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY})
"""Errors after which the same connection can go on."""

_REMEDIES = {
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_BUSY: "stop the program that holds it",
    sqlite3.SQLITE_READONLY: "give this user the right to write it",
    sqlite3.SQLITE_NOTADB: "this file is something else; move it away",
}


class Database:
    """A file, its two threads and their connections. Belongs to the event loop that opened it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = False
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="sqlite-reader")
        # Each connection is made, used and closed in its own thread only.
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncGenerator[Self]:
        """Open the file at `path`, made with its folder where it is missing; readable by this user alone.

        Raises Misconfigured when it cannot be written, is no database of this version, or is in use by
        another process.
        """
        with _locked(path):
            self = cls(path)
            try:
                await asyncio.get_running_loop().run_in_executor(self._writing, self._prepare)
                # The reader maps the index of the write-ahead log now, while the disk has room for it.
                await self.read(_tables)
                yield self
            finally:
                await self._close()

    def submit(self, job: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `job` in a transaction of its own, after all that were submitted before.

        The future is done when the transaction is durable, and raises Unavailable when it was not written.
        """
        if self._closed:
            raise Unavailable(f"{self._path.name} is closed")
        return asyncio.get_running_loop().run_in_executor(self._writing, self._transact, job)

    async def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Like `submit`, awaited. A caller who is cancelled leaves the write to go on by itself."""
        return await asyncio.shield(self.submit(job))

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run `job` on the reader's connection, beside the writes. Raises Unavailable."""
        if self._closed:
            raise Unavailable(f"{self._path.name} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._query, job)

    async def compact(self) -> None:
        """Give the pages of deleted rows back to the file system, in steps that let other writes between.

        Raises Unavailable.
        """
        for step in (_vacuum_step, _truncate_wal):
            more = True
            while more:
                if self._closed:
                    raise Unavailable(f"{self._path.name} is closed")
                more = await asyncio.get_running_loop().run_in_executor(self._writing, self._run, step)

    def _prepare(self) -> None:
        try:
            self._writer = _connect_writer(self._path)
            (mode,) = self._writer.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                raise Misconfigured(f"{self._path} lies on a network file system: choose a local folder")
            (version,) = self._writer.execute("PRAGMA user_version").fetchone()
            if version not in (0, SCHEMA_VERSION):
                message = (
                    f"{self._path} was made by another version of Lorestream (its schema is {version}, this"
                )
                raise Misconfigured(
                    f"{message} one reads {SCHEMA_VERSION}): use that version, or move it away"
                )
            if not version:
                self._writer.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except sqlite3.Error as error:
            remedy = _REMEDIES.get(_primary(error), "restore it, or choose another folder")
            raise Misconfigured(f"{self._path} cannot be opened ({error}): {remedy}") from error

    def _transact(self, job: Callable[[sqlite3.Connection], T]) -> T:
        def transaction(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                return job(connection)

        return self._run(transaction)

    def _run(self, step: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._writer is None:
                self._writer = _connect_writer(self._path)
            return step(self._writer)
        except sqlite3.Error as error:
            if _primary(error) not in _HARMLESS and self._writer is not None:
                # After an I/O error nothing that the connection believes about the file is worth keeping.
                self._writer.close()
                self._writer = None
            raise Unavailable(f"{self._path.name} cannot be written: {error}") from error

    def _query(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._reader is None:
                self._reader = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
                self._reader.execute("PRAGMA query_only=ON")
            return job(self._reader)
        except sqlite3.Error as error:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            raise Unavailable(f"{self._path.name} cannot be read: {error}") from error

    async def _close(self) -> None:
        self._closed = True
        loop = asyncio.get_running_loop()
        # The writer goes last: who closes last checkpoints.
        await loop.run_in_executor(self._reading, self._close_reader)
        await loop.run_in_executor(self._writing, self._close_writer)
        self._reading.shutdown()
        self._writing.shutdown()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _connect_writer(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        # auto_vacuum counts only before the first table; FAST overwrites what is deleted where that is free.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=FAST").fetchall()
        connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _tables(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]


def _vacuum_step(connection: sqlite3.Connection) -> bool:
    """Release up to 1,000 pages (4 MB); whether there are more."""
    (before,) = connection.execute("PRAGMA freelist_count").fetchone()
    # As a script, because execute() of a pragma without rows stops after the first step, which is one page.
    connection.executescript("PRAGMA incremental_vacuum(1000)")
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return 0 < free < before


def _truncate_wal(connection: sqlite3.Connection) -> bool:
    # Where a reader is in the way this does what it can; the next round does the rest.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return False


def _primary(error: sqlite3.Error) -> int:
    """The primary result code: the low byte of the extended one. Errors of the binding itself have none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the lock beside the database, and create the database file, both readable by this user alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not on the database itself: closing any descriptor of it would release SQLite's own POSIX locks.
        lock = ProcessLock(path.with_name(f"{path.name}.lock"))
    except LockHeld as error:
        raise Misconfigured(
            f"{path} is in use by another process: stop it, or choose another folder"
        ) from error
    except OSError as error:
        raise Misconfigured(
            f"{path.parent} cannot be written ({error.strerror}): choose another folder"
        ) from error
    with lock:
        try:
            # SQLite gives the write-ahead log and its index the mode of the database.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE))
        except OSError as error:
            raise Misconfigured(
                f"{path} cannot be written ({error.strerror}): choose another folder"
            ) from error
        yield
