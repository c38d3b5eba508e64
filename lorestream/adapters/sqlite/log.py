"""The embedded event log: one partition in one SQLite file, appended in groups.

While one transaction is on its way to the disk, everything that is appended or committed gathers for the next
one: a sync costs milliseconds, whether for one record or for thousands.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

from lorestream.adapters.sqlite import segments
from lorestream.adapters.sqlite.segments import PARTITION
from lorestream.errors import Overloaded, Unavailable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from lorestream.adapters.sqlite.database import Database
    from lorestream.ports import (
        Clock,
        DeadLetter,
        NewRecord,
        RebalanceListener,
        Record,
        RecordId,
        Resolution,
        StoredDeadLetter,
    )

DEAD_LETTER_RETENTION_S = 14 * 86_400.0

UNBOUNDED = sys.maxsize

_DEAD_LETTERS_PER_PAGE = 64

WRITE_TIMEOUT_S = 1.8
"""How long an append or a commit waits for a disk that hangs: callers are promised an answer within 2 s."""


class _Group:
    """What one transaction takes. `written` gets the offset of its first record."""

    def __init__(self) -> None:
        self.packed: list[bytes] = []
        self.appended_at = 0.0
        self.positions: dict[str, int] = {}
        self.written: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def write(self, connection: sqlite3.Connection) -> int:
        """Run in the writer's thread, when nothing is added any more."""
        segments.commit(connection, self.positions)
        return segments.append(connection, self.packed, self.appended_at)


class SqliteSubscription:
    """A Subscription to the one partition."""

    def __init__(self, log: SqliteLog, group: str) -> None:
        self._log = log
        self._group = group

    async def read(self, *, limit: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """The next records, waiting up to `wait_s` for the first. Raises Unavailable."""
        return await self._log.read(self._group, limit=limit, max_bytes=max_bytes, wait_s=wait_s)

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store, durably, the next offset to read. Never lowers it. Raises Unavailable."""
        await self._log.commit(self._group, positions)

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record will get."""
        return await self._log.end()


class SqliteLog:
    """An EventLog with the partition 0. Belongs to the event loop that opened it."""

    def __init__(
        self,
        database: Database,
        *,
        retention_s: float,
        max_bytes: int,
        queue_records: int,
        clock: Clock,
        end: int,
        committed: dict[str, int],
    ) -> None:
        self._database = database
        self._retention_s = retention_s
        self._max_bytes = max_bytes
        self._queue_records = queue_records
        self._clock = clock
        self._end = end
        self._committed = committed
        self._positions: dict[str, int] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._grown = asyncio.Event()
        self._gathering: _Group | None = None
        self._writing: _Group | None = None
        self._waiting_records = 0
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        database: Database,
        *,
        retention_s: float,
        max_bytes: int,
        queue_records: int = 20_000,
        clock: Clock,
    ) -> AsyncGenerator[Self]:
        """The log in `database`; on leaving, what was appended is still written.

        `max_bytes` bounds the records kept (0: no bound), `queue_records` those that wait for the disk.
        Raises Unavailable.
        """
        end, committed = await database.write(segments.create)
        self = cls(
            database,
            retention_s=retention_s,
            max_bytes=max_bytes,
            queue_records=queue_records,
            clock=clock,
            end=end,
            committed=committed,
        )
        try:
            yield self
        finally:
            await self._close()

    @property
    def retention_s(self) -> float:
        """How long a record is kept, in seconds."""
        return self._retention_s

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Append in order; return once all are durable: the partition's highest offset of them.

        Raises Overloaded when `queue_records` wait already, and Unavailable when the disk does not take them
        or not in time; in the latter case they may still be written.
        """
        if not records:
            return {}
        if self._waiting_records and self._waiting_records + len(records) > self._queue_records:
            raise Overloaded(f"{self._waiting_records} records are waiting for the disk")
        now = self._clock.now()
        packed = [segments.pack(record.key, record.value, record.headers, now) for record in records]
        group = self._group()
        group.packed += packed
        group.appended_at = max(now, group.appended_at)
        self._waiting_records += len(packed)
        last = len(group.packed) - 1
        return {PARTITION: await self._written(group) + last}

    @asynccontextmanager
    async def subscribe(self, group: str, listener: RebalanceListener) -> AsyncGenerator[SqliteSubscription]:
        """Become the group's only member. Leaving, it is not told: what it has not committed is read again."""
        await listener.assigned({PARTITION: self._committed.get(group, 0)})
        try:
            yield SqliteSubscription(self, group)
        finally:
            self._positions.pop(group, None)

    async def read(
        self, group: str, *, limit: int, max_bytes: int = UNBOUNDED, wait_s: float
    ) -> Sequence[Record]:
        """The group's next records, at most `limit` and, behind the first, `max_bytes`. Raises Unavailable."""
        async with self._turns[group]:
            position = self._positions.get(group, self._committed.get(group, 0))
            if not await self._grows_past(position, wait_s):
                return []
            records = await self._database.read(partial(segments.read, offset=position, limit=limit))
            records = records[: _within(records, max_bytes)]
            if records:
                self._positions[group] = records[-1].offset + 1
            return records

    async def commit(self, group: str, positions: Mapping[int, int]) -> None:
        """Store, durably, the group's next offset. Never lowers it. Raises Unavailable."""
        position = positions.get(PARTITION)
        if position is None or position <= self._committed.get(group, -1):
            return
        gathering = self._group()
        gathering.positions[group] = max(position, gathering.positions.get(group, 0))
        await self._written(gathering)

    async def committed(self, group: str) -> Mapping[int, int]:
        """The group's next offset, if it has ever committed one."""
        return {PARTITION: self._committed[group]} if group in self._committed else {}

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record will get."""
        return {PARTITION: self._end}

    async def last(self) -> Record | None:
        """The newest record that is still there. Raises Unavailable."""
        return await self._database.read(segments.last)

    async def offsets_for_time(self, at: float) -> Mapping[int, tuple[int, float]]:
        """The first record from the Unix time `at` on: its offset, and its time. Raises Unavailable."""
        found = await self._database.read(partial(segments.since, at=at))
        return {} if found is None else {PARTITION: (found.offset, found.appended_at)}

    async def set_group_offsets(self, group: str, positions: Mapping[int, int]) -> None:
        """Let a group that nobody is a member of begin at these offsets. Raises Unavailable."""
        self._positions.pop(group, None)
        await self.commit(group, positions)

    async def delete_group(self, group: str) -> None:
        """Drop the group's commit, so that it holds back no trim any more. Raises Unavailable."""

        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM commits WHERE consumers = ?", (group,))

        await self._database.write(delete)
        self._committed.pop(group, None)
        self._positions.pop(group, None)

    async def groups(self) -> Collection[str]:
        """The groups that have ever committed."""
        return list(self._committed)

    async def append_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Set records aside durably, raw, with the reason. Idempotent per partition and offset."""
        if dead_letters:
            await self._database.write(
                partial(segments.insert_dead_letters, dead_letters=dead_letters, failed_at=self._clock.now())
            )

    async def dead_letters(self) -> AsyncGenerator[StoredDeadLetter]:
        """The records set aside and not settled, the earliest first. Raises Unavailable."""
        upto, after = await self._database.read(segments.last_dead_letter), 0
        while page := await self._database.read(
            partial(segments.dead_letters, after=after, upto=upto, limit=_DEAD_LETTERS_PER_PAGE)
        ):
            for after, dead_letter in page:  # noqa: B007 (the page's last one)
                yield dead_letter

    async def resolve_dead_letters(self, record_ids: Collection[RecordId], resolution: Resolution) -> None:
        """Remove the letters of these records, and let none of them come back. Raises Unavailable."""
        if await self._database.write(
            partial(
                segments.resolve_dead_letters,
                record_ids=record_ids,
                resolution=resolution,
                settled_at=self._clock.now(),
            )
        ):
            await self._database.compact()

    async def trim(self) -> int:
        """Delete what is past its retention, and the oldest beyond `max_bytes`; return how many records went.

        What a group that has ever committed has not finished stays. Gives the space back to the file system.
        Raises Unavailable.
        """
        now = self._clock.now()
        gone, more = 0, True
        while more:
            step = partial(
                segments.trim,
                before=now - self._retention_s,
                max_bytes=self._max_bytes,
                floor=min(self._committed.values(), default=None),
            )
            records, more = await self._database.write(step)
            gone += records
        dead_letters = await self._database.write(
            partial(segments.trim_dead_letters, before=now - DEAD_LETTER_RETENTION_S)
        )
        if gone or dead_letters:
            await self._database.compact()
        return gone

    async def _grows_past(self, position: int, wait_s: float) -> bool:
        if position < self._end:
            return True
        try:
            async with asyncio.timeout(wait_s):
                while position >= self._end and not self._closed:
                    await self._grown.wait()
        except TimeoutError:
            return False
        return position < self._end

    def _group(self) -> _Group:
        """The group that is gathering; a new one goes to the writer as soon as that is free."""
        if self._closed:
            raise Unavailable("the log is closed")
        if self._gathering is None:
            self._gathering = _Group()
            if self._writing is None:
                # Not at once: what else is ready in this turn of the loop comes along.
                asyncio.get_running_loop().call_soon(self._write_next)
        return self._gathering

    def _write_next(self) -> None:
        if self._gathering is None or self._writing is not None:
            return
        group = self._writing = self._gathering
        self._gathering = None
        self._database.submit(group.write).add_done_callback(partial(self._after_write, group))

    def _after_write(self, group: _Group, outcome: asyncio.Future[int]) -> None:
        self._writing = None
        self._waiting_records -= len(group.packed)
        self._write_next()
        error = outcome.exception()
        if error is not None:
            group.written.set_exception(error)
            # Its callers may all have gone; nobody is left to be told then.
            group.written.exception()
            return
        self._end = max(self._end, outcome.result() + len(group.packed))
        for name, position in group.positions.items():
            self._committed[name] = max(position, self._committed.get(name, 0))
        group.written.set_result(outcome.result())
        if group.packed:
            self._wake_readers()

    async def _written(self, group: _Group) -> int:
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                # The group is written for all its callers, whoever of them goes away.
                return await asyncio.shield(group.written)
        except TimeoutError:
            raise Unavailable(f"the disk took no write for {WRITE_TIMEOUT_S} s") from None

    def _wake_readers(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def _close(self) -> None:
        self._closed = True
        self._wake_readers()
        while group := self._writing or self._gathering:
            await asyncio.wait({group.written})


def _within(records: Sequence[Record], max_bytes: int) -> int:
    """How many of the records, at least one, have values of at most `max_bytes` together."""
    taken = 0
    for number, record in enumerate(records):
        taken += len(record.value)
        if number and taken > max_bytes:
            return number
    return len(records)
