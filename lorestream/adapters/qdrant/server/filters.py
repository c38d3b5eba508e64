"""Qdrant conditions as the messages of its wire, as of Qdrant 1.17."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from qdrant_client import grpc as wire

from lorestream.adapters.qdrant.conditions import Clause, Empty, Group, Match, Range, Substring


def server_filter(must: Sequence[Clause], *, substring: str) -> wire.Filter:
    """The filter that all of `must` meet. `substring`: the field of `Match` that says Substring."""
    return wire.Filter(must=[_condition(clause, substring) for clause in must])


def substring_match(version: tuple[int, int]) -> str | None:
    """The field of `Match` that is met by exactly the strings which hold another one; None: there is none.

    Up to 1.18 `text` is that on fields without a text index, of which we make none (Qdrant's own
    condition_checker.rs). Later engines compare words there and have `substring`, by the protocol of 1.20;
    of a 1.19 neither is asked.
    """
    if version <= (1, 18):
        return "text"
    return "substring" if version >= (1, 20) else None


def _condition(clause: Clause, substring: str) -> wire.Condition:
    match clause:
        case Match(key, values):
            return _field(key, match=_match(values))
        case Substring(key, text):
            return _field(key, match=wire.Match(**cast("Any", {substring: text})))
        case Range(key, gt, gte, lt, lte):
            return _field(key, range=wire.Range(gt=gt, gte=gte, lt=lt, lte=lte))
        case Empty(key):
            return wire.Condition(is_empty=wire.IsEmptyCondition(key=key))
        case Group(must, should, must_not):
            group = wire.Filter(
                must=[_condition(one, substring) for one in must],
                should=[_condition(one, substring) for one in should],
                must_not=[_condition(one, substring) for one in must_not],
            )
            return wire.Condition(filter=group)


def _match(values: tuple[str, ...] | tuple[int, ...]) -> wire.Match:
    if isinstance(values[0], str):
        words = cast("tuple[str, ...]", values)
        if len(words) == 1:
            return wire.Match(keyword=words[0])
        return wire.Match(keywords=wire.RepeatedStrings(strings=words))
    numbers = cast("tuple[int, ...]", values)
    if len(numbers) == 1:
        return wire.Match(integer=numbers[0])
    return wire.Match(integers=wire.RepeatedIntegers(integers=numbers))


def _field(key: str, **how: Any) -> wire.Condition:  # noqa: ANN401 (the conditions of a field)
    return wire.Condition(field=wire.FieldCondition(key=key, **how))
