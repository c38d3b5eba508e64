"""Group commit: while one transaction is being written, all appends and commits that arrive wait for the next one.

An fsync takes milliseconds, for one record as for thousands.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from lorestream.adapters.sqlite import segments
from lorestream.errors import Overloaded, Unavailable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from lorestream.adapters.sqlite.database import Database

WRITE_TIMEOUT_S = 1.8
"""How long an append or a commit waits for the disk: callers are promised an answer within 2 s."""


class _Transaction:
    """What the next transaction writes. `written`: done with the offset of its first record."""

    def __init__(self) -> None:
        self.packed: list[bytes] = []
        self.appended_at = 0.0
        self.positions: dict[str, int] = {}
        self.written: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def write(self, connection: sqlite3.Connection) -> int:
        """Runs in the writing thread, after the last addition."""
        segments.commit(connection, self.positions)
        return segments.append(connection, self.packed, self.appended_at)


class GroupCommit:
    """Writes records and the positions of consumer groups, one transaction after the other."""

    def __init__(
        self,
        database: Database,
        *,
        end: int,
        committed: dict[str, int],
        queue_records: int,
    ) -> None:
        """`end`, `committed`: what the file holds. `queue_records`: how many records may wait for the disk."""
        self.end = end
        """The offset that the next record will get."""
        self.committed = committed
        """The next offset to read of each group."""
        self._database = database
        self._queue_records = queue_records
        self._grown = asyncio.Event()
        self._closed = False
        self._last_write_failed = False
        self._next: _Transaction | None = None
        self._writing: _Transaction | None = None
        self._waiting_records = 0

    async def append(self, packed: Sequence[bytes], appended_at: float) -> int:
        """Return the offset of the last of these packed records when all are durable. `appended_at`: Unix seconds.

        Raises Overloaded when `queue_records` records wait already, and Unavailable when they could not be written,
        or not in time: then they may still be written later.
        """
        if self._waiting_records and self._waiting_records + len(packed) > self._queue_records:
            raise Overloaded(f"{self._waiting_records} records are waiting for the disk")
        transaction = self._collecting()
        transaction.packed += packed
        transaction.appended_at = max(appended_at, transaction.appended_at)
        self._waiting_records += len(packed)
        last = len(transaction.packed) - 1
        return await _written(transaction) + last

    async def commit(self, group: str, positions: Mapping[int, int]) -> None:
        """Store durably the next offset that the group reads. Never lowers it. Raises Unavailable."""
        position = positions.get(segments.PARTITION)
        if position is None or position <= self.committed.get(group, -1):
            return
        transaction = self._collecting()
        transaction.positions[group] = max(position, transaction.positions.get(group, 0))
        await _written(transaction)

    async def wait_for_end_beyond(self, position: int, wait_s: float) -> bool:
        """Whether there is a record at this offset; waits for it at most `wait_s` seconds."""
        if position < self.end:
            return True
        try:
            async with asyncio.timeout(wait_s):
                while position >= self.end and not self._closed:
                    await self._grown.wait()
        except TimeoutError:
            return False
        return position < self.end

    async def check(self) -> None:
        """Raises Unavailable when the last write failed, and one that changes nothing fails now."""
        if self._last_write_failed:
            await self._database.write(_change_nothing)
            self._last_write_failed = False

    async def close(self) -> None:
        """Accept nothing more, and wait until everything that was accepted is written."""
        self._closed = True
        self._wake_readers()
        while transaction := self._writing or self._next:
            await asyncio.wait({transaction.written})

    def _collecting(self) -> _Transaction:
        """The transaction to which appends and commits are added; it is written when the one before it is."""
        if self._closed:
            raise Unavailable("the log is closed")
        if self._next is None:
            self._next = _Transaction()
            if self._writing is None:
                # Not at once: other callers that are ready in this iteration of the event loop join it.
                asyncio.get_running_loop().call_soon(self._write_next)
        return self._next

    def _write_next(self) -> None:
        if self._next is None or self._writing is not None:
            return
        transaction = self._writing = self._next
        self._next = None
        self._database.submit(transaction.write).add_done_callback(partial(self._after_write, transaction))

    def _after_write(self, transaction: _Transaction, outcome: asyncio.Future[int]) -> None:
        self._writing = None
        self._waiting_records -= len(transaction.packed)
        self._write_next()
        error = outcome.exception()
        self._last_write_failed = error is not None
        if error is not None:
            transaction.written.set_exception(error)
            # Marks the exception as retrieved: all callers may have been cancelled.
            transaction.written.exception()
            return
        self.end = max(self.end, outcome.result() + len(transaction.packed))
        for name, position in transaction.positions.items():
            self.committed[name] = max(position, self.committed.get(name, 0))
        transaction.written.set_result(outcome.result())
        if transaction.packed:
            self._wake_readers()

    def _wake_readers(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


async def _written(transaction: _Transaction) -> int:
    """The offset of the transaction's first record, when it is durable. Raises Unavailable."""
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            # The transaction is written for all its callers, even when one is cancelled.
            return await asyncio.shield(transaction.written)
    except TimeoutError:
        raise Unavailable(f"the disk did not complete a write within {WRITE_TIMEOUT_S} s") from None


def _change_nothing(_connection: sqlite3.Connection) -> None:
    """A transaction that takes the lock of the file, and writes nothing."""
