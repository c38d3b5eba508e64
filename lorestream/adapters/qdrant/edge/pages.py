"""Points of a shard that are read page by page, so that each call to Edge takes as long as one page does.

A condition that needs the payload takes 6 microseconds for each point, and Edge looks for as many points as it takes to
fill a page. So the points that meet the other conditions, which have an index, are listed page by page, and those of a
page are then held against all conditions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import qdrant_edge as edge

from lorestream.adapters.qdrant.conditions import Clause, Range, conjuncts, payload_conditions
from lorestream.adapters.qdrant.edge.messages import edge_filter, translate_errors
from lorestream.adapters.qdrant.payload import READ_KEYS

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.engine import Payload

_PAGE = 128
"""Points of a page: about 2 ms for memories, 22 ms for parts of policies."""


class Pages:
    """Reads pages of one shard."""

    def __init__(self, shard: edge.EdgeShard) -> None:
        self._shard = shard

    async def scan(self, must: Sequence[Clause]) -> AsyncGenerator[tuple[str, Payload]]:
        """(id, payload) of all points that meet the clauses, by id."""
        async with aclosing(self._pages(must)) as pages:
            async for records in pages:
                for record in records:
                    yield str(record.id), record.payload or {}

    async def payloads(self, must: Sequence[Clause]) -> AsyncGenerator[Sequence[Payload]]:
        """The payloads of all points that meet the clauses, some at a time."""
        async with aclosing(self._pages(must)) as pages:
            async for records in pages:
                yield [record.payload or {} for record in records]

    async def _pages(self, must: Sequence[Clause]) -> AsyncGenerator[Sequence[edge.Record]]:
        whole, indexed = _divided(must)
        listed = edge_filter(*indexed)
        after: edge.PointId | None = None
        while True:
            request = edge.ScrollRequest(
                offset=after,
                limit=_PAGE,
                filter=listed,
                with_payload=READ_KEYS if whole is None else False,
            )
            with translate_errors():
                found, after = self._shard.scroll(request)
            yield found if whole is None else self._checked([one.id for one in found], whole)
            if after is None:
                return
            await asyncio.sleep(0)

    async def in_order(self, must: Sequence[Clause], *, limit: int, oldest_first: bool) -> Sequence[Payload]:
        """The first `limit` points that meet the clauses, some of which need the payload, by the payload key `t`."""
        whole, indexed = _divided(must)
        assert whole is not None
        listed = edge_filter(*indexed)
        direction = edge.Direction.Asc if oldest_first else edge.Direction.Desc
        start = _first_tick(indexed, oldest_first=oldest_first)
        found: list[Payload] = []
        while len(found) < limit:
            request = edge.QueryRequest(
                _PAGE, query=edge.OrderBy("t", direction, start), filter=listed, with_payload=False
            )
            with translate_errors():
                page = self._shard.query(request)
            is_last = len(page) < _PAGE
            if not is_last:
                # The tick in which the page ends may go on behind it: the next page begins with that tick.
                start = cast("int", page[-1].order_value)
                page = [one for one in page if one.order_value != start]
            if page:
                records = self._checked([one.id for one in page], whole)
                checked = {record.id: record.payload or {} for record in records}
                found += [checked[one.id] for one in page if one.id in checked]
            elif start is not None and not is_last:
                async with aclosing(self.scan((*must, Range("t", gte=start, lte=start)))) as same_tick:
                    async for _, payload in same_tick:
                        found.append(payload)
                        if len(found) == limit:
                            break
                start += 1 if oldest_first else -1
            if is_last:
                break
            await asyncio.sleep(0)
        return found[:limit]

    def _checked(self, ids: Sequence[edge.PointId], whole: edge.Filter) -> Sequence[edge.Record]:
        """Those of the points that meet the filter, with their payloads."""
        if not ids:
            return ()
        among = edge.Filter(must=[edge.HasIdCondition(set(ids)), whole])
        with translate_errors():
            found, _ = self._shard.scroll(
                edge.ScrollRequest(limit=len(ids), filter=among, with_payload=READ_KEYS)
            )
        return found


def _divided(must: Sequence[Clause]) -> tuple[edge.Filter | None, Sequence[Clause]]:
    """The filter for all clauses, None if each of them has an index; and those that have one."""
    parts = list(conjuncts(must))
    indexed = [one for one in parts if not payload_conditions([one])]
    return (edge_filter(*parts) if len(indexed) < len(parts) else None), indexed


def _first_tick(clauses: Sequence[Clause], *, oldest_first: bool) -> int | None:
    """Where the points that meet the clauses begin; Edge would look at all points before it."""
    ranges = [one for one in clauses if isinstance(one, Range) and one.key == "t"]
    if oldest_first:
        starts = [one.gte for one in ranges if one.gte is not None]
        starts += [one.gt for one in ranges if one.gt is not None]
        return int(max(starts)) if starts else None
    ends = [one.lte for one in ranges if one.lte is not None]
    ends += [one.lt for one in ranges if one.lt is not None]
    return int(min(ends)) if ends else None
