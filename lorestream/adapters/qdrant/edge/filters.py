"""Filter clauses as filters of qdrant_edge."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge

from lorestream.adapters.qdrant.conditions import Clause, Empty, Group, Match, Range, Substring


def edge_filter(*must: Clause, must_not: tuple[Clause, ...] = ()) -> edge.Filter:
    """The filter for points that meet all of `must` and none of `must_not`."""
    return edge.Filter(
        must=[_condition(clause) for clause in must] or None,
        must_not=[_condition(clause) for clause in must_not] or None,
    )


def _condition(clause: Clause) -> edge.ConditionType:
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
        case Group(must, should, must_not):
            # None where a list is empty: a Group without `should` demands nothing of it.
            return edge.Filter(
                must=[_condition(one) for one in must] or None,
                should=[_condition(one) for one in should] or None,
                must_not=[_condition(one) for one in must_not] or None,
            )
