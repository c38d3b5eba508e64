"""The memories that answer a query: by meaning, by words, or by both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from lorestream.memories import And, Filter, Hit, KeywordQuery, Memory, VectorQuery
from query_service.ranking import POOL, Ranked, blended

if TYPE_CHECKING:
    from lorestream.ports import VectorStore
    from query_service.queries import Question

_GROWTH = 4
_RANK = 60
"""The constant of reciprocal rank fusion, as in Cormack et al. 2009."""
_LEAST_DEPTH = 100
_DEPTH = 4
"""Both lists of a hybrid search are at least 100 deep, and four times as deep as its answer is long."""

_Ask: TypeAlias = "Callable[[int], VectorQuery | KeywordQuery]"


@dataclass(frozen=True, slots=True)
class Relevant:
    """Finds what is relevant to a query, among the memories that `visible` lets readers see."""

    store: VectorStore
    question: Question
    now: float
    visible: Callable[[Memory], bool]

    async def by_words(self) -> list[Ranked]:
        """At most k, by BM25."""
        return [_plain(hit) for hit in await self._best(self._words, self.question.k)]

    async def by_meaning(self, vector: Sequence[float]) -> list[Ranked]:
        """At least the k best, by cosine or by its blend with age and importance."""
        question = self.question
        if question.blend is None:
            least = _within_reach(question.min_score)
            ask = self._near(vector, min_relevance=least)
            return [_plain(hit) for hit in await self._best(ask, question.k)]
        if question.sphere is None:
            best = await self.store.search(self._near(vector, blended=True)(question.k))
            if all(self.visible(hit.memory) for hit in best):
                return [blended(question.blend, hit, self.now) for hit in best]
        # The store knows neither spheres nor what has just been erased, so the pool is filled here.
        pool = await self._best(self._near(vector), POOL)
        return [blended(question.blend, hit, self.now) for hit in pool]

    async def by_both(self, vector: Sequence[float]) -> list[Ranked]:
        """By the fused ranks, or their blend with age and importance."""
        blend, k = self.question.blend, self.question.k
        depth = max(_DEPTH * k, _LEAST_DEPTH) if blend is None else POOL
        dense = await self._best(self._near(vector), depth)
        found = fused(dense, await self._best(self._words, depth))
        if blend is None:
            return found
        best = sorted(found, key=lambda one: (one.score, one.memory.position), reverse=True)[:POOL]
        return [blended(blend, Hit(one.memory, one.score), self.now) for one in best]

    def _words(self, k: int) -> KeywordQuery:
        question = self.question
        return KeywordQuery(question.agents.scope, question.query or "", k, self.now, wide(question))

    def _near(
        self, vector: Sequence[float], *, min_relevance: float | None = None, blended: bool = False
    ) -> Callable[[int], VectorQuery]:
        question = self.question
        scope, blend = question.agents.scope, question.blend if blended else None
        return lambda k: VectorQuery(scope, vector, k, self.now, wide(question), min_relevance, blend)

    async def _best(self, ask: _Ask, wanted: int) -> list[Hit]:
        """The most relevant that a reader may see, asking for more until there are enough or no more."""
        sphere = self.question.sphere
        limit = wanted if sphere is None else 2 * wanted  # a sphere fills half of the box around it
        while True:
            hits = await self.store.search(ask(limit))
            kept = [
                hit
                for hit in hits
                if self.visible(hit.memory) and (sphere is None or sphere.holds(hit.memory))
            ]
            if len(kept) >= wanted or len(hits) < limit:
                return kept[:wanted]
            limit *= _GROWTH


def fused(dense: Sequence[Hit], keyword: Sequence[Hit]) -> list[Ranked]:
    """Reciprocal rank fusion of two lists: every memory of either, each with the parts that add up to its score.

    A memory that is the first of both has 1. Equals share a rank: words rate many memories alike, and which of
    those comes first says nothing of the question.
    """
    memories: dict[tuple[str, str], Memory] = {}
    parts: dict[tuple[str, str], dict[str, float]] = {}
    for name, hits in (("dense", dense), ("keyword", keyword)):
        rank, above = 1, math.inf
        for place, hit in enumerate(hits, start=1):
            if hit.relevance < above:
                rank, above = place, hit.relevance
            key = (hit.memory.agent_id, hit.memory.id)
            memories[key] = hit.memory
            parts.setdefault(key, {"dense": 0.0, "keyword": 0.0})[name] = (_RANK + 1) / (_RANK + rank) / 2
    return [Ranked(memory, math.fsum(parts[key].values()), parts[key]) for key, memory in memories.items()]


def wide(question: Question) -> Filter:
    """The filter for the store: with a place, the box around it."""
    sphere = question.sphere
    return question.filter if sphere is None else And((sphere.box, question.filter))


def _plain(hit: Hit) -> Ranked:
    return Ranked(hit.memory, hit.relevance, {"relevance": hit.relevance})


def _within_reach(min_score: float | None) -> float | None:
    """A bound for cosines that means the same, as a number that a store's smaller floats hold."""
    return None if min_score is None else max(-2.0, min(2.0, min_score))
