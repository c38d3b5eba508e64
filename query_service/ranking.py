"""Scores beside relevance: spheres in space, and blends of relevance, recency and importance."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorestream.memories import And, Blend, Condition, Field, Filter, Op

if TYPE_CHECKING:
    from lorestream.memories import Memory
    from query_service.schemas import Near, Weights

RERANK_POOL_SIZE = 1000
"""Weights rank this many of the most relevant memories; without a query, this many of the newest."""
DEFAULT_HALF_LIFE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A memory with its score. `details`: the parts of the score by name, as `explain` shows them."""

    memory: Memory
    score: float
    details: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sphere:
    """The places within `radius` nodes of a centre. Coordinates that the centre lacks are not compared."""

    centre: Mapping[str, float]
    radius: float

    @classmethod
    def from_near(cls, near: Near) -> Sphere:
        """The sphere of a request; its centre is empty if the request has no coordinate."""
        coordinates = {"x": near.x, "y": near.y, "z": near.z}
        return cls({axis: value for axis, value in coordinates.items() if value is not None}, near.radius)

    @property
    def bounding_box(self) -> Filter:
        """A filter for the box around the sphere, enlarged by the rounding error of a distance."""
        return And(
            tuple(
                Condition(Field((f"pos.{axis}",)), op, bound)
                for axis, value in self.centre.items()
                for op, bound in (
                    (Op.GTE, _box_bound(value, self.radius, -1)),
                    (Op.LTE, _box_bound(value, self.radius, 1)),
                )
            )
        )

    def contains(self, memory: Memory) -> bool:
        """True if the memory's position is in the sphere; False if it lacks one of the coordinates."""
        distance = self.distance(memory)
        return distance is not None and distance <= self.radius

    def distance(self, memory: Memory) -> float | None:
        """How far the memory is from the centre, in nodes; None if it lacks one of the coordinates."""
        pos = memory.pos or {}
        if any(pos.get(axis) is None for axis in self.centre):
            return None
        return math.dist([pos[axis] for axis in self.centre], list(self.centre.values()))


def _box_bound(value: float, radius: float, sign: int) -> float:
    """One bound of the box, moved outward by the rounding error of the distance, and finite."""
    bound = value + sign * radius
    # The rounding error of a distance depends on its largest operand, not on the bound.
    bound += sign * 4 * math.ulp(min(max(abs(value), radius), sys.float_info.max))
    return max(-sys.float_info.max, min(sys.float_info.max, bound))


def parse_weights(weights: Weights, *, with_query: bool) -> Blend | None:
    """The blend of a request; None if all weights are 0, which means the plain order."""
    named = {
        "relevance": 1.0 if weights.relevance is None else weights.relevance,
        "recency": weights.recency or 0.0,
        "importance": weights.importance or 0.0,
    }
    if not with_query:
        del named["relevance"]
    heaviest = max(named.values())
    if heaviest <= 0:
        return None
    scaled = {name: weight / heaviest for name, weight in named.items() if weight / heaviest > 0}
    by_access = weights.recency_of == "access" and "recency" in scaled
    return Blend(scaled, weights.half_life_s or DEFAULT_HALF_LIFE_S, RERANK_POOL_SIZE, by_access)


def blend_all(
    blend: Blend, pool: Iterable[Ranked], now: float, accessed: Mapping[str, float] = MappingProxyType({})
) -> list[Ranked]:
    """The pool with blended scores at the time `now` (Unix seconds), in the same order.

    `accessed`: the last access by memory id (Unix seconds), where it counts.
    """
    blended: list[Ranked] = []
    for one in pool:
        parts = blend.parts(one.memory, one.score, now, accessed.get(one.memory.id, -math.inf))
        blended.append(Ranked(one.memory, blend.mean(parts), parts))
    return blended


def normalised(pool: Sequence[Ranked]) -> list[Ranked]:
    """The pool with scores stretched linearly to 0 to 1, in the same order. All are 1 where all were equal."""
    if not pool:
        return []
    scores = [one.score for one in pool]
    least, most = min(scores), max(scores)
    if least == most:
        return [replace(one, score=1.0) for one in pool]
    return [replace(one, score=(one.score - least) / (most - least)) for one in pool]


def top_k(ranked: list[Ranked], k: int) -> list[Ranked]:
    """The best k by score; among equal scores the newer comes first."""
    return sorted(ranked, key=lambda one: (one.score, one.memory.position), reverse=True)[:k]
