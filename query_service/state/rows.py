"""Rows that a read may show, read in steps, so that large ones neither fill the memory nor hold the event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorestream.turns import Turns

if TYPE_CHECKING:
    from lorestream.ports import ErasureLedger, RowReader
    from lorestream.state.rows import Row, RowGroup, RowKey

PAGE_BYTES = 4 * 2**20
"""A page ends with the entry that reaches this size. Entries may be large: a document has up to 256 KiB."""
ROWS_PER_STEP = 16
"""Rows that are read together: at most 4 MiB of documents."""


@dataclass(frozen=True, slots=True)
class VisibleRows:
    """The rows of a store without those that an erasure covers. All methods raise Unavailable on an outage.

    The store applies erasures, too. This check is needed because it may lag behind, and because a late writer may have
    restored a row.
    """

    store: RowReader
    ledger: ErasureLedger

    async def one(self, key: RowKey) -> Row | None:
        """The row, None where there is none."""
        return (await self._read([key]))[0]

    async def each(self, keys: Sequence[RowKey], step: int = ROWS_PER_STEP) -> AsyncGenerator[Row | None]:
        """The row of each key, None where there is none; read `step` at a time, with turns for other tasks."""
        turns = Turns()
        for start in range(0, len(keys), step):
            for row in await self._read(keys[start : start + step]):
                yield row
                await turns.next()

    async def page(
        self, group: RowGroup, agent_id: str, *, after: str | None, limit: int
    ) -> tuple[Sequence[Row], str | None]:
        """As RowReader.row_page; a page may have fewer rows, or none, before the end."""
        rows, after = await self.store.row_page(group, agent_id, after=after, limit=limit)
        return [row for row in rows if self._is_visible(row)], after

    async def _read(self, keys: Sequence[RowKey]) -> list[Row | None]:
        rows = await self.store.rows(keys)
        return [row if row is not None and self._is_visible(row) else None for row in rows]

    def _is_visible(self, row: Row) -> bool:
        return not self.ledger.covers_state(row.key.agent, row.agent_player, row.since)


@dataclass(frozen=True, slots=True)
class Page:
    """Encoded entries of a list, and the cursor of the next page; None on the last page."""

    entries: Sequence[bytes]
    next_cursor: str | None


class PageBuilder:
    """Collects the entries of a page, which ends at `limit` entries or PAGE_BYTES."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self.entries: list[bytes] = []

    @property
    def left(self) -> int:
        """How many entries may still be added; 0: the page ends here."""
        return 0 if self._size >= PAGE_BYTES else self._limit - len(self.entries)

    def add(self, entry: bytes) -> None:
        """Add an encoded entry."""
        self.entries.append(entry)
        self._size += len(entry)

    def ends(self, next_cursor: str | None = None) -> Page:
        """The page."""
        return Page(self.entries, next_cursor)
