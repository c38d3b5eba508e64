"""Retrieval: from a checked query to ranked memories, by a vector store and an embedder.

embed_queries     texts to vectors, with a time limit
ReadGuard         which memories a read may return, checked on each memory
visible_memories  pages of a store, checked by a guard
Retriever         the memories of one query: dense, keyword, hybrid, or without text the newest
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from lorestream.errors import Overloaded, Unavailable
from lorestream.limits import MAX_K
from lorestream.memories import (
    And,
    AroundQuery,
    Filter,
    Hit,
    HybridQuery,
    KeywordQuery,
    Memory,
    PageQuery,
    VectorQuery,
)
from lorestream.ports import Priority, Role
from lorestream.turns import Turns
from query_service.neighbours import (
    SEEDS,
    SPAN,
    Neighbours,
    Pairs,
    lift_neighbours,
    nearest_first,
    with_neighbours,
)
from query_service.ranking import RERANK_POOL_SIZE, Ranked, blend_all, normalised, top_k
from query_service.records import with_records
from query_service.time_words import TimeSpan, lift_by_time, parse_time_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorestream.memories import Blend, Position, Scope
    from lorestream.ports import Embedder, ErasureLedger, MemoryReader
    from lorestream.telemetry import Stages
    from query_service.accesses import Accesses
    from query_service.queries import SearchQuery
    from query_service.rerank import SecondLook

EMBEDDING_TIMEOUT_S = 3.0
"""How long a query waits for its vector. A remote endpoint that fails is reported as an outage after 2 s.

Queries that arrive while the model is busy are embedded together in its next call. Delaying a call to collect more
of them does not pay: on two cores, a delay of 1 ms (2 ms) raised the median latency at 20 queries a second from
7.8 ms to 9.4 ms (11.6 ms), and gained nothing at 100 or 160 a second.
"""
_LIMIT_GROWTH = 4
_MAX_PAGE = 1000

Vector: TypeAlias = "NDArray[np.float32]"
_QueryWithLimit: TypeAlias = "Callable[[int], VectorQuery | KeywordQuery | HybridQuery]"
"""The query to the store for a given k."""


async def embed_queries(embedder: Embedder, texts: Iterable[str]) -> dict[str, Vector]:
    """The vector (dim,) of each distinct text, in one call.

    Raises Overloaded after EMBEDDING_TIMEOUT_S, InvalidRequest if a remote endpoint rejects one of the texts,
    Unavailable.
    """
    distinct = list(dict.fromkeys(texts))
    try:
        async with asyncio.timeout(EMBEDDING_TIMEOUT_S):
            embedded = await embedder.embed(distinct, Priority.QUERY, Role.QUERY)
    except TimeoutError as error:
        if embedder.failure is not None:  # the query waited behind others that were tried again
            raise Unavailable(embedder.failure) from error
        raise Overloaded(
            f"no vector within {EMBEDDING_TIMEOUT_S:g} s: too many texts wait for the embedder"
        ) from error
    return dict(zip(distinct, embedded.vectors, strict=True))


@dataclass(frozen=True, slots=True)
class ReadGuard:
    """Which memories one read may return: those of its scope that have not expired, been erased or rewound.

    The store applies the same conditions. This check is needed because the store may lag behind: a late writer
    may have added a memory that an erasure covers.
    """

    scope: Scope
    now: float
    ledger: ErasureLedger

    def admits(self, memory: Memory) -> bool:
        """True if the read may return the memory."""
        scope = self.scope
        return (
            memory.tenant == scope.tenant
            and (scope.agents is None or memory.agent_id in scope.agents)
            and (memory.expires_at is None or memory.expires_at > self.now)
            and not self.ledger.covers(memory)
            and not self.ledger.rewinds.covers(memory)
        )

    def strip(self, memory: Memory) -> Memory:
        """What the read may return of a memory that it admits: no erased players, and no erased corrections."""
        return self.ledger.strip(memory)


async def visible_memories(store: MemoryReader, query: PageQuery, guard: ReadGuard) -> AsyncIterator[Memory]:
    """All memories of `query` that the guard admits, in order.

    The store is read `query.limit` at a time, and more at each further time, in case the caller rejects most of them.
    """
    after: Position | None = query.after
    limit = query.limit
    turns = Turns()
    while True:
        page = await store.page(replace(query, after=after, limit=limit))
        for memory in page:
            if guard.admits(memory):
                yield guard.strip(memory)
            await turns.next()
        if len(page) < limit:
            return
        after = page[-1].position
        limit = max(limit, min(_LIMIT_GROWTH * limit, _MAX_PAGE))


@dataclass(frozen=True, slots=True)
class Retriever:
    """Retrieves the memories of one query. All methods raise Unavailable on an outage."""

    store: MemoryReader
    embedder: Embedder
    query: SearchQuery
    guard: ReadGuard
    neighbours: float = 0.0
    """How much the memories next to each other lift their scores, in 0 to 1."""
    gap_s: float = 0.0
    """The most seconds between memories next to each other that have no conversation."""
    accesses: Accesses | None = None
    second_look: SecondLook | None = None
    """Orders the best memories anew; None: the query does not ask for it."""
    stages: Stages = field(kw_only=True)
    """Measures the stages of the query."""

    async def top_k(self, vector: Vector | None = None) -> list[Ranked]:
        """The best k, the best first; among equal scores the newer comes first.

        `vector`: of the query's text, if the caller has it already. Raises also what `embed_queries` raises.
        """
        query = self.query
        ranked = await (self._by_time() if query.text is None else self._by_relevance(query.text, vector))
        if query.min_score is not None:
            ranked = [one for one in ranked if one.score >= query.min_score]
        best = top_k(ranked, query.k)
        return [replace(one, memory=self.guard.strip(one.memory)) for one in best]

    async def beside(self, ranked: Sequence[Ranked]) -> list[Memory]:
        """The memories next to these: for each, one before and two behind it, if the answer may show them."""
        anchors = [one.memory for one in ranked]
        query = AroundQuery(
            anchors, SPAN, self.gap_s, self.guard.now, self.query.filter, self.guard.scope.superseded
        )
        around = await self.store.around(query)
        shown = (memory for one in around for memory in nearest_first(one) if self._shows(memory))
        return [self.guard.strip(memory) for memory in shown]

    async def newest(self, limit: int) -> list[Memory]:
        """The newest `limit` memories that match the query's filter and sphere, with records of types that it names."""
        query, sphere = self.query, self.query.sphere
        scope = with_records(query.agents.scope, query.filter)
        page = PageQuery(scope, limit, self.guard.now, store_filter(query))
        found: list[Memory] = []
        with self.stages("search"):
            async for memory in visible_memories(self.store, page, self.guard):
                if sphere is None or sphere.contains(memory):
                    found.append(memory)
                    if len(found) == limit:
                        break
        return found

    async def _by_time(self) -> list[Ranked]:
        """Without a text all matching memories are equally relevant: 1, as search engines score a pure filter."""
        found = await self.newest(self.query.k if self.query.blend is None else RERANK_POOL_SIZE)
        return await self._through_stages([Ranked(memory, 1.0, {}) for memory in found])

    async def _by_relevance(self, text: str, vector: Vector | None) -> list[Ranked]:
        mode = self.query.mode
        if mode == "keyword":
            return await self._ranked(self._keyword_query)
        if vector is None:
            with self.stages("embed"):
                vector = (await embed_queries(self.embedder, [text]))[text]
        components: list[float] = vector.tolist()
        return await (self._hybrid(components) if mode == "hybrid" else self._dense(components))

    async def _dense(self, vector: Sequence[float]) -> list[Ranked]:
        """At least the k best memories, by cosine or by its blend with recency and importance."""
        query = self.query
        if query.blend is None:
            # A neighbour, its time or a second look can lift a memory above the least score.
            lifts = self.neighbours or query.time_words or self.second_look
            min_relevance = None if lifts else _clamp_cosine(query.min_score)
            return await self._ranked(self._vector_query(vector, min_relevance=min_relevance))
        if not self._needs_pool(query.blend):
            with self.stages("search"):
                best = await self.store.search(self._vector_query(vector, with_blend=True)(query.k))
            if all(self.guard.admits(hit.memory) for hit in best):
                return await self._through_stages([_without_blend(hit) for hit in best])
        # The store may not have applied the newest erasures: fill the pool here instead.
        return await self._through_stages(await self._ranked(self._vector_query(vector)))

    def _needs_pool(self, blend: Blend) -> bool:
        """True if something beside the blend changes scores or decides what is shown, so the store cannot rank alone."""
        query = self.query
        lifts = self.neighbours or self._span is not None or self.second_look is not None
        return bool(query.sphere is not None or lifts or blend.by_access or query.normalise)

    async def _hybrid(self, vector: Sequence[float]) -> list[Ranked]:
        """The memories by fused score, or by what the further stages make of it."""
        return await self._through_stages(await self._ranked(self._hybrid_query(vector)))

    async def _ranked(self, query_for: _QueryWithLimit) -> list[Ranked]:
        """The most relevant memories, ordered by a second look, lifted by neighbours and by the question's time."""
        hits = await self._search(query_for, self._pool_size)
        if not hits:
            return []
        best = hits[0].relevance if self.query.mode == "keyword" else 1.0
        pairs: Pairs = ()
        if self.neighbours:
            how = Neighbours(
                self.gap_s, self.guard.now, self.query.filter, self._shows, self.guard.scope.superseded
            )
            with self.stages("neighbours"):
                hits, pairs = await with_neighbours(self.store, query_for(len(hits)), hits, how)
        ranked = [_without_blend(hit) for hit in hits]
        if self.second_look is not None:
            pool = top_k(ranked, len(ranked))
            with self.stages("rerank"):
                ranked = await self.second_look.rerank(self.query.text or "", pool, best)
            best = best if self.second_look.missed else 1.0
        if self.neighbours:
            ranked = lift_neighbours(ranked, pairs, self.neighbours, best=best)
        if self._span is not None:
            ranked = lift_by_time(ranked, self._span, best=best)
        return ranked

    def _shows(self, memory: Memory) -> bool:
        """True if the answer may show the memory, which matches the filter."""
        sphere = self.query.sphere
        return self.guard.admits(memory) and (sphere is None or sphere.contains(memory))

    @property
    def _span(self) -> TimeSpan | None:
        """The time that the question is about, if its time words count and it has some."""
        query = self.query
        return parse_time_words(query.text, self.guard.now) if query.time_words and query.text else None

    @property
    def _pool_size(self) -> int:
        """How many memories the stages after the search rank.

        It does not depend on k where it decides which memories are returned, so that a short answer is the beginning
        of a longer one.
        """
        if self.query.blend is not None:
            return RERANK_POOL_SIZE
        if self.query.sphere is not None or self._span is not None or self.second_look is not None:
            return MAX_K
        return max(self.query.k, SEEDS) if self.neighbours else self.query.k

    async def _through_stages(self, ranked: list[Ranked]) -> list[Ranked]:
        """The pool after each stage that the query asks for, in this order; each is a function over the whole pool."""
        blend = self.query.blend
        if blend is None:
            return ranked
        with self.stages("rank"):
            accessed: Mapping[str, float] = {}
            if blend.by_access and self.accesses is not None:
                accessed = await self.accesses.last([one.memory for one in ranked])
            pool = normalised(ranked) if self.query.normalise else ranked
            return blend_all(blend, pool, self.guard.now, accessed)

    @property
    def _words(self) -> str:
        """The text that is searched for as words."""
        text = self.query.text or ""
        return text if self._span is None else self._span.without_words(text)

    def _keyword_query(self, k: int) -> KeywordQuery:
        query = self.query
        return KeywordQuery(query.agents.scope, self._words, k, self.guard.now, store_filter(query))

    def _vector_query(
        self, vector: Sequence[float], *, min_relevance: float | None = None, with_blend: bool = False
    ) -> _QueryWithLimit:
        query, now = self.query, self.guard.now
        blend = query.blend if with_blend else None
        return lambda k: VectorQuery(
            query.agents.scope, vector, k, now, store_filter(query), min_relevance, blend
        )

    def _hybrid_query(self, vector: Sequence[float]) -> _QueryWithLimit:
        query, now = self.query, self.guard.now
        scope, text = query.agents.scope, self._words
        return lambda k: HybridQuery(scope, vector, text, k, now, store_filter(query))

    async def _search(self, query_for: _QueryWithLimit, wanted: int) -> list[Hit]:
        """The `wanted` most relevant hits in the sphere that the guard admits; fewer if there are no more."""
        sphere = self.query.sphere
        limit = wanted if sphere is None else 2 * wanted  # a sphere fills half of its bounding box
        turns = Turns()
        while True:
            with self.stages("search"):
                hits = await self.store.search(query_for(limit))
            kept: list[Hit] = []
            for hit in hits:
                if self._shows(hit.memory):
                    kept.append(hit)
                await turns.next()
            if len(kept) >= wanted or len(hits) < limit:
                return kept[:wanted]
            limit *= _LIMIT_GROWTH


def store_filter(query: SearchQuery) -> Filter:
    """The filter for the store: the query's own, and the bounding box of its sphere."""
    sphere = query.sphere
    return query.filter if sphere is None else And((sphere.bounding_box, query.filter))


def _without_blend(hit: Hit) -> Ranked:
    return Ranked(hit.memory, hit.relevance, hit.shares or {"relevance": hit.relevance})


def _clamp_cosine(min_score: float | None) -> float | None:
    """A bound on cosines with the same meaning, small enough for the 32-bit floats of a store."""
    return None if min_score is None else max(-2.0, min(2.0, min_score))
