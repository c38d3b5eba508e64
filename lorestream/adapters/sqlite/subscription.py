"""Reads of the consumer groups of the embedded log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import structlog

from lorestream.adapters.sqlite import segments
from lorestream.adapters.sqlite.segments import PARTITION, UNLIMITED
from lorestream.ports.log import LOST_RECORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorestream.adapters.sqlite.database import Database
    from lorestream.adapters.sqlite.group_commit import GroupCommit
    from lorestream.ports import OnLost, Record

_log = structlog.get_logger("lorestream.sqlite")

READER_BYTES = 2**20
"""What one read outside of a group returns at most, in bytes of values after the first record."""


class GroupReads:
    """Where each consumer group reads: from its last read on, at first from its commit."""

    def __init__(self, database: Database, writes: GroupCommit, on_lost: OnLost) -> None:
        """`on_lost` is called with the number of records that were deleted before a group had read them."""
        self._database = database
        self._writes = writes
        self._on_lost = on_lost
        self._positions: dict[str, int] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def read(
        self, group: str, *, limit: int, max_bytes: int = UNLIMITED, wait_s: float
    ) -> Sequence[Record]:
        """The group's next records: at most `limit`, and `max_bytes` of values after the first. [] after `wait_s`.

        Raises Unavailable.
        """
        async with self._locks[group]:
            position = self._positions.get(group, self._writes.committed.get(group, 0))
            if not await self._writes.wait_for_end_beyond(position, wait_s):
                return []
            records = await self._database.read(
                partial(segments.read, offset=position, limit=limit, max_bytes=max_bytes)
            )
            if records:
                self._count_lost(group, position, records[0].offset)
                self._positions[group] = records[-1].offset + 1
            return records

    def forget(self, group: str) -> None:
        """Let the group read from its commit again."""
        self._positions.pop(group, None)

    def _count_lost(self, group: str, expected: int, got: int) -> None:
        """Report records that were deleted unread. A group without a position begins at the oldest record instead."""
        if got > expected and (group in self._positions or group in self._writes.committed):
            self._on_lost(got - expected)
            _log.warning(LOST_RECORDS, group=group, partition=PARTITION, expected=expected, got=got)


class SqliteSubscription:
    """A Subscription: reads the one partition for one consumer group."""

    def __init__(self, reads: GroupReads, writes: GroupCommit, group: str) -> None:
        self._reads = reads
        self._writes = writes
        self._group = group

    async def read(self, *, limit: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """The next records: at most `limit`, and `max_bytes` of values after the first. [] after `wait_s` seconds.

        Raises Unavailable.
        """
        return await self._reads.read(self._group, limit=limit, max_bytes=max_bytes, wait_s=wait_s)

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store durably the next offset to read. Never lowers it. Raises Unavailable."""
        await self._writes.commit(self._group, positions)

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record will get."""
        return {PARTITION: self._writes.end}


class SqliteReader:
    """A LogReader: reads the one partition outside any group."""

    def __init__(self, database: Database, writes: GroupCommit, position: int) -> None:
        self._database = database
        self._writes = writes
        self._position = position

    async def read(self, partition: int, *, limit: int, wait_s: float) -> Sequence[Record]:
        """The next records: at most `limit`, and READER_BYTES of values after the first. [] after `wait_s` seconds.

        Raises Unavailable.
        """
        assert partition == PARTITION
        if not await self._writes.wait_for_end_beyond(self._position, wait_s):
            return []
        records = await self._database.read(
            partial(segments.read, offset=self._position, limit=limit, max_bytes=READER_BYTES)
        )
        if records:
            self._position = records[-1].offset + 1
        return records
