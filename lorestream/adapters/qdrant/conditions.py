"""Filters as Qdrant's conditions over the payload of `qdrant_payload`, in no client's own types.

Qdrant cannot answer every filter exactly (see `Bounds`); each becomes two conditions, one that meets at
least what it should and one that meets at most that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from lorestream.adapters.qdrant.payload import agent_keyword, fact, odd, ticks
from lorestream.errors import InvalidFilter
from lorestream.memories import And, Condition, Not, Op, Or

if TYPE_CHECKING:
    from lorestream.memories import Filter, Scalar, Scope


@dataclass(frozen=True, slots=True)
class Match:
    """The value at `key`, or an element of it, is one of `values`: all strings, or all integers."""

    key: str
    values: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Substring:
    """A string at `key`, or an element of it, holds this one."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Range:
    """A number at `key`, or an element of it, lies within the bounds."""

    key: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class Empty:
    """At `key` is nothing, null or []."""

    key: str


@dataclass(frozen=True, slots=True)
class Group:
    """All of `must`, none of `must_not` and, unless `should` is empty, one of `should`."""

    must: tuple[Clause, ...] = ()
    should: tuple[Clause, ...] = ()
    must_not: tuple[Clause, ...] = ()


Clause: TypeAlias = "Match | Substring | Range | Empty | Group"

ALWAYS = Group()
NEVER = Group(must_not=(ALWAYS,))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a filter comes to.

    Qdrant rounds some numbers and has no way to write some paths. `plain` meets what the filter holds for
    wherever `doubt` is not met; there, the truth lies between `at_most` and `at_least`, and the memory
    itself has to be looked at.
    """

    plain: Clause
    at_least: Clause
    at_most: Clause
    doubt: Clause

    @property
    def exact(self) -> bool:
        """Whether there can be no doubt."""
        return self.doubt is NEVER


_UNASKABLE = Bounds(ALWAYS, ALWAYS, NEVER, ALWAYS)
_KEYWORDS = frozenset({"type", "player", "server"})
_NUMBERS = frozenset({"tick", "importance", "pos.x", "pos.y", "pos.z"})
_RANGES = frozenset({Op.GT, Op.GTE, Op.LT, Op.LTE})


def in_scope(scope: Scope) -> Clause:
    """The memories of some agents, or of the whole tenant. Never a tombstone."""
    if scope.agents is None:
        return Match("tenant", (scope.tenant,))
    if not scope.agents:
        return NEVER
    return Match("agent", tuple(agent_keyword(scope.tenant, agent) for agent in scope.agents))


def expired(now: float) -> Clause:
    """What has come to its end."""
    return Range("expires", lte=ticks(now))


def bounds(condition: Filter, *, substrings: bool = True) -> Bounds:
    """The two conditions of a filter. Raises InvalidFilter for a field that memories do not have.

    `substrings`: whether the engine has the condition `Substring`.
    """
    match condition:
        case And():
            parts = [bounds(part, substrings=substrings) for part in condition.parts]
            return _joined(parts, every=True)
        case Or():
            parts = [bounds(part, substrings=substrings) for part in condition.parts]
            return _joined(parts, every=False)
        case Not():
            part = bounds(condition.part, substrings=substrings)
            plain, at_least, at_most = map(_not, (part.plain, part.at_most, part.at_least))
            return Bounds(plain, at_least, at_most, part.doubt)
        case Condition():
            found = _condition(condition)
            return _there(found.plain.key) if isinstance(found.plain, Substring) and not substrings else found


def _joined(parts: list[Bounds], *, every: bool) -> Bounds:
    join = _all if every else _any
    return Bounds(
        join(part.plain for part in parts),
        join(part.at_least for part in parts),
        join(part.at_most for part in parts),
        _any(part.doubt for part in parts if not part.exact),
    )


def _exact(clause: Clause) -> Bounds:
    return Bounds(clause, clause, clause, NEVER)


def _all(clauses: Iterable[Clause]) -> Clause:
    return Group(must=tuple(clauses))


def _any(clauses: Iterable[Clause]) -> Clause:
    some = tuple(clauses)
    return Group(should=some) if some else NEVER


def _not(clause: Clause) -> Clause:
    return Group(must_not=(clause,))


def _condition(condition: Condition) -> Bounds:
    path = condition.field.path
    if not condition.field.own:
        return _metadata(path, condition.op, condition.value)
    name = ".".join(path)
    if name in _KEYWORDS:
        return _exact(_keyword(name, condition.op, condition.value))
    if name == "timestamp":
        return _timestamp(condition.op, condition.value)
    if name in _NUMBERS:
        return _number(name, condition.op, condition.value)
    raise InvalidFilter(f"{name} is not a field of a memory", path=name)


def _there(key: str) -> Bounds:
    """Whatever is at `key` has to be looked at."""
    there = Group(must_not=(Empty(key),))
    return Bounds(there, there, NEVER, there)


def _metadata(path: tuple[str, ...], op: Op, value: Scalar | tuple[Scalar, ...]) -> Bounds:
    if len(path) == 1 or any('"' in part or "\\" in part for part in path):
        return _UNASKABLE
    key = ".".join(["metadata", *(f'"{part}"' for part in path[1:])])
    match op:
        case Op.EQ | Op.IN:
            facts = tuple({fact(path, one) for one in _scalars(value)})
            return _exact(Match("facts", facts) if facts else NEVER)
        case Op.CONTAINS if isinstance(value, str):
            return _exact(Substring(key, value))
        case Op.CONTAINS:
            return _exact(Match("facts", tuple(fact(path, one, element=True) for one in _scalars(value))))
        case Op.EXISTS:
            return _exact(_exists(key, value))
        case Op.GT | Op.GTE | Op.LT | Op.LTE:
            return _compared(path, key, op, value)


def _keyword(key: str, op: Op, value: Scalar | tuple[Scalar, ...]) -> Clause:
    if op is Op.EXISTS:
        return _exists(key, value)
    if op in (Op.EQ, Op.IN):
        wanted = tuple(one for one in _scalars(value) if isinstance(one, str))
        return Match(key, wanted) if wanted else NEVER
    if op is Op.CONTAINS and isinstance(value, str):
        return Substring(key, value)
    return NEVER


def _number(key: str, op: Op, value: Scalar | tuple[Scalar, ...]) -> Bounds:
    if op is Op.EXISTS:
        return _exact(_exists(key, value))
    if op is Op.CONTAINS:
        return _exact(NEVER)
    if op in _RANGES:
        return _compared((key,), key, op, value)
    return _joined([_equal(key, one) for one in _scalars(value)], every=False)


def _timestamp(op: Op, value: Scalar | tuple[Scalar, ...]) -> Bounds:
    """By ticks: only those that share the bound's own tick need a check."""
    if op is Op.EXISTS:
        return _exact(ALWAYS if value else NEVER)
    parts: list[Bounds] = []
    for one in _scalars(value):
        if not _is_number(one) or op is Op.CONTAINS:
            continue
        tick = _clamped_ticks(one)
        same = Range("t", gte=tick, lte=tick)
        match op:
            case Op.GT | Op.GTE:
                least = Range("t", gte=tick)
                parts.append(Bounds(least, least, Range("t", gt=tick), same))
            case Op.LT | Op.LTE:
                least = Range("t", lte=tick)
                parts.append(Bounds(least, least, Range("t", lt=tick), same))
            case _:
                parts.append(Bounds(same, same, NEVER, same))
    return _joined(parts, every=False)


def _clamped_ticks(value: float) -> int:
    try:
        return ticks(float(value))
    except OverflowError:  # an integer past all floats
        return ticks(math.inf if value > 0 else -math.inf)


def _equal(key: str, value: Scalar) -> Bounds:
    if not _is_number(value):
        return _exact(NEVER)
    margins = _margins(value)
    if margins is None:
        return _UNASKABLE
    low, high = margins
    near = Range(key, gte=low, lte=high)
    if float(value) != value:
        return Bounds(near, near, NEVER, near)
    same = Range(key, gte=float(value), lte=float(value))
    return _unless_odd((key,), same, near, NEVER)


def _compared(path: tuple[str, ...], key: str, op: Op, value: Scalar | tuple[Scalar, ...]) -> Bounds:
    if not _is_number(value):
        return _exact(NEVER)
    margins = _margins(value)
    if margins is None:
        return _UNASKABLE
    low, high = margins
    if op in (Op.GT, Op.GTE):
        wide, narrow = Range(key, gte=low), Range(key, gt=high)
    else:
        wide, narrow = Range(key, lte=high), Range(key, lt=low)
    if float(value) != value:
        return Bounds(wide, wide, narrow, Range(key, gte=low, lte=high))
    return _unless_odd(path, Range(key, **{op.value: float(value)}), wide, narrow)


def _unless_odd(path: tuple[str, ...], plain: Clause, wide: Clause, narrow: Clause) -> Bounds:
    """`plain` is exact where Qdrant reads the number exactly; elsewhere the truth lies between two margins."""
    doubt = Match("facts", (odd(path),))
    at_least = _any((plain, _all((doubt, wide))))
    at_most = _any((_all((plain, _not(doubt))), narrow))
    return Bounds(plain, at_least, at_most, doubt)


def _margins(value: float) -> tuple[float, float] | None:
    """What surely contains every number that Qdrant may take for this one."""
    try:
        number = float(value)
    except OverflowError:
        return None
    if not math.isfinite(number):
        return None
    margin = 8 * math.ulp(number)
    low, high = number - margin, number + margin
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _exists(key: str, value: object) -> Clause:
    return Group(must_not=(Empty(key),)) if value else Empty(key)


def _scalars(value: Scalar | tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
