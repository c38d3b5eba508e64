"""ActiveRows: the rows of the collection that is searched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorestream.collections.open_collections import OpenCollections
    from lorestream.state.rows import Row, RowGroup, RowKey


class ActiveRows:
    """A RowReader over the collection that is active at the time of each call."""

    def __init__(self, collections: OpenCollections) -> None:
        self._collections = collections

    async def rows(self, keys: Sequence[RowKey]) -> Sequence[Row | None]:
        """The row of each key; None where there is none."""
        return await self._collections.current.store.rows(keys)

    async def row_page(
        self, group: RowGroup, agent_id: str, *, after: str | None, limit: int
    ) -> tuple[Sequence[Row], str | None]:
        """A page of an agent's rows in a group. A cursor is only valid for its own collection."""
        return await self._collections.current.store.row_page(group, agent_id, after=after, limit=limit)

    async def owners(self, group: RowGroup) -> Sequence[str]:
        """The ids of all agents with a listed row in the group."""
        return await self._collections.current.store.owners(group)
