"""Scores: similarity by vector and by BM25, and the blend with recency and importance, ranked inside the engine.

A blend is sent to Qdrant as a formula. The protocol has 32-bit constants and scores, the engine computes in 64 bits.
So the best of what the engine ranks are scored once more here, exactly, and `TOLERANCE` is the difference from which
on the engine's own order is reliable.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lorestream.adapters.qdrant.engine import (
    AbsoluteValue,
    Constant,
    Engine,
    ExponentialDecay,
    NearestQuery,
    Negation,
    Product,
    SparseVector,
    Sum,
    Term,
    Variable,
)
from lorestream.adapters.qdrant.payload import TICKS_PER_S, decode_memory, ticks
from lorestream.memories import Hit

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.conditions import Clause
    from lorestream.memories import Blend

TOLERANCE = 1e-6
"""Two scores of the engine that differ by more than this are in the right order."""
_EXTRA_HITS = 16
"""Hits requested beyond k: when more than that lie within TOLERANCE of the k-th, another call is needed."""
_LIMIT_GROWTH = 4
_MAX_HALF_LIVES_PER_TICK = 1e30
"""Far beyond the age at which recency is 0, and representable in 32 bits."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """How relevant memories are to a query: the cosine to a dense vector, or BM25 to a sparse one.

    Memories with a relevance below `min_relevance` do not count.
    """

    vector: list[float] | SparseVector
    min_relevance: float

    def relevance(self, score: float) -> float:
        """The engine's score without rounding noise.

        The cosine of equal vectors may come out slightly above 1, and BM25 adds the words of equal texts in
        different orders.
        """
        return float(f"{score:.5g}") if isinstance(self.vector, SparseVector) else max(-1.0, min(1.0, score))

    def nearest(self, limit: int) -> NearestQuery:
        """The query for the first `limit` hits. Qdrant compares strictly with its threshold, in 32 bits."""
        if isinstance(self.vector, SparseVector):
            threshold = self.min_relevance * (1 - 1e-4) if self.min_relevance > 0 else None
            return NearestQuery(self.vector, limit, threshold)
        below = float(np.nextafter(np.float32(self.min_relevance), np.float32(-2.0)))
        return NearestQuery(self.vector, limit, below if self.min_relevance > -1.0 else None)


def rank_by_blend(hits: Iterable[Hit], blend: Blend, now: float) -> list[tuple[float, Hit]]:
    """(score, hit) by falling score; among equal scores the newer memory comes first."""
    scored = [(blend.mean(blend.parts(hit.memory, hit.relevance, now)), hit) for hit in hits]
    return sorted(scored, key=lambda one: (one[0], one[1].memory.position), reverse=True)


async def search_by_blend(
    engine: Engine[Any], must: Sequence[Clause], similarity: Similarity, blend: Blend, *, k: int, now: float
) -> list[Hit] | None:
    """The best k by a blend, ranked in the engine; None where the engine cannot determine them.

    That is the case when the last hit of the pool has the same score as the next one outside of it: the engine
    fills the pool with any of them, and among events with the same text the newest must be found.
    """
    pool = similarity.nearest(blend.pool)
    pair = NearestQuery(pool.vector, 2, pool.threshold)
    border = [score for _, score in await engine.ranked_ids(must, pair, offset=blend.pool - 1)]
    if len(set(border)) < len(border):
        return None
    formula = blend_formula(blend, now)
    limit = k + _EXTRA_HITS
    while limit < blend.pool:
        points = await engine.rescore(must, pool, formula, limit=limit)
        if points is None:
            return None
        hits = [
            Hit(decode_memory(payload), _cosine(vector, similarity.vector)) for payload, vector, _ in points
        ]
        ranked = rank_by_blend(hits, blend, now)
        if len(points) < limit or ranked[k - 1][0] - points[-1][2] > TOLERANCE:
            return [hit for _, hit in ranked[:k]]
        limit *= _LIMIT_GROWTH
    return None


def _cosine(vector: Sequence[float], other: list[float] | SparseVector) -> float:
    first, second = np.asarray(vector, np.float64), np.asarray(other, np.float64)
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return max(-1.0, min(1.0, float(first @ second) / norms)) if norms > 0 else 0.0


# --- the blend as a formula -------------------------------------------------------------------------------


def blend_formula(blend: Blend, now: float) -> Term:
    """The score of a blend at the time `now` (Unix seconds), as a formula over the payload."""
    age = Sum((*_split_exactly(ticks(now)), Negation(Variable("t"))))
    parts: dict[str, Term] = {
        "relevance": _at_least_zero(Variable("$score")),
        "recency": ExponentialDecay(Product((_at_least_zero(age), _half_lives_per_tick(blend.half_life_s)))),
        "importance": _at_most_one(_at_least_zero(Product((Constant(0.1), Variable("importance"))))),
    }
    total = sum(blend.weights.values())
    return Sum(
        tuple(Product((Constant(weight / total), parts[name])) for name, weight in blend.weights.items())
    )


def _split_exactly(number: float) -> tuple[Constant, Constant, Constant]:
    """Three 32-bit numbers whose sum is the given 64-bit number."""
    high = _as_float32(number)
    middle = _as_float32(number - high)
    return Constant(high), Constant(middle), Constant(_as_float32(number - high - middle))


def _as_float32(number: float) -> float:
    return struct.unpack("<f", struct.pack("<f", number))[0]


def _half_lives_per_tick(half_life_s: float) -> Constant:
    half_life = half_life_s * TICKS_PER_S
    if half_life <= 1 / _MAX_HALF_LIVES_PER_TICK:
        return Constant(_MAX_HALF_LIVES_PER_TICK)
    return Constant(min(_MAX_HALF_LIVES_PER_TICK, 1 / half_life))


def _at_least_zero(term: Term) -> Term:
    """max(0, term), as (term + |term|) / 2: Qdrant 1.18 has no maximum."""
    return Product((Constant(0.5), Sum((term, AbsoluteValue(term)))))


def _at_most_one(term: Term) -> Term:
    """min(1, term)."""
    return Sum((Constant(1), Negation(_at_least_zero(Sum((Constant(1), Negation(term)))))))
