"""Rows in a collection: the ports RowReader and RowWriter over an engine.

Writes are guarded by conditions that the engine evaluates itself, so that a suspended worker cannot replace a newer row.
Bodies may have hundreds of KiB, so they are written and read in steps of a bounded size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic

from lorestream.adapters.qdrant.conditions import Clause, Group, Ids, Match, Range
from lorestream.adapters.qdrant.engine import Engine, P
from lorestream.adapters.qdrant.payload import parse_agent_keyword
from lorestream.adapters.qdrant.row_payload import (
    EXPIRES,
    ROW_KEYS,
    decode_row,
    encode_row,
    group_keyword,
    is_group_of,
    owner_keyword,
    row_id,
)
from lorestream.memories import AgentKey
from lorestream.state.rows import RowKind
from lorestream.turns import Turns

if TYPE_CHECKING:
    from lorestream.state.rows import Row, RowGroup, RowKey

_WRITE_BYTES = 2 * 2**20
"""Bytes of bodies in one write. Edge takes about 16 ms for so many, more than half of it for its log of writes."""
_GUARDED_STEP = 64
"""Rows in one guarded write: its condition names the rows of each offset."""
_READ_STEP = 64
"""Rows in one read: at most 22 MiB."""


class QdrantRows(Generic[P]):
    """RowReader and RowWriter over an engine; the base of the store of the same collection."""

    def __init__(self, engine: Engine[P]) -> None:
        self._engine = engine

    # --- RowReader -----------------------------------------------------------------------------------------

    async def rows(self, keys: Sequence[RowKey]) -> Sequence[Row | None]:
        """The row of each key; None where there is none."""
        ids = [row_id(key) for key in keys]
        found = await self._rows_by_id(ids, frozenset(owner_keyword(key.agent) for key in keys))
        return [found.get(one) for one in ids]

    async def row_page(
        self, group: RowGroup, agent_id: str, *, after: str | None, limit: int
    ) -> tuple[Sequence[Row], str | None]:
        """A page of an agent's rows in a group, by point id; the cursor is the point id of the next page."""
        owner = owner_keyword(AgentKey(group.tenant, agent_id))
        must = (Match("owner", (owner,)), Match("group", (group_keyword(group),)))
        records, following = await self._engine.scroll(must, limit=limit, after=after, with_payload=False)
        ids = [one for one, _ in records]
        found = await self._rows_by_id(ids, frozenset((owner,)))
        return [found[one] for one in ids if one in found], following

    async def owners(self, group: RowGroup) -> Sequence[str]:
        """The ids of all agents with a listed row in the group."""
        counts = await self._engine.value_counts("owner", (Match("group", (group_keyword(group),)),))
        found: list[str] = []
        turns = Turns()
        for owner, count in counts:
            if count > 0:
                found.append(parse_agent_keyword(owner)[1])
            await turns.next()
        return found

    async def documents(self) -> int:
        """The number of documents of all tenants, without deleted ones and policies."""
        groups = await self._engine.value_counts("group", ())
        return sum(count for group, count in groups if is_group_of(RowKind.DOCUMENT, group))

    async def _rows_by_id(self, ids: Sequence[str], agents: frozenset[str] | None = None) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for start in range(0, len(ids), _READ_STEP):
            step = ids[start : start + _READ_STEP]
            payloads = await self._engine.retrieve(step, ROW_KEYS, agents=agents)
            found |= {id_: decode_row(payload) for id_, payload in payloads.items()}
            if len(ids) > _READ_STEP:
                await asyncio.sleep(0)
        return found

    # --- RowWriter -----------------------------------------------------------------------------------------

    async def put_rows(self, rows: Sequence[Row]) -> None:
        """Write rows; where a row has the event of the new one already, it stays."""
        for start in range(0, len(rows), _GUARDED_STEP):
            step = rows[start : start + _GUARDED_STEP]
            ids: dict[tuple[str, int], set[str]] = {}
            for row in step:
                ids.setdefault((row.log, row.offset), set()).add(row_id(row.key))
            older = tuple(
                Group(must=(Ids(frozenset(some)),), must_not=(_has_event(log, offset),))
                for (log, offset), some in ids.items()
            )
            await self._write(step, replace=Group(should=older))

    async def insert_rows(self, rows: Sequence[Row]) -> None:
        """Add the rows whose keys do not exist yet. Others are not changed."""
        await self._write(rows, insert_only=True)

    async def delete_rows(self, keys: Sequence[RowKey], *, log: str, offset: int) -> None:
        """Remove rows without a later event. Unknown keys are ignored."""
        ids = [row_id(key) for key in keys]
        for start in range(0, len(ids), self._engine.traits.batch_size):
            batch = ids[start : start + self._engine.traits.batch_size]
            await self._engine.delete(batch, unless=_has_event(log, offset + 1))

    async def keep_rows(self, keys: Sequence[RowKey]) -> None:
        """Remove the expiry of rows. Unknown keys are ignored."""
        if keys:
            await self._engine.remove_key([row_id(key) for key in keys], EXPIRES)

    async def _write(
        self, rows: Sequence[Row], *, insert_only: bool = False, replace: Clause | None = None
    ) -> None:
        points: list[P] = []
        size = 0
        turns = Turns()
        for row in rows:
            points.append(self._engine.point(row_id(row.key), encode_row(row), None, None))
            size += len(row.body.encode())
            if size >= _WRITE_BYTES:
                await self._engine.upsert(points, insert_only=insert_only, replace=replace)
                points, size = [], 0
            await turns.next()
        if points:
            await self._engine.upsert(points, insert_only=insert_only, replace=replace)


def _has_event(log: str, offset: int) -> Clause:
    """The rows that hold the event at this position, or a later one of the same log: `Row.has`."""
    return Group(must=(Match("log", (log,)), Range("offset", gte=offset)))
