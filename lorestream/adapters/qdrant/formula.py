"""A blend as the formula that Qdrant ranks by, in no client's own types.

The wire has constants of 32 bits; the engine reckons in 64, and returns 32. So what it ranks is ranked again,
exactly, and `SLACK` says how far apart two values are of which it surely knows the higher.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from lorestream.adapters.qdrant.payload import TICKS_PER_S, ticks

if TYPE_CHECKING:
    from lorestream.memories import Blend

SLACK = 1e-6
_MOST = 1e30
"""Half-lives in a tick: far beyond any age in which a memory is still recent, and within 32 bits."""


@dataclass(frozen=True, slots=True)
class Number:
    """A constant that 32 bits hold."""

    value: float


@dataclass(frozen=True, slots=True)
class Key:
    """The number at a key of the payload; `$score` is the score in the search before."""

    name: str


@dataclass(frozen=True, slots=True)
class Sum:
    """Of all, one after the other."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """Of all."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Negative:
    """The same below 0."""

    term: Term


@dataclass(frozen=True, slots=True)
class Magnitude:
    """Without its sign."""

    term: Term


@dataclass(frozen=True, slots=True)
class Halving:
    """0.5 ^ |term|."""

    term: Term


Term: TypeAlias = "Number | Key | Sum | Product | Negative | Magnitude | Halving"


def formula(blend: Blend, now: float) -> Term:
    """The score of a blend."""
    age = Sum((*_exactly(ticks(now)), Negative(Key("t"))))
    parts: dict[str, Term] = {
        "relevance": _positive(Key("$score")),
        "recency": Halving(Product((_positive(age), _per_half_life(blend.half_life_s)))),
        "importance": _at_most_one(_positive(Product((Number(0.1), Key("importance"))))),
    }
    total = sum(blend.weights.values())
    return Sum(
        tuple(Product((Number(weight / total), parts[name])) for name, weight in blend.weights.items())
    )


def _exactly(number: float) -> tuple[Number, Number, Number]:
    """Three numbers of 32 bits whose sum this is."""
    high = _rounded(number)
    middle = _rounded(number - high)
    return Number(high), Number(middle), Number(_rounded(number - high - middle))


def _rounded(number: float) -> float:
    return struct.unpack("<f", struct.pack("<f", number))[0]


def _per_half_life(half_life_s: float) -> Number:
    span = half_life_s * TICKS_PER_S
    return Number(min(_MOST, 1 / span) if span > 1 / _MOST else _MOST)


def _positive(term: Term) -> Term:
    """The maximum of 0 and the term: Qdrant 1.18 has no function for it."""
    return Product((Number(0.5), Sum((term, Magnitude(term)))))


def _at_most_one(term: Term) -> Term:
    return Sum((Number(1), Negative(_positive(Sum((Number(1), Negative(term)))))))
