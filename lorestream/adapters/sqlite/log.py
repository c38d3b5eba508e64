"""The embedded event log: one partition in one SQLite file, written by group commit (see group_commit.py)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

from lorestream.adapters.sqlite import segments
from lorestream.adapters.sqlite.group_commit import GroupCommit
from lorestream.adapters.sqlite.segments import PARTITION, UNLIMITED
from lorestream.adapters.sqlite.subscription import GroupReads, SqliteReader, SqliteSubscription
from lorestream.ports.log import DEAD_LETTER_RETENTION_S, ignore_lost

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Mapping, Sequence

    from lorestream.adapters.sqlite.database import Database
    from lorestream.ports import (
        Clock,
        DeadLetter,
        NewRecord,
        OnLost,
        RebalanceListener,
        Record,
        RecordId,
        Resolution,
        StoredDeadLetter,
    )

_DEAD_LETTERS_PER_PAGE = 64


class SqliteLog:
    """An EventLog with the partition 0. Use it from the event loop that opened it."""

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
        on_lost: OnLost,
        require_space: Callable[[], None],
    ) -> None:
        self._database = database
        self._retention_s = retention_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._writes = GroupCommit(database, end=end, committed=committed, queue_records=queue_records)
        self._reads = GroupReads(database, self._writes, on_lost)
        self._require_space = require_space
        self._subscribed: Counter[str] = Counter()
        """Open subscriptions of each group."""

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
        on_lost: OnLost | None = None,
        require_space: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[Self]:
        """The log in `database`. When the context ends, everything that was appended is written.

        `max_bytes`: the log's size beyond which `trim` deletes the oldest records (0: no limit). `queue_records`:
        how many records may wait for the disk. `on_lost` is called with the number of records that were deleted
        before a group had read them. `require_space` is called before each append; it raises Unavailable when the disk
        is nearly full. Raises Unavailable.
        """
        end, committed = await database.read(segments.load)
        self = cls(
            database,
            retention_s=retention_s,
            max_bytes=max_bytes,
            queue_records=queue_records,
            clock=clock,
            end=end,
            committed=committed,
            on_lost=on_lost or ignore_lost,
            require_space=require_space,
        )
        try:
            yield self
        finally:
            await self._writes.close()

    @property
    def retention_s(self) -> float:
        """How long a record is kept, in seconds."""
        return self._retention_s

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Append in order and return when all records are durable: {0: the offset of the last}.

        Raises Overloaded when `queue_records` records wait already, and Unavailable when they could not be written,
        or not in time: then they may still be written later.
        """
        if not records:
            return {}
        self._require_space()
        now = self._clock.now()
        packed = [segments.pack(record.key, record.value, record.headers, now) for record in records]
        return {PARTITION: await self._writes.append(packed, now)}

    @asynccontextmanager
    async def subscribe(self, group: str, listener: RebalanceListener) -> AsyncGenerator[SqliteSubscription]:
        """Join the group as its only member. What it has not committed when it leaves is read again."""
        self._subscribed[group] += 1
        try:
            await listener.assigned({PARTITION: self._writes.committed.get(group, 0)})
            yield SqliteSubscription(self._reads, self._writes, group)
        finally:
            self._subscribed[group] -= 1
            self._reads.forget(group)

    @asynccontextmanager
    async def reader(self, positions: Mapping[int, int]) -> AsyncGenerator[SqliteReader]:
        """Read from the position of the one partition on, outside any group."""
        yield SqliteReader(self._database, self._writes, positions[PARTITION])

    async def read(
        self, group: str, *, limit: int, max_bytes: int = UNLIMITED, wait_s: float
    ) -> Sequence[Record]:
        """The group's next records: at most `limit`, and `max_bytes` of values after the first. Raises Unavailable."""
        return await self._reads.read(group, limit=limit, max_bytes=max_bytes, wait_s=wait_s)

    async def commit(self, group: str, positions: Mapping[int, int]) -> None:
        """Store durably the next offset that the group reads. Never lowers it. Raises Unavailable."""
        await self._writes.commit(group, positions)

    async def check(self) -> None:
        """Raises Unavailable when an append would fail now: below the floor of free space, or as the last write did.

        After a failed write it tries one that changes nothing, so that it knows when the cause is gone.
        """
        self._require_space()
        await self._writes.check()

    async def committed(self, group: str) -> Mapping[int, int]:
        """The next offset that the group reads; {} when it has never committed."""
        return {PARTITION: self._writes.committed[group]} if group in self._writes.committed else {}

    async def owners(self, group: str) -> Mapping[int, str]:
        """This process while the group has an open subscription."""
        return {PARTITION: f"process {os.getpid()}"} if self._subscribed[group] > 0 else {}

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record will get."""
        return {PARTITION: self._writes.end}

    async def last(self) -> Record | None:
        """The newest record, or None when the log is empty. Raises Unavailable."""
        return await self._database.read(segments.last)

    async def offsets_for_time(self, at: float) -> Mapping[int, tuple[int, float]]:
        """The offset and the Unix time of the first record appended at or after `at`. Raises Unavailable."""
        found = await self._database.read(partial(segments.first_since, at=at))
        return {} if found is None else {PARTITION: (found.offset, found.appended_at)}

    async def set_group_offsets(self, group: str, positions: Mapping[int, int]) -> None:
        """Set the offsets at which a group without members begins. Raises Unavailable."""
        self._reads.forget(group)
        await self.commit(group, positions)

    async def delete_group(self, group: str) -> None:
        """Delete the group's commit, so that `trim` no longer keeps records for it. Raises Unavailable."""

        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM commits WHERE consumers = ?", (group,))

        await self._database.write(delete)
        self._writes.committed.pop(group, None)
        self._reads.forget(group)

    async def groups(self) -> Collection[str]:
        """The groups that have committed."""
        return list(self._writes.committed)

    async def append_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Store records durably as dead letters. Idempotent per partition and offset. Raises Unavailable."""
        if dead_letters:
            await self._database.write(
                partial(segments.insert_dead_letters, dead_letters=dead_letters, failed_at=self._clock.now())
            )

    async def dead_letters(self) -> AsyncGenerator[StoredDeadLetter]:
        """The dead letters that are not resolved, the oldest first. Raises Unavailable."""
        upto, after = await self._database.read(segments.last_dead_letter), 0
        while page := await self._database.read(
            partial(segments.dead_letters, after=after, upto=upto, limit=_DEAD_LETTERS_PER_PAGE)
        ):
            for after, dead_letter in page:  # noqa: B007 (the page's last one)
                yield dead_letter

    async def resolve_dead_letters(self, record_ids: Collection[RecordId], resolution: Resolution) -> None:
        """Delete the dead letters of these records, and ignore later ones of the same records. Raises Unavailable."""
        if await self._database.write(
            partial(
                segments.resolve_dead_letters,
                record_ids=record_ids,
                resolution=resolution,
                resolved_at=self._clock.now(),
            )
        ):
            await self._database.compact()

    async def trim(self) -> int:
        """Delete the records past their retention, and the oldest beyond `max_bytes`; return how many.

        Records from the lowest commit of any group on are kept; all of them while a group reads that has not
        committed yet. Returns the space to the file system. Raises Unavailable.
        """
        now = self._clock.now()
        deleted, more = 0, True
        while more:
            step = partial(
                segments.trim,
                before=now - self._retention_s,
                max_bytes=self._max_bytes,
                floor=min(self._needed_from(), default=None),
            )
            records, more = await self._database.write(step)
            deleted += records
        before = now - DEAD_LETTER_RETENTION_S
        # A replay reads a record again as long as the log has it, and must not add its dead letter again.
        step = partial(segments.trim_dead_letters, before=before, resolved_before=before - self._retention_s)
        dead_letters = await self._database.write(step)
        if deleted or dead_letters:
            await self._database.compact()
        return deleted

    def _needed_from(self) -> Iterator[int]:
        """The offset from which each group still needs the records."""
        yield from self._writes.committed.values()
        yield from (
            0
            for group, members in self._subscribed.items()
            if members and group not in self._writes.committed
        )
