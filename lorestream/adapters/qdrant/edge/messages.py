"""Conditions, queries and formulas in Edge's own types, and Edge's errors in ours."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import qdrant_edge as edge

from lorestream import durable
from lorestream.adapters.qdrant.conditions import (
    Clause,
    Empty,
    Group,
    Ids,
    Match,
    Range,
    Substring,
    conjuncts,
    payload_conditions,
)
from lorestream.adapters.qdrant.engine import (
    AbsoluteValue,
    Constant,
    ExponentialDecay,
    NearestQuery,
    Negation,
    Product,
    SparseVector,
    Sum,
    Term,
    Variable,
)
from lorestream.errors import LorestreamError, Unavailable

VECTOR = "dense"
WORDS = "words"
"""The names of the vectors."""

EXACT = edge.SearchParams(exact=True)


def nearest_query(near: NearestQuery) -> edge.Query:
    """The query for the nearest points, by the vector of its kind."""
    if isinstance(near.vector, SparseVector):
        return edge.Query.Nearest(sparse_vector(near.vector), WORDS)
    return edge.Query.Nearest(list(near.vector), VECTOR)


def sparse_vector(words: SparseVector) -> edge.SparseVector:
    """The words of a text in Edge's own type."""
    return edge.SparseVector(list(words.indices), list(words.values))


def prefetch(near: NearestQuery, filter_: edge.Filter) -> edge.Prefetch:
    """The hits of `near` among the points that meet a filter, as the input of another query."""
    return edge.Prefetch(
        near.limit,
        query=nearest_query(near),
        params=EXACT,
        filter=filter_,
        score_threshold=near.threshold,
    )


def expression(term: Term) -> edge.Expression:  # noqa: PLR0911 (one for each kind)
    """A term of a scoring formula."""
    match term:
        case Constant(value):
            return edge.Expression.Constant(value)
        case Variable(name):
            return edge.Expression.Variable(name)
        case Sum(terms):
            return edge.Expression.Sum([expression(one) for one in terms])
        case Product(terms):
            return edge.Expression.Mult([expression(one) for one in terms])
        case Negation(inner):
            return edge.Expression.Neg(expression(inner))
        case AbsoluteValue(inner):
            return edge.Expression.Abs(expression(inner))
        case ExponentialDecay(inner):
            half = expression(inner)
            return edge.Expression.Decay(edge.DecayKind.Exp, half, None, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Slice:
    """The points whose id has the hash `index` modulo `total`."""

    total: int
    index: int


def edge_filter(*must: Clause, within: Slice | None = None) -> edge.Filter:
    """The filter for the points of a slice (None: all points) that meet all of `must`.

    Edge evaluates what must not hold last. So the conditions that read the payload are written as "must not not hold":
    otherwise Edge may evaluate them first, for points of all slices and agents, because it guesses that few meet them.
    """
    conditions: list[Any] = []
    if within is not None:
        # The type stubs of Edge 0.9.0 lack this condition.
        conditions.append(cast("Any", edge).SliceCondition(within.total, within.index))
    last: list[Any] = []
    for clause in conjuncts(must):
        if payload_conditions((clause,)):
            last.append(edge.Filter(must_not=[_condition(clause)]))
        else:
            conditions.append(_condition(clause))
    return edge.Filter(must=conditions or None, must_not=last or None)


def _condition(clause: Clause) -> edge.ConditionType:  # noqa: PLR0911 (one for each kind)
    match clause:
        case Match(key, (value,)):
            return edge.FieldCondition(key, match=edge.MatchValue(value))
        case Match(key, values):
            return edge.FieldCondition(key, match=edge.MatchAny(list[Any](values)))
        case Substring(key, text):
            return edge.FieldCondition(key, match=edge.MatchSubstring(text))
        case Range(key, gt, gte, lt, lte):
            return edge.FieldCondition(key, range=edge.RangeFloat(gt=gt, gte=gte, lt=lt, lte=lte))
        case Empty(key):
            return edge.IsEmptyCondition(key)
        case Ids(ids):
            return edge.HasIdCondition(set(ids))
        case Group(must, should, must_not):
            # None where a list is empty: a Group without `should` demands nothing of it.
            return edge.Filter(
                must=[_condition(one) for one in must] or None,
                should=[_condition(one) for one in should] or None,
                must_not=[_condition(one) for one in must_not] or None,
            )


@contextmanager
def translate_errors(translate: Callable[[EdgeError], LorestreamError] | None = None) -> Generator[None]:
    """Raises what `translate` makes of an error of Edge; None: Unavailable.

    Edge raises bare `Exception`, so put only calls to Edge inside.
    """
    try:
        yield
    except BaseException as error:
        # A panic of its Rust code is raised as a class that is no `Exception`.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        found = EdgeError(" ".join(str(error).split()), durable.is_full(error))
        raise (translate or _outage)(found) from error


@dataclass(frozen=True, slots=True)
class EdgeError:
    """An error of Edge: its message in one line, and whether the disk is full."""

    message: str
    full: bool


def _outage(error: EdgeError) -> LorestreamError:
    return Unavailable(f"Qdrant Edge: {error.message}")
