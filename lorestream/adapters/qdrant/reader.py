"""Questions to a collection: nearest, in order, how many. The same over every engine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lorestream.adapters.qdrant import bm25
from lorestream.adapters.qdrant.conditions import Clause, Group, bounds, expired, in_scope
from lorestream.adapters.qdrant.engine import Engine
from lorestream.adapters.qdrant.exact_filter import holds
from lorestream.adapters.qdrant.ordering import Source, in_order
from lorestream.adapters.qdrant.payload import agent_of, entry, memory
from lorestream.adapters.qdrant.relevance import Measure, blended, by_blend
from lorestream.memories import EVERYTHING, Hit, KeywordQuery

if TYPE_CHECKING:
    from lorestream.memories import Filter, Memory, PageQuery, Scope, VectorQuery
    from lorestream.ports import Tombstone

_ALL = sys.maxsize


@dataclass(frozen=True, slots=True)
class _Selection:
    """What a question is about: what the engine is asked for, and what it cannot answer exactly."""

    clauses: tuple[Clause, ...]
    unchecked: Filter = EVERYTHING

    def admits(self, found: Memory) -> bool:
        """Whether the memory is meant, where the engine could not be sure."""
        return self.unchecked is EVERYTHING or holds(self.unchecked, found)


class QdrantReader:
    """Answers from one collection. Every method raises Unavailable on an outage."""

    def __init__(self, engine: Engine[Any]) -> None:
        self._engine = engine
        self._traits = engine.traits

    async def search(self, query: VectorQuery | KeywordQuery) -> Sequence[Hit]:
        """The k best, ties by newer, however many are tied."""
        if query.k <= 0:
            return []
        selection = await self._selection(query.scope, query.filter, query.now)
        if isinstance(query, KeywordQuery):
            words = bm25.query(query.text)
            return [] if words is None else await self._best(selection, Measure(words, 0.0), query.k)
        least = -1.0 if query.min_relevance is None else query.min_relevance
        measure = Measure(np.asarray(query.vector, np.float32).tolist(), least)
        if query.blend is None:
            return await self._best(selection, measure, query.k)
        # What the engine is not sure of has to be looked at before it takes a place in the pool.
        if selection.unchecked is EVERYTHING:
            hits = await blended(
                self._engine, selection.clauses, measure, query.blend, k=query.k, now=query.now
            )
            if hits is not None:
                return hits
        pool = await self._best(selection, measure, query.blend.pool)
        return [hit for _, hit in by_blend(pool, query.blend, query.now)[: query.k]]

    async def page(self, query: PageQuery) -> Sequence[Memory]:
        """The next of an order, as many as asked for."""
        selection = await self._selection(query.scope, query.filter, query.now)

        async def first(limit: int, *clauses: Clause) -> Sequence[Memory]:
            must = (*selection.clauses, *clauses)
            found = await self._engine.ordered(must, limit=limit, oldest_first=query.oldest_first)
            return [memory(payload) for payload in found]

        async def every(clause: Clause) -> AsyncIterator[Memory]:
            async for _, found in self.scroll(*selection.clauses, clause):
                yield found

        source = Source(first, every, selection.admits, self._traits.step)
        return await in_order(source, query.limit, query.after, oldest_first=query.oldest_first)

    async def count(self, query: PageQuery) -> int:
        """How many; where the engine is in doubt, by looking at the memories."""
        wanted = bounds(query.filter, substrings=self._traits.substrings)
        visible = await self._visible(query.scope, query.now)
        must = visible if query.filter == EVERYTHING else (*visible, wanted.plain)
        if wanted.exact:
            return await self._engine.count(must)
        number = await self._engine.count((*must, Group(must_not=(wanted.doubt,))))
        async for _, found in self.scroll(*visible, wanted.at_least, wanted.doubt):
            number += holds(query.filter, found)
        return number

    async def get(self, point: str, *, now: float) -> Memory | None:
        """The memory of a point; None for a tombstone, for what has expired, and for nothing."""
        payload = (await self._engine.retrieve([point])).get(point, {})
        if "body" not in payload:
            return None
        found = memory(payload)
        return None if found.expires_at is not None and found.expires_at <= now else found

    async def agents(self, scope: Scope, *, limit: int, now: float) -> Sequence[tuple[str, int]]:
        """The agents with the most memories, equal ones by id."""
        if limit <= 0:
            return []
        if self._traits.in_process:
            # Without a filter the index itself is counted, in a seventh of the time that the tenant's
            # condition takes; so what has expired, mostly nothing, is counted apart.
            within = () if scope.agents is None else (in_scope(scope),)
            counts = await self._per_agent(scope, *within)
            for agent, count in (await self._per_agent(scope, *within, expired(now))).items():
                counts[agent] -= count
        else:
            counts = await self._per_agent(scope, in_scope(scope), Group(must_not=(expired(now),)))
        ranked = sorted((-count, agent) for agent, count in counts.items() if count > 0)
        return [(agent, -count) for count, agent in ranked[:limit]]

    async def scroll(self, *must: Clause) -> AsyncIterator[tuple[str, Memory]]:
        """(point id, memory) of all that meet the clauses, in the order of the point ids."""
        after: str | None = None
        while True:
            records, after = await self._engine.scroll(must, limit=self._traits.step, after=after)
            for point, payload in records:
                yield point, memory(payload)
            if after is None:
                return
            await asyncio.sleep(0)

    async def scan(self, after: str | None, limit: int) -> tuple[Sequence[Memory | Tombstone], str | None]:
        """A page of everything, tombstones too, and the point id at which the next begins."""
        records, following = await self._engine.scroll((), limit=min(limit, self._traits.step), after=after)
        return [entry(payload) for _, payload in records], following

    async def lookup(self, points: Sequence[str]) -> Sequence[Memory | Tombstone | None]:
        """What lies at each point."""
        stored = await self._engine.retrieve(points)
        return [entry(stored[point]) if point in stored else None for point in points]

    # --- what is asked of the engine -----------------------------------------------------------------------

    async def _selection(self, scope: Scope, filter_: Filter, now: float) -> _Selection:
        visible = await self._visible(scope, now)
        if filter_ == EVERYTHING:
            return _Selection(visible)
        wanted = bounds(filter_, substrings=self._traits.substrings)
        if wanted.exact:
            return _Selection((*visible, wanted.plain))
        if self._traits.in_process and not await self._any(*visible, wanted.doubt):
            return _Selection((*visible, wanted.plain))
        return _Selection((*visible, wanted.at_least), filter_)

    async def _visible(self, scope: Scope, now: float) -> tuple[Clause, ...]:
        """Scope and expiry; in the process, the latter only where anything has expired.

        A condition beside the scope costs Edge 0.17 microseconds a memory, more than the comparison of its
        vector; and between two rounds of the sweeper nearly nothing has expired.
        """
        gone = expired(now)
        if self._traits.in_process and not await self._any(gone):
            return (in_scope(scope),)
        return (in_scope(scope), Group(must_not=(gone,)))

    async def _any(self, *must: Clause) -> bool:
        records, _ = await self._engine.scroll(must, limit=1, after=None, with_payload=False)
        return bool(records)

    async def _per_agent(self, scope: Scope, *must: Clause) -> dict[str, int]:
        keyed = ((agent_of(agent), count) for agent, count in await self._engine.agents(must))
        return {agent: count for (tenant, agent), count in keyed if tenant == scope.tenant}

    async def _best(self, selection: _Selection, measure: Measure, k: int) -> Sequence[Hit]:
        """The k most relevant."""
        hits, whole = await self._nearest(selection, measure, k)
        if whole or hits[-1].relevance < hits[k - 1].relevance:
            return hits[:k]
        # The k-th place is tied beyond what was read: of those tied, the newest.
        least = hits[k - 1].relevance
        above = [hit for hit in hits if hit.relevance > least]
        tied = await self._newest_tied(selection, measure, least, k - len(above), above)
        return [*above, *(Hit(found, least) for found in tied)]

    async def _nearest(self, selection: _Selection, measure: Measure, k: int) -> tuple[list[Hit], bool]:
        """By relevance, ties by newer among those read, more than k; and whether no more of them would change it."""
        limit = k + self._traits.spare
        while True:
            points = await self._engine.nearest(selection.clauses, measure.near(limit))
            scored = [(payload, measure.relevance(score)) for payload, score in points]
            if selection.unchecked is EVERYTHING and len(scored) > k:
                # Behind the first that is below the k-th place nothing counts, and to read a memory costs time.
                least = scored[k - 1][1]
                end = next((n for n, (_, relevance) in enumerate(scored) if relevance < least), len(scored))
                del scored[end + 1 :]
            hits = [
                hit
                for payload, relevance in scored
                if relevance >= measure.least
                and selection.admits((hit := Hit(memory(payload), relevance)).memory)
            ]
            whole = len(points) < limit
            if whole or len(hits) > k:
                hits.sort(key=lambda hit: (hit.relevance, hit.memory.order), reverse=True)
                return hits, whole
            limit *= 4

    async def _newest_tied(
        self, selection: _Selection, measure: Measure, least: float, limit: int, above: Collection[Hit]
    ) -> Sequence[Memory]:
        """The newest of those whose relevance is `least`; `above` are all that are nearer."""
        nearer = {(hit.memory.agent_id, hit.memory.id) for hit in above}

        async def first(wanted: int, *clauses: Clause) -> Sequence[Memory]:
            must = (*selection.clauses, *clauses)
            candidates = await self._engine.count(must)
            if not candidates:
                return []
            near = replace(measure, least=least).near(candidates)
            limit = min(wanted, candidates)
            found = await self._engine.ordered(must, limit=limit, oldest_first=False, near=near)
            return [memory(payload) for payload in found]

        async def every(clause: Clause) -> AsyncIterator[Memory]:
            for found in await first(_ALL, clause):
                yield found

        source = Source(first, every, selection.admits, self._traits.step)
        reached = await in_order(source, limit + len(above), None, oldest_first=False)
        return [found for found in reached if (found.agent_id, found.id) not in nearer][:limit]
