"""Reads from one collection: searches, pages, counts, single memories. The same for every engine."""

from __future__ import annotations

import copy
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np

from lorestream.adapters.qdrant.adjacent import read_around
from lorestream.adapters.qdrant.conditions import (
    SUPERSEDED,
    Clause,
    Group,
    Ids,
    expired_clause,
    scope_clause,
)
from lorestream.adapters.qdrant.engine import Engine, P
from lorestream.adapters.qdrant.exact_filter import matches
from lorestream.adapters.qdrant.few import FewMemories
from lorestream.adapters.qdrant.filter_translation import (
    TranslatedFilter,
    translate_filter,
    unindexed_conditions,
)
from lorestream.adapters.qdrant.hybrid import HybridSearch
from lorestream.adapters.qdrant.nearest import NearestSearch, Selection, decode_all
from lorestream.adapters.qdrant.ordering import OrderedSource, in_order, read_in_order
from lorestream.adapters.qdrant.payload import (
    agent_keyword,
    decode_memory,
    parse_agent_keyword,
    point_id,
    point_of,
)
from lorestream.adapters.qdrant.rows import QdrantRows
from lorestream.adapters.qdrant.scoring import Similarity, rank_by_blend, search_by_blend
from lorestream.errors import ModelMismatch
from lorestream.memories import EVERYTHING, Hit, HybridQuery, KeywordQuery, VectorQuery
from lorestream.turns import Turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lorestream.adapters.qdrant.words import Words
    from lorestream.memories import Around, AroundQuery, Filter, Memory, PageQuery, Scope
    from lorestream.ports import MemoryReader

_SAME_TIME_S = 10
_KEPT_QUERIES = 64


class QdrantReader(QdrantRows[P]):
    """A MemoryReader over an engine. `dim`: the number of components of the stored vectors; `words`: their layout."""

    def __init__(self, engine: Engine[P], *, dim: int, words: Words) -> None:
        super().__init__(engine)
        self.words = words
        # A search asks twice, and those of a batch often have one text.
        self._words = lru_cache(maxsize=_KEPT_QUERIES)(self._compute_words)
        self._few = FewMemories(engine)
        self._traits = engine.traits
        self._dim = dim

    def for_request(self, anchors: int, span: int) -> MemoryReader:  # noqa: ARG002 (in process nothing is read twice either)
        """A reader for one request: this one."""
        return self

    def _over(self, engine: Engine[P]) -> Self:
        """This reader over another engine of the same collection."""
        found = copy.copy(self)
        found._engine = engine  # noqa: SLF001 (of the same class)
        return found

    async def search(self, query: VectorQuery | KeywordQuery | HybridQuery) -> Sequence[Hit]:
        """The k best by cosine, blend, BM25 or fused score, exactly; among equal ones the newer come first.

        Raises ModelMismatch for a vector of another dimension.
        """
        if not isinstance(query, KeywordQuery) and len(query.vector) != self._dim:
            raise ModelMismatch(
                f"the query vector has {len(query.vector)} dimensions, the collection has {self._dim}"
            )
        if query.k <= 0:
            return []
        selection = await self._select(query.scope, query.filter, query.now)
        if isinstance(query, VectorQuery):
            return await self._by_vector(selection, query)
        if isinstance(query, KeywordQuery):
            words = self._words(query.text)
            return [] if words is None else await NearestSearch(self._engine, selection, words).first(query.k)
        return await self._hybrid(selection, query).first(query.k)

    async def relevance(
        self, query: VectorQuery | KeywordQuery | HybridQuery, memories: Sequence[Memory], like: Hit
    ) -> Sequence[Hit]:
        """These memories as hits of the query. `like`: one of its hits, whose scale the scores have."""
        if isinstance(query, HybridQuery):
            return await self._hybrid(Selection(()), query).of(memories, like.best_words)
        similarity = self._words(query.text) if isinstance(query, KeywordQuery) else _meaning(query.vector)
        keyed = {point_of(memory): memory for memory in memories}
        if similarity is None or not keyed:
            return []
        near = similarity.nearest(len(keyed))
        agents = frozenset(agent_keyword(memory.tenant, memory.agent_id) for memory in memories)
        found = await self._engine.ranked_ids((Ids(frozenset(keyed), agents),), near)
        return [Hit(keyed[key], similarity.relevance(score)) for key, score in found]

    def _compute_words(self, text: str) -> Similarity | None:
        """None for a text without words."""
        embedded = self.words.query(text)
        return None if embedded is None else Similarity(embedded, 0.0)

    def _hybrid(self, selection: Selection, query: HybridQuery) -> HybridSearch:
        return HybridSearch(
            self._engine, self._few, selection, _meaning(query.vector), self._words(query.text)
        )

    async def _by_vector(self, selection: Selection, query: VectorQuery) -> Sequence[Hit]:
        min_relevance = -1.0 if query.min_relevance is None else query.min_relevance
        similarity = Similarity(np.asarray(query.vector, np.float32).tolist(), min_relevance)
        search = NearestSearch(self._engine, selection, similarity)
        if query.blend is None:
            return await search.first(query.k)
        # Memories that still have to be checked must not take places in the engine's pool.
        if selection.unchecked is EVERYTHING:
            hits = await search_by_blend(
                self._engine, selection.clauses, similarity, query.blend, k=query.k, now=query.now
            )
            if hits is not None:
                return hits
        pool = await search.first(query.blend.pool)
        return [hit for _, hit in rank_by_blend(pool, query.blend, query.now)[: query.k]]

    async def page(self, query: PageQuery) -> Sequence[Memory]:
        """At most `query.limit` memories in their order, strictly after `query.after`."""
        selection = await self._superset(query.scope, query.filter, query.now)
        few = await self._few.of(selection.clauses)
        if few is not None:
            return in_order(
                few.memories, selection.matches, query.limit, query.after, oldest_first=query.oldest_first
            )

        async def read_by_tick(limit: int, *clauses: Clause) -> Sequence[Memory]:
            must = (*selection.clauses, *clauses)
            found = await self._engine.ordered_by_time(must, limit=limit, oldest_first=query.oldest_first)
            return await decode_all(found)

        async def read_all(clause: Clause) -> AsyncIterator[Memory]:
            async for _, memory in self._scan(*selection.clauses, clause):
                yield memory

        source = OrderedSource(read_by_tick, read_all, selection.matches, self._traits.batch_size)
        return await read_in_order(source, query.limit, query.after, oldest_first=query.oldest_first)

    async def each(self, query: PageQuery) -> AsyncGenerator[Sequence[Memory]]:
        """All memories that match, some at a time, in no defined order."""
        selection = await self._superset(query.scope, query.filter, query.now)
        async with aclosing(self._engine.payloads(selection.clauses)) as pages:
            async for payloads in pages:
                yield [one for one in await decode_all(payloads) if selection.matches(one)]

    async def around(self, query: AroundQuery) -> Sequence[Around]:
        """The memories before and behind each anchor."""
        if not query.anchors:
            return []
        shown = await self._shown(query.now, superseded=query.superseded)
        return await read_around(self._engine, self._few, shown, query)

    async def count(self, query: PageQuery) -> int:
        """How many memories match, exactly; memories for which the engine is uncertain are read and checked."""
        wanted = self._translated(query.filter)
        visible = await self._visible(query.scope, query.now)
        must = visible if query.filter == EVERYTHING else (*visible, wanted.plain)
        if wanted.exact:
            return await self._engine.count(must)
        number = await self._engine.count((*must, Group(must_not=(wanted.uncertain,))))
        async for _, memory in self._scan(*visible, wanted.superset, wanted.uncertain):
            number += matches(query.filter, memory)
        return number

    async def get(self, tenant: str, agent_id: str, memory_id: str, *, now: float) -> Memory | None:
        """One memory of that agent; None if there is none, only a tombstone, or one that is expired or rewound."""
        point = point_id(tenant, agent_id, memory_id)
        payload = (await self._engine.retrieve([point])).get(point, {})
        if "body" not in payload:
            return None
        memory = decode_memory(payload)
        expired = memory.expires_at is not None and memory.expires_at <= now
        return None if expired or memory.rewound else memory

    async def get_many(
        self, tenant: str, agent_id: str, memory_ids: Sequence[str], *, vectors: bool
    ) -> Sequence[tuple[Memory, NDArray[np.float32] | None]]:
        """The memories of that agent among these ids, each with its vector if it has one and `vectors` is set."""
        points = list(dict.fromkeys(point_id(tenant, agent_id, one) for one in memory_ids))
        stored = {key: one for key, one in (await self._engine.retrieve(points)).items() if "body" in one}
        found = await self._engine.vectors(list(stored)) if vectors else {}
        turns = Turns()
        memories: list[tuple[Memory, NDArray[np.float32] | None]] = []
        for point, payload in stored.items():
            vector = np.asarray(found[point][1], np.float32) if point in found else None
            memory = decode_memory(payload)
            if not memory.rewound:
                memories.append((memory, vector))
            await turns.next()
        return memories

    async def vectors(self, memories: Sequence[Memory]) -> Sequence[NDArray[np.float32] | None]:
        """The vector of each memory, in their order; None for one without."""
        points = [point_of(one) for one in memories]
        found = await self._engine.vectors(points)
        return [np.asarray(found[point][1], np.float32) if point in found else None for point in points]

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
            # A facet without a filter is seven times as fast as one with the tenant's condition. So the memories that
            # are not shown, of which there are few, are counted in a second call and subtracted.
            within = () if scope.agents is None else (scope_clause(scope),)
            counts = await self._count_per_agent(scope, *within)
            hidden = Group(should=_hidden(now, superseded=scope.superseded))
            for agent, count in (await self._count_per_agent(scope, *within, hidden)).items():
                counts[agent] -= count
        else:
            counts = await self._count_per_agent(scope, *await self._visible(scope, now))
        ranked = sorted((-count, agent) for agent, count in counts.items() if count > 0)
        return [(agent, -count) for count, agent in ranked[:limit]]

    # --- conditions ----------------------------------------------------------------------------------------

    async def _select(self, scope: Scope, filter_: Filter, now: float) -> Selection:
        """With exact conditions, where two short looks into the collection show that some are."""
        selection = await self._superset(scope, filter_, now)
        if selection.unchecked is EVERYTHING or not self._traits.in_process:
            return selection
        visible, wanted = selection.clauses[:-1], self._translated(filter_)
        if not await self._engine.exists((*visible, wanted.uncertain)):
            return Selection((*visible, wanted.plain))
        # Most often no number is so near to a bound that the engine cannot tell on which side it is.
        between = (*visible, wanted.superset, Group(must_not=(wanted.subset,)))
        if not await self._engine.exists(between):
            return Selection((*visible, wanted.subset))
        return selection

    async def _superset(self, scope: Scope, filter_: Filter, now: float) -> Selection:
        """For reads of one memory after the other: those about which the engine is uncertain are checked then."""
        visible = await self._visible(scope, now)
        if filter_ == EVERYTHING:
            return Selection(visible)
        wanted = self._translated(filter_)
        return Selection((*visible, wanted.superset), EVERYTHING if wanted.exact else filter_)

    def _translated(self, filter_: Filter) -> TranslatedFilter:
        return translate_filter(filter_, exact_substrings=self._traits.exact_substrings)

    async def _visible(self, scope: Scope, now: float) -> tuple[Clause, ...]:
        """The conditions of scope, and of `_shown`."""
        return (scope_clause(scope), *await self._shown(now, superseded=scope.superseded))

    async def _shown(self, now: float, *, superseded: bool) -> tuple[Clause, ...]:
        """The conditions of expiry and, unless `superseded`, of what no other memory supersedes.

        In process each is left out while no memory is hidden by it. A second condition costs Edge 0.17 microseconds a
        memory, more than comparing its vector; and between two runs of the sweeper almost no memory is expired.
        """
        hidden = _hidden(now, superseded=superseded)
        if self._traits.in_process:
            # The engine is asked for a time that the reads of some seconds share: it keeps its answer meanwhile.
            soon = _hidden(math.ceil(now / _SAME_TIME_S) * _SAME_TIME_S, superseded=superseded)
            asked = zip(hidden, soon, strict=True)
            hidden = tuple([one for one, later in asked if await self._engine.exists((later,))])
        return (Group(must_not=hidden),) if hidden else ()

    async def _count_per_agent(self, scope: Scope, *must: Clause) -> dict[str, int]:
        counts = await self._engine.value_counts("agent", must)
        keyed = ((parse_agent_keyword(agent), count) for agent, count in counts)
        return {agent: count for (tenant, agent), count in keyed if tenant == scope.tenant}

    async def _scan(self, *must: Clause) -> AsyncGenerator[tuple[str, Memory]]:
        """(point id, memory) of all memories that meet the clauses, in no defined order."""
        turns = Turns()
        async with aclosing(self._engine.scan(must)) as records:
            async for point, payload in records:
                yield point, decode_memory(payload)
                await turns.next()


def _hidden(now: float, *, superseded: bool) -> tuple[Clause, ...]:
    """The memories that a read at `now` does not show, whatever its scope: expired ones, and superseded ones."""
    return (expired_clause(now),) if superseded else (expired_clause(now), SUPERSEDED)


def _meaning(vector: Sequence[float]) -> Similarity:
    return Similarity(np.asarray(vector, np.float32).tolist(), -1.0)
