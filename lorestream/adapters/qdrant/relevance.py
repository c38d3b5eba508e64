"""How relevant an engine's hits are, and the best of them by a blend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lorestream.adapters.qdrant.engine import Engine, Near, Words
from lorestream.adapters.qdrant.formula import SLACK, formula
from lorestream.adapters.qdrant.payload import memory
from lorestream.memories import Hit

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.conditions import Clause
    from lorestream.memories import Blend

_SPARE = 16
"""Hits asked for beyond those wanted: so many may be all but tied before it takes another call."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Relevance to a vector, the cosine, or to words; nothing below `least` counts."""

    to: list[float] | Words
    least: float

    def relevance(self, score: float) -> float:
        """The score without what rounding does to it.

        It takes the cosine of equal vectors a little past 1, and adds the words of equal texts up differently.
        """
        return float(f"{score:.5g}") if isinstance(self.to, Words) else max(-1.0, min(1.0, score))

    def near(self, limit: int) -> Near:
        """The first `limit`. Qdrant wants a score above its threshold, in 32 bits."""
        if isinstance(self.to, Words):
            return Near(self.to, limit, self.least * (1 - 1e-4) if self.least > 0 else None)
        below = float(np.nextafter(np.float32(self.least), np.float32(-2.0)))
        return Near(self.to, limit, below if self.least > -1.0 else None)


def by_blend(hits: Iterable[Hit], blend: Blend, now: float) -> list[tuple[float, Hit]]:
    """(score, hit), the best first, ties by newer."""
    scored = [(blend.mean(blend.parts(hit.memory, hit.relevance, now)), hit) for hit in hits]
    return sorted(scored, key=lambda one: (one[0], one[1].memory.order), reverse=True)


async def blended(
    engine: Engine[Any], must: Sequence[Clause], measure: Measure, blend: Blend, *, k: int, now: float
) -> list[Hit] | None:
    """The best k by a blend, ranked in the engine; None where it cannot tell which they are.

    That is so where the last place in the pool is tied: an engine fills it with any of them, and of events
    that say the same, the newest must not be missed.
    """
    pool = measure.near(blend.pool)
    border = await engine.scores(must, Near(pool.to, 2, pool.threshold), beyond=blend.pool - 1)
    if len(set(border)) < len(border):
        return None
    terms = formula(blend, now)
    limit = k + _SPARE
    while limit < blend.pool:
        points = await engine.rescored(must, pool, terms, limit=limit)
        hits = [Hit(memory(payload), _cosine(vector, measure.to)) for payload, vector, _ in points]
        ranked = by_blend(hits, blend, now)
        if len(points) < limit or ranked[k - 1][0] - points[-1][2] > SLACK:
            return [hit for _, hit in ranked[:k]]
        limit *= 4
    return None


def _cosine(vector: Sequence[float], wanted: list[float] | Words) -> float:
    one, other = np.asarray(vector, np.float64), np.asarray(wanted, np.float64)
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return max(-1.0, min(1.0, float(one @ other) / length)) if length > 0 else 0.0
