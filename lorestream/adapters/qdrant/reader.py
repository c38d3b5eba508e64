"""Reads from one collection: searches, pages, counts, single memories. The same for every engine."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic

import numpy as np

from lorestream.adapters.qdrant import scoring
from lorestream.adapters.qdrant.conditions import (
    Clause,
    Group,
    expired_clause,
    scope_clause,
    translate_filter,
    unindexed_conditions,
)
from lorestream.adapters.qdrant.engine import Engine, P, Payload
from lorestream.adapters.qdrant.exact_filter import matches
from lorestream.adapters.qdrant.ordering import OrderedSource, read_in_order
from lorestream.adapters.qdrant.payload import decode_memory, parse_agent_keyword, point_id
from lorestream.adapters.qdrant.scoring import Similarity, rank_by_blend, search_by_blend
from lorestream.errors import ModelMismatch
from lorestream.memories import EVERYTHING, Hit, KeywordQuery
from lorestream.turns import Turns

if TYPE_CHECKING:
    from lorestream.memories import Filter, Memory, PageQuery, Scope, VectorQuery

_NO_LIMIT = sys.maxsize
_LIMIT_GROWTH = 4


@dataclass(frozen=True, slots=True)
class _Selection:
    """Which memories a query selects: conditions for the engine, and a filter to be checked on what it returns.

    `unchecked` is EVERYTHING where the conditions are exact.
    """

    clauses: tuple[Clause, ...]
    unchecked: Filter = EVERYTHING

    def matches(self, memory: Memory) -> bool:
        """Check a memory that the engine returned."""
        return self.unchecked is EVERYTHING or matches(self.unchecked, memory)


async def _decoded(payloads: Sequence[Payload]) -> list[Memory]:
    """The memories in these payloads, decoded with turns for other tasks."""
    memories: list[Memory] = []
    turns = Turns()
    for payload in payloads:
        memories.append(decode_memory(payload))
        await turns.next()
    return memories


class QdrantReader(Generic[P]):
    """A MemoryReader over an engine. `dim`: the number of components of the stored vectors."""

    def __init__(self, engine: Engine[P], *, dim: int) -> None:
        self._engine = engine
        self._traits = engine.traits
        self._dim = dim

    async def search(self, query: VectorQuery | KeywordQuery) -> Sequence[Hit]:
        """The k best by cosine, blend or BM25, exactly; among equal ones the newer come first.

        Raises ModelMismatch for a vector of another dimension.
        """
        if not isinstance(query, KeywordQuery) and len(query.vector) != self._dim:
            raise ModelMismatch(
                f"the query vector has {len(query.vector)} dimensions, the collection has {self._dim}"
            )
        if query.k <= 0:
            return []
        selection = await self._select(query.scope, query.filter, query.now)
        if isinstance(query, KeywordQuery):
            words = scoring.embed_query(query.text)
            return [] if words is None else await self._best(selection, Similarity(words, 0.0), query.k)
        min_relevance = -1.0 if query.min_relevance is None else query.min_relevance
        similarity = Similarity(np.asarray(query.vector, np.float32).tolist(), min_relevance)
        if query.blend is None:
            return await self._best(selection, similarity, query.k)
        # Memories that still have to be checked must not take places in the engine's pool.
        if selection.unchecked is EVERYTHING:
            hits = await search_by_blend(
                self._engine, selection.clauses, similarity, query.blend, k=query.k, now=query.now
            )
            if hits is not None:
                return hits
        pool = await self._best(selection, similarity, query.blend.pool)
        return [hit for _, hit in rank_by_blend(pool, query.blend, query.now)[: query.k]]

    async def page(self, query: PageQuery) -> Sequence[Memory]:
        """At most `query.limit` memories in their order, strictly after `query.after`."""
        selection = await self._select(query.scope, query.filter, query.now)

        async def read_by_tick(limit: int, *clauses: Clause) -> Sequence[Memory]:
            must = (*selection.clauses, *clauses)
            found = await self._engine.ordered_by_time(must, limit=limit, oldest_first=query.oldest_first)
            return await _decoded(found)

        async def read_all(clause: Clause) -> AsyncIterator[Memory]:
            async for _, memory in self._scan(*selection.clauses, clause):
                yield memory

        source = OrderedSource(read_by_tick, read_all, selection.matches, self._traits.batch_size)
        return await read_in_order(source, query.limit, query.after, oldest_first=query.oldest_first)

    async def count(self, query: PageQuery) -> int:
        """How many memories match, exactly; memories for which the engine is uncertain are read and checked."""
        wanted = translate_filter(query.filter, exact_substrings=self._traits.exact_substrings)
        visible = await self._visible(query.scope, query.now)
        must = visible if query.filter == EVERYTHING else (*visible, wanted.plain)
        if wanted.exact:
            return await self._engine.count(must)
        number = await self._engine.count((*must, Group(must_not=(wanted.uncertain,))))
        async for _, memory in self._scan(*visible, wanted.superset, wanted.uncertain):
            number += matches(query.filter, memory)
        return number

    async def get(self, tenant: str, agent_id: str, memory_id: str, *, now: float) -> Memory | None:
        """One memory of that agent; None if there is none, only a tombstone, or an expired memory."""
        point = point_id(tenant, agent_id, memory_id)
        payload = (await self._engine.retrieve([point])).get(point, {})
        if "body" not in payload:
            return None
        memory = decode_memory(payload)
        return None if memory.expires_at is not None and memory.expires_at <= now else memory

    async def cost(self, scope: Scope, filter_: Filter) -> int:
        """Memories of the scope, times conditions of the filter that have no index."""
        conditions = unindexed_conditions(filter_)
        return conditions and conditions * await self._engine.most_points((scope_clause(scope),))

    async def count_by_type(self, scope: Scope, *, limit: int, now: float) -> Sequence[tuple[str, int]]:
        """(type, number of memories) of the most frequent types, the most frequent first, equal ones by name."""
        counts = await self._engine.value_counts("type", await self._visible(scope, now))
        ranked = sorted((-count, name) for name, count in counts)
        return [(name, -count) for count, name in ranked[:limit]]

    async def agents(self, scope: Scope, *, limit: int, now: float) -> Sequence[tuple[str, int]]:
        """(agent_id, number of memories), the largest first, equal ones by id."""
        if limit <= 0:
            return []
        if self._traits.in_process:
            # A facet without a filter is seven times as fast as one with the tenant's condition. So expired
            # memories, of which there are few, are counted in a second call and subtracted.
            within = () if scope.agents is None else (scope_clause(scope),)
            counts = await self._count_per_agent(scope, *within)
            for agent, count in (await self._count_per_agent(scope, *within, expired_clause(now))).items():
                counts[agent] -= count
        else:
            unexpired = Group(must_not=(expired_clause(now),))
            counts = await self._count_per_agent(scope, scope_clause(scope), unexpired)
        ranked = sorted((-count, agent) for agent, count in counts.items() if count > 0)
        return [(agent, -count) for count, agent in ranked[:limit]]

    # --- conditions ----------------------------------------------------------------------------------------

    async def _select(self, scope: Scope, filter_: Filter, now: float) -> _Selection:
        visible = await self._visible(scope, now)
        if filter_ == EVERYTHING:
            return _Selection(visible)
        wanted = translate_filter(filter_, exact_substrings=self._traits.exact_substrings)
        if wanted.exact:
            return _Selection((*visible, wanted.plain))
        if self._traits.in_process:
            if not await self._engine.exists((*visible, wanted.uncertain)):
                return _Selection((*visible, wanted.plain))
            # Most often no number is so near to a bound that the engine cannot tell on which side it is.
            between = (*visible, wanted.superset, Group(must_not=(wanted.subset,)))
            if not await self._engine.exists(between):
                return _Selection((*visible, wanted.subset))
        return _Selection((*visible, wanted.superset), filter_)

    async def _visible(self, scope: Scope, now: float) -> tuple[Clause, ...]:
        """The conditions of scope and expiry. In process the one of expiry is left out while no memory has expired.

        A second condition costs Edge 0.17 microseconds a memory, more than comparing its vector; and between two
        runs of the sweeper almost no memory is expired.
        """
        expired = expired_clause(now)
        if self._traits.in_process and not await self._engine.exists((expired,)):
            return (scope_clause(scope),)
        return (scope_clause(scope), Group(must_not=(expired,)))

    async def _count_per_agent(self, scope: Scope, *must: Clause) -> dict[str, int]:
        counts = await self._engine.value_counts("agent", must)
        keyed = ((parse_agent_keyword(agent), count) for agent, count in counts)
        return {agent: count for (tenant, agent), count in keyed if tenant == scope.tenant}

    async def _scan(self, *must: Clause) -> AsyncIterator[tuple[str, Memory]]:
        """(point id, memory) of all memories that meet the clauses, in no defined order."""
        turns = Turns()
        async with aclosing(self._engine.scan(must)) as records:
            async for point, payload in records:
                yield point, decode_memory(payload)
                await turns.next()

    # --- the k most relevant -------------------------------------------------------------------------------

    async def _best(self, selection: _Selection, similarity: Similarity, k: int) -> Sequence[Hit]:
        """The k most relevant, the most relevant first; among equal ones the newer come first."""
        hits, complete = await self._nearest(selection, similarity, k)
        if complete or hits[-1].relevance < hits[k - 1].relevance:
            return hits[:k]
        # More memories than were read have the relevance of the k-th: find the newest of them.
        relevance = hits[k - 1].relevance
        above = [hit for hit in hits if hit.relevance > relevance]
        tied = await self._newest_tied(selection, similarity, relevance, k - len(above), above)
        return [*above, *(Hit(memory, relevance) for memory in tied)]

    async def _nearest(self, selection: _Selection, similarity: Similarity, k: int) -> tuple[list[Hit], bool]:
        """(hits, complete): more than k hits, sorted; `complete` if the engine has no more hits."""
        limit = k + self._traits.tie_margin
        turns = Turns()
        while True:
            points = await self._engine.nearest(selection.clauses, similarity.nearest(limit))
            scored = [(payload, similarity.relevance(score)) for payload, score in points]
            if selection.unchecked is EVERYTHING and len(scored) > k:
                # Hits behind the first that is less relevant than the k-th cannot be returned: do not decode them.
                least = scored[k - 1][1]
                end = next((n for n, (_, relevance) in enumerate(scored) if relevance < least), len(scored))
                del scored[end + 1 :]
            hits: list[Hit] = []
            for payload, relevance in scored:
                if relevance >= similarity.min_relevance:
                    memory = decode_memory(payload)
                    if selection.matches(memory):
                        hits.append(Hit(memory, relevance))
                    await turns.next()
            complete = len(points) < limit
            if complete or len(hits) > k:
                hits.sort(key=lambda hit: (hit.relevance, hit.memory.position), reverse=True)
                return hits, complete
            limit *= _LIMIT_GROWTH

    async def _newest_tied(
        self,
        selection: _Selection,
        similarity: Similarity,
        relevance: float,
        limit: int,
        above: Collection[Hit],
    ) -> Sequence[Memory]:
        """The newest `limit` memories with exactly this relevance; `above` are all more relevant hits."""
        excluded = {(hit.memory.agent_id, hit.memory.id) for hit in above}

        async def read_by_tick(wanted: int, *clauses: Clause) -> Sequence[Memory]:
            must = (*selection.clauses, *clauses)
            candidates = await self._engine.count(must)
            if not candidates:
                return []
            near = replace(similarity, min_relevance=relevance).nearest(candidates)
            limit = min(wanted, candidates)
            found = await self._engine.ordered_by_time(must, limit=limit, oldest_first=False, near=near)
            return await _decoded(found)

        async def read_all(clause: Clause) -> AsyncIterator[Memory]:
            for memory in await read_by_tick(_NO_LIMIT, clause):
                yield memory

        source = OrderedSource(read_by_tick, read_all, selection.matches, self._traits.batch_size)
        newest = await read_in_order(source, limit + len(above), None, oldest_first=False)
        return [one for one in newest if (one.agent_id, one.id) not in excluded][:limit]
