"""A member of a consumer group of the embedded log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorestream.adapters.sqlite.log import SqliteLog
    from lorestream.ports import Record


class SqliteSubscription:
    """A Subscription: reads the one partition for one consumer group."""

    def __init__(self, log: SqliteLog, group: str) -> None:
        self._log = log
        self._group = group

    async def read(self, *, limit: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """The next records: at most `limit`, and `max_bytes` of values after the first. [] after `wait_s` seconds.

        Raises Unavailable.
        """
        return await self._log.read(self._group, limit=limit, max_bytes=max_bytes, wait_s=wait_s)

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store durably the next offset to read. Never lowers it. Raises Unavailable."""
        await self._log.commit(self._group, positions)

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record will get."""
        return await self._log.end()
