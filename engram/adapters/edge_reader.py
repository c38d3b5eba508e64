"""Questions to a Qdrant Edge shard: nearest, in order, how many."""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import qdrant_edge as edge

from engram.adapters.edge_filters import edge_filter
from engram.adapters.edge_shard import VECTOR, translated
from engram.adapters.memory_filters import holds
from engram.adapters.qdrant_conditions import Clause, Group, Range, bounds, expired, in_scope
from engram.adapters.qdrant_payload import READ, agent_of, memory, ticks
from engram.memories import EVERYTHING, Hit

if TYPE_CHECKING:
    from engram.memories import Filter, Memory, PageQuery, Position, Scope, VectorQuery

STEP = 256
"""Points read at once where many are read: about 2 ms, then others get their turn."""

_EXACT = edge.SearchParams(exact=True)
_ALL = sys.maxsize


@dataclass(frozen=True, slots=True)
class _Selection:
    """What a question is about: what Edge is asked for, and what it cannot answer exactly."""

    clauses: tuple[Clause, ...]
    unchecked: Filter = EVERYTHING

    def filter(self, *more: Clause) -> edge.Filter:
        return edge_filter(*self.clauses, *more)

    def admits(self, found: Memory) -> bool:
        """Whether the memory is meant, where Edge could not be sure."""
        return self.unchecked is EVERYTHING or holds(self.unchecked, found)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where an order is read from."""

    first: Callable[..., Sequence[Memory]]
    """At most so many of those that meet some clauses, by the tick of their time: (limit, *clauses)."""
    every: Callable[[Clause], AsyncIterator[Memory]]
    """All that meet a clause, in no order."""
    admits: Callable[[Memory], bool]


class EdgeReader:
    """Answers from one shard. Every method raises Unavailable when Edge fails."""

    def __init__(self, shard: edge.EdgeShard) -> None:
        self._shard = shard

    async def search(self, query: VectorQuery) -> Sequence[Hit]:
        """The k nearest, ties by newer, however many are tied."""
        if query.k <= 0:
            return []
        selection = self._selection(query.scope, query.filter, query.now)
        vector = np.asarray(query.vector, np.float32).tolist()
        hits = self._nearest(selection, vector, query.k, query.min_relevance)
        if len(hits) <= query.k or hits[query.k].relevance < hits[query.k - 1].relevance:
            return hits[: query.k]
        # The k-th place is tied beyond what was read: of those tied, the newest.
        least = hits[query.k - 1].relevance
        above = [hit for hit in hits if hit.relevance > least]
        tied = await self._newest_tied(selection, vector, least, query.k - len(above), above)
        return [*above, *(Hit(found, least) for found in tied)]

    async def page(self, query: PageQuery) -> Sequence[Memory]:
        """The next of an order, as many as asked for."""
        selection = self._selection(query.scope, query.filter, query.now)
        direction = edge.Direction.Asc if query.oldest_first else edge.Direction.Desc

        def first(limit: int, *clauses: Clause) -> Sequence[Memory]:
            order, filter_ = edge.OrderBy("t", direction), selection.filter(*clauses)
            request = edge.QueryRequest(limit, query=order, filter=filter_, with_payload=READ)
            return [memory(point.payload or {}) for point in self._query(request)]

        async def every(clause: Clause) -> AsyncIterator[Memory]:
            async for _, found in self.scroll(selection.filter(clause)):
                yield found

        source = _Source(first, every, selection.admits)
        return await _in_order(source, query.limit, query.after, oldest_first=query.oldest_first)

    async def count(self, query: PageQuery) -> int:
        """How many; where Edge is in doubt, by looking at the memories."""
        wanted = bounds(query.filter)
        visible = self._visible(query.scope, query.now)
        clauses = visible if query.filter == EVERYTHING else (*visible, wanted.plain)
        if not wanted.exact:
            clauses = (*clauses, Group(must_not=(wanted.doubt,)))
        with translated():
            number = self._shard.count(edge.CountRequest(filter=edge_filter(*clauses)))
        if not wanted.exact:
            async for _, found in self.scroll(edge_filter(*visible, wanted.at_least, wanted.doubt)):
                number += holds(query.filter, found)
        return number

    def get(self, point: str, *, now: float) -> Memory | None:
        """The memory of a point; None for a tombstone, for what has expired, and for nothing."""
        with translated():
            records = self._shard.retrieve([point], with_payload=READ, with_vector=False)
        if not records or "body" not in (records[0].payload or {}):
            return None
        found = memory(records[0].payload or {})
        return None if found.expires_at is not None and found.expires_at <= now else found

    def agents(self, scope: Scope, *, limit: int, now: float) -> Sequence[tuple[str, int]]:
        """The agents with the most memories, equal ones by id."""
        if limit <= 0:
            return []
        counts = self._per_agent(scope)
        # Without a filter the index itself is counted, in a seventh of the time that the tenant's condition
        # takes; so what has expired, mostly nothing, is counted apart.
        for agent, count in self._per_agent(scope, expired(now)).items():
            counts[agent] -= count
        ranked = sorted((-count, agent) for agent, count in counts.items() if count > 0)
        return [(agent, -count) for count, agent in ranked[:limit]]

    async def scroll(self, filter_: edge.Filter) -> AsyncIterator[tuple[str, Memory]]:
        """(point id, memory) of all that meet the filter, in the order of the point ids."""
        offset: edge.PointId | None = None
        while True:
            request = edge.ScrollRequest(offset=offset, limit=STEP, filter=filter_, with_payload=READ)
            with translated():
                records, offset = self._shard.scroll(request)
            for record in records:
                yield str(record.id), memory(record.payload or {})
            if offset is None:
                return
            await asyncio.sleep(0)

    def _per_agent(self, scope: Scope, *clauses: Clause) -> dict[str, int]:
        if scope.agents is not None:
            clauses = (in_scope(scope), *clauses)
        with translated():
            most = max(1, self._shard.info().points_count)
            request = edge.FacetRequest("agent", most, exact=True, filter=edge_filter(*clauses))
            facets = self._shard.facet(request).hits
        keyed = ((agent_of(str(facet.value)), facet.count) for facet in facets)
        return {agent: count for (tenant, agent), count in keyed if tenant == scope.tenant}

    # --- what is asked of Edge -----------------------------------------------------------------------------

    def _selection(self, scope: Scope, filter_: Filter, now: float) -> _Selection:
        visible = self._visible(scope, now)
        if filter_ == EVERYTHING:
            return _Selection(visible)
        wanted = bounds(filter_)
        if wanted.exact or not self._any(*visible, wanted.doubt):
            return _Selection((*visible, wanted.plain))
        return _Selection((*visible, wanted.at_least), filter_)

    def _visible(self, scope: Scope, now: float) -> tuple[Clause, ...]:
        """Scope and expiry; the latter only where anything has expired.

        A condition beside the scope costs 0.17 microseconds a memory, more than the comparison of its
        vector; and between two rounds of the sweeper nearly nothing has expired.
        """
        gone = expired(now)
        return (in_scope(scope), Group(must_not=(gone,))) if self._any(gone) else (in_scope(scope),)

    def _any(self, *clauses: Clause) -> bool:
        request = edge.ScrollRequest(limit=1, filter=edge_filter(*clauses), with_payload=False)
        with translated():
            records, _ = self._shard.scroll(request)
        return bool(records)

    def _query(self, request: edge.QueryRequest) -> Sequence[edge.ScoredPoint]:
        with translated():
            return self._shard.query(request)

    def _nearest(
        self, selection: _Selection, vector: list[float], k: int, min_relevance: float | None
    ) -> list[Hit]:
        """By relevance, ties by newer among those read: more than k of them, unless there are no more."""
        least = -1.0 if min_relevance is None else min_relevance
        limit = k + 1
        while True:
            request = edge.QueryRequest(
                limit,
                query=edge.Query.Nearest(vector, VECTOR),
                filter=selection.filter(),
                score_threshold=_below(least),
                with_payload=READ,
                params=_EXACT,
            )
            points = self._query(request)
            hits = [hit for hit in _hits(points) if hit.relevance >= least and selection.admits(hit.memory)]
            if len(hits) > k or len(points) < limit:
                return sorted(hits, key=lambda hit: (hit.relevance, hit.memory.order), reverse=True)
            limit *= 4

    async def _newest_tied(
        self, selection: _Selection, vector: list[float], least: float, limit: int, above: Collection[Hit]
    ) -> Sequence[Memory]:
        """The newest of those whose relevance is `least`; `above` are all that are nearer."""
        nearer = {(hit.memory.agent_id, hit.memory.id) for hit in above}

        def first(wanted: int, *clauses: Clause) -> Sequence[Memory]:
            filter_ = selection.filter(*clauses)
            with translated():
                candidates = self._shard.count(edge.CountRequest(filter=filter_))
            if not candidates:
                return []
            near = edge.Prefetch(
                candidates,
                query=edge.Query.Nearest(vector, VECTOR),
                params=_EXACT,
                filter=filter_,
                score_threshold=_below(least),
            )
            order = edge.OrderBy("t", edge.Direction.Desc)
            limit = min(wanted, candidates)
            request = edge.QueryRequest(limit, prefetches=[near], query=order, with_payload=READ)
            return [memory(point.payload or {}) for point in self._query(request)]

        async def every(clause: Clause) -> AsyncIterator[Memory]:
            for found in first(_ALL, clause):
                yield found

        source = _Source(first, every, selection.admits)
        reached = await _in_order(source, limit + len(above), None, oldest_first=False)
        return [found for found in reached if (found.agent_id, found.id) not in nearer][:limit]


def _hits(points: Sequence[edge.ScoredPoint]) -> Iterator[Hit]:
    for point in points:
        # Rounding takes the cosine of equal vectors a little past 1.
        yield Hit(memory(point.payload or {}), max(-1.0, min(1.0, point.score)))


def _below(relevance: float) -> float | None:
    """The threshold that lets this relevance pass: Edge wants more than it, in 32 bits."""
    if relevance <= -1.0:
        return None
    return float(np.nextafter(np.float32(relevance), np.float32(-2.0)))


async def _in_order(
    source: _Source, limit: int, after: Position | None, *, oldest_first: bool
) -> list[Memory]:
    """The next `limit` memories in their order, from a source that knows it only to the tick.

    Those that share a tick come in no order, and not in the same one twice; so a tick at which a page
    begins or ends is read whole.
    """
    found: list[Memory] = []
    tick = None if after is None else ticks(after[0])
    while len(found) < limit:
        if tick is not None:
            found += await _of_tick(source, tick, limit - len(found), after, oldest_first=oldest_first)
            after = None
            if len(found) >= limit:
                break
        wanted = limit - len(found) + 1
        beyond: tuple[Clause, ...] = ()
        if tick is not None:
            beyond = (Range("t", gt=tick) if oldest_first else Range("t", lt=tick),)
        batch = whole = source.first(wanted, *beyond)
        if len(batch) == wanted:
            tick = ticks(batch[-1].timestamp)
            whole = [one for one in batch if ticks(one.timestamp) != tick]
        admitted = [one for one in whole if source.admits(one)]
        found += sorted(admitted, key=lambda one: one.order, reverse=not oldest_first)
        if len(batch) < wanted:
            break
        await asyncio.sleep(0)
    return found[:limit]


async def _of_tick(
    source: _Source, tick: int, limit: int, after: Position | None, *, oldest_first: bool
) -> list[Memory]:
    """The first `limit` memories of one tick, strictly after a position."""
    choose = heapq.nsmallest if oldest_first else heapq.nlargest
    best: list[Memory] = []
    async for one in source.every(Range("t", gte=tick, lte=tick)):
        if _follows(one, after, oldest_first=oldest_first) and source.admits(one):
            best.append(one)
        if len(best) >= limit + STEP:
            best = choose(limit, best, key=lambda one: one.order)
    return choose(limit, best, key=lambda one: one.order)


def _follows(one: Memory, position: Position | None, *, oldest_first: bool) -> bool:
    if position is None:
        return True
    return one.order > position if oldest_first else one.order < position
