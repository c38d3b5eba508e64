"""Rows in a dictionary, with the guards of the port, for tests of what is folded into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lorestream.memories import Erasure
from lorestream.state.rows import Row, RowGroup, RowKey


class MemoryRows:
    """A RowWriter over a dictionary."""

    def __init__(self) -> None:
        self.stored: dict[RowKey, Row] = {}

    async def rows(self, keys: Sequence[RowKey]) -> list[Row | None]:
        return [self.stored.get(key) for key in keys]

    async def row_page(
        self, group: RowGroup, agent_id: str, *, after: str | None, limit: int
    ) -> tuple[list[Row], str | None]:
        begin = int(after or 0)
        found = [
            row
            for key, row in sorted(self.stored.items(), key=lambda item: str(item[0].parts))
            if row.listed and key.group == group and key.agent_id == agent_id
        ]
        end = begin + limit
        return found[begin:end], str(end) if end < len(found) else None

    async def owners(self, group: RowGroup) -> list[str]:
        return list({key.agent_id for key, row in self.stored.items() if row.listed and key.group == group})

    async def put_rows(self, rows: Sequence[Row]) -> None:
        assert len({row.key for row in rows}) == len(rows)
        for row in rows:
            there = self.stored.get(row.key)
            if there is None or not there.has(row.log, row.offset):
                self.stored[row.key] = row

    async def insert_rows(self, rows: Sequence[Row]) -> None:
        self.stored = {row.key: row for row in rows} | self.stored

    async def delete_rows(self, keys: Sequence[RowKey], *, log: str, offset: int) -> None:
        for key in keys:
            row = self.stored.get(key)
            if row is not None and not row.has(log, offset + 1):
                del self.stored[key]

    async def keep_rows(self, keys: Sequence[RowKey]) -> None:
        for key in keys:
            if key in self.stored:
                self.stored[key] = replace(self.stored[key], expires_at=None)

    def erase(self, erasure: Erasure) -> None:
        self.stored = {key: row for key, row in self.stored.items() if not row.is_covered_by(erasure)}

    def sweep(self, now: float) -> None:
        self.stored = {
            key: row for key, row in self.stored.items() if row.expires_at is None or row.expires_at > now
        }
