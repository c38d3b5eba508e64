"""What ranks memories beside their relevance: where they are, how old, how important."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engram.memories import And, Condition, Field, Filter, Op

if TYPE_CHECKING:
    from engram.memories import Memory
    from query_service.wire import Near, Weights

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
    """The bound, past any rounding and within what a float holds."""
    bound = math.nextafter(value + sign * radius, sign * math.inf)
    return max(-sys.float_info.max, min(sys.float_info.max, bound))


@dataclass(frozen=True, slots=True)
class Blend:
    """The weighted mean of relevance (cosine, not below 0), recency and importance / 10, each in [0, 1].

    Recency is 0.5 ^ (age / half-life), an exponential decay as in Park et al. 2023 (Generative Agents).
    The weights are scaled so that the largest is 1: their sum stays finite.
    """

    weights: Mapping[str, float]
    half_life_s: float

    @classmethod
    def of(cls, weights: Weights, *, with_query: bool) -> Blend | None:
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
        scaled = {name: weight / heaviest for name, weight in named.items() if weight > 0}
        return cls(scaled, weights.half_life_s or DEFAULT_HALF_LIFE_S)

    def rank(self, memory: Memory, relevance: float, now: float) -> Ranked:
        """The memory's score at the time `now`."""
        parts = {
            "relevance": max(0.0, relevance),
            "recency": 0.5 ** (max(0.0, now - memory.timestamp) / self.half_life_s),
            "importance": min(1.0, max(0.0, memory.importance / 10)),
        }
        details = {name: parts[name] for name in self.weights}
        weighted = math.fsum(weight * parts[name] for name, weight in self.weights.items())
        return Ranked(memory, weighted / math.fsum(self.weights.values()), details)

    @property
    def fades(self) -> bool:
        """Whether the scores change by themselves as time goes."""
        return "recency" in self.weights


def in_order(ranked: list[Ranked], k: int) -> list[Ranked]:
    """The best k: by score, ties by newer."""
    return sorted(ranked, key=lambda one: (one.score, one.memory.order), reverse=True)[:k]
