"""What ranks memories beside their relevance: where they are, how old, how important."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorestream.memories import And, Blend, Condition, Field, Filter, Hit, Op

if TYPE_CHECKING:
    from lorestream.memories import Memory
    from query_service.schemas import Near, Weights

POOL = 1000
"""How many of the most relevant memories (without a query: of the newest) weights can rank."""
DEFAULT_HALF_LIFE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A memory and its score; `details` are the parts that weigh in it."""

    memory: Memory
    score: float
    details: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sphere:
    """The places within `radius` nodes of a centre, in the coordinates that the centre has."""

    centre: Mapping[str, float]
    radius: float

    @classmethod
    def of(cls, near: Near) -> Sphere:
        """The sphere that was asked for; without any coordinate it has an empty centre."""
        coordinates = {"x": near.x, "y": near.y, "z": near.z}
        return cls({axis: value for axis, value in coordinates.items() if value is not None}, near.radius)

    @property
    def box(self) -> Filter:
        """The box around it, for the store: a little too large rather than too small."""
        return And(
            tuple(
                Condition(Field((f"pos.{axis}",)), op, bound)
                for axis, value in self.centre.items()
                for op, bound in (
                    (Op.GTE, _outward(value, self.radius, -1)),
                    (Op.LTE, _outward(value, self.radius, 1)),
                )
            )
        )

    def holds(self, memory: Memory) -> bool:
        """Whether a memory lies in it; one that lacks a coordinate does not."""
        pos = memory.pos or {}
        if any(pos.get(axis) is None for axis in self.centre):
            return False
        return math.dist([pos[axis] for axis in self.centre], list(self.centre.values())) <= self.radius


def _outward(value: float, radius: float, sign: int) -> float:
    """The bound, past any rounding of the distance and within what a float holds."""
    bound = value + sign * radius
    # A distance is rounded in the size of what it is made of, however small the bound itself is.
    bound += sign * 4 * math.ulp(min(max(abs(value), radius), sys.float_info.max))
    return max(-sys.float_info.max, min(sys.float_info.max, bound))


def blend_of(weights: Weights, *, with_query: bool) -> Blend | None:
    """The blend that was asked for; None when nothing weighs (then the order is the plain one)."""
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
    return Blend(scaled, weights.half_life_s or DEFAULT_HALF_LIFE_S, POOL)


def blended(blend: Blend, hit: Hit, now: float) -> Ranked:
    """The memory with its score at the time `now`."""
    parts = blend.parts(hit.memory, hit.relevance, now)
    return Ranked(hit.memory, blend.mean(parts), parts)


def in_order(ranked: list[Ranked], k: int) -> list[Ranked]:
    """The best k: by score, ties by newer."""
    return sorted(ranked, key=lambda one: (one.score, one.memory.position), reverse=True)[:k]
