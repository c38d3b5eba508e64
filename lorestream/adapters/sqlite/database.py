"""One SQLite file, used by one process: a thread that writes and a thread that reads. Neither is the event loop.

Every write is one transaction, and durable (WAL, `synchronous=FULL`) when its future is done. Only the connection of
the writing thread writes and checkpoints. A lock file beside the database refuses a second process, which SQLite's
own locks would admit.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

from lorestream import os_support
from lorestream.adapters.sqlite import migrations, segments
from lorestream.durable import MAKE_ROOM, PRIVATE, PRIVATE_DIRECTORY, LockHeld, ProcessLock, remedy
from lorestream.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

BUSY_TIMEOUT_S = 1.0
"""How long to wait for a lock of another program, such as a backup or the sqlite3 shell."""

WAL_LIMIT_BYTES = 16 * 1024 * 1024
"""The size to which the write-ahead log is truncated after a checkpoint."""

_CONNECTION_SURVIVES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY})
"""Errors after which the same connection can be used again."""

_REMEDIES = {
    sqlite3.SQLITE_FULL: MAKE_ROOM,
    sqlite3.SQLITE_BUSY: "stop the program that holds it",
    sqlite3.SQLITE_READONLY: "give this user the right to write it",
    sqlite3.SQLITE_NOTADB: segments.DAMAGED,
    sqlite3.SQLITE_CORRUPT: segments.DAMAGED,
}


class Database:
    """A file, its two threads and their connections. Use it from the event loop that opened it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = False
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="sqlite-reader")
        # Each connection is opened, used and closed in its own thread only.
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncGenerator[Self]:
        """Open the file at `path` and migrate its schema.

        The file and its folder are created where they are missing, readable by this user alone. Raises
        Misconfigured when the file cannot be written, is no database, has a newer schema, or is in use by another
        process.
        """
        with _locked(path):
            self = cls(path)
            try:
                await asyncio.get_running_loop().run_in_executor(self._writing, self._prepare)
                # The reader maps the index of the write-ahead log now: later the disk may be full.
                await self.read(_tables)
                yield self
            finally:
                await self._close()

    def submit(self, job: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `job` in the writing thread, in a transaction of its own, after all jobs that were submitted before.

        The future is done when the transaction is durable, and raises Unavailable when it was not written.
        """
        if self._closed:
            raise Unavailable(f"{self._path.name} is closed")
        return asyncio.get_running_loop().run_in_executor(self._writing, self._transact, job)

    async def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Like `submit`, awaited. Cancelling the caller does not cancel the write. Raises Unavailable."""
        written = self.submit(job)
        written.add_done_callback(
            lambda ended: ended.cancelled() or ended.exception()
        )  # the caller may have gone
        return await asyncio.shield(written)

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run `job` in the reading thread, at the same time as writes. Raises Unavailable."""
        if self._closed:
            raise Unavailable(f"{self._path.name} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._query, job)

    async def identity(self) -> str:
        """What tells this log from all others; the same in each copy. Raises Unavailable."""
        (value,) = await self.read(lambda reader: reader.execute("SELECT value FROM identity").fetchone())
        return value

    async def compact(self) -> None:
        """Return the pages of deleted rows to the file system, in steps between which other writes run.

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
            migrations.migrate(self._writer)
        except migrations.NewerSchema as error:
            raise Misconfigured(
                f"{self._path} was written by a newer Lorestream (schema {error.found}, this one reads up to"
                f" {error.known}): start that version, or choose another folder"
            ) from error
        except sqlite3.Error as error:
            remedy = _remedy(error) or "restore it, or choose another folder"
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
            if _primary(error) not in _CONNECTION_SURVIVES and self._writer is not None:
                # After an I/O error the connection's caches may not match the file: the next job opens another.
                self._writer.close()
                self._writer = None
            raise Unavailable(_message(f"{self._path.name} cannot be written", error)) from error

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
            raise Unavailable(_message(f"{self._path.name} cannot be read", error)) from error

    async def _close(self) -> None:
        self._closed = True
        loop = asyncio.get_running_loop()
        # The writer is closed last: the last connection that is closed checkpoints.
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
        # auto_vacuum has an effect only before the first table is created. FAST overwrites deleted content where
        # that costs no further write.
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
    """Release up to 1,000 pages (4 MB). Returns whether there are more."""
    (before,) = connection.execute("PRAGMA freelist_count").fetchone()
    # As a script: execute() of a pragma without rows stops after its first step, which releases one page.
    connection.executescript("PRAGMA incremental_vacuum(1000)")
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return 0 < free < before


def _truncate_wal(connection: sqlite3.Connection) -> bool:
    # While a reader uses the write-ahead log this truncates nothing; the next call does.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return False


def _remedy(error: sqlite3.Error) -> str | None:
    """What to do about an error, None when that is not known."""
    return _REMEDIES.get(_primary(error))


def _message(what: str, error: sqlite3.Error) -> str:
    remedy = _remedy(error)
    return f"{what}: {error}" if remedy is None else f"{what} ({error}): {remedy}"


def _primary(error: sqlite3.Error) -> int:
    """The primary result code: the low byte of the extended one. Errors of Python's binding have none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the lock beside the database, and create the database file, both readable by this user alone."""
    try:
        path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        # Not on the database itself: closing any descriptor of it would release SQLite's own POSIX locks.
        lock = ProcessLock(path.with_name(f"{path.name}.lock"))
    except LockHeld as error:
        raise Misconfigured(
            f"{path} is in use by another process: stop it, or choose another folder"
        ) from error
    except OSError as error:
        raise Misconfigured(
            f"{path.parent} cannot be written ({error.strerror}): {remedy(error)}, or choose another folder"
        ) from error
    with lock:
        try:
            # SQLite gives the write-ahead log and its index the mode of the database.
            os_support.touch(path, PRIVATE)
        except OSError as error:
            raise Misconfigured(
                f"{path} cannot be written ({error.strerror}): {remedy(error)}, or choose another folder"
            ) from error
        yield
