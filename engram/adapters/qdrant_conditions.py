"""Filters as Qdrant's conditions over the payload of `qdrant_payload`, in no client's own types.

Qdrant cannot answer every filter exactly (see `Bounds`); each becomes two conditions, one that meets at
least what it should and one that meets at most that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from engram.adapters.qdrant_payload import agent_keyword, fact, odd, ticks
from engram.errors import InvalidFilter
from engram.memories import And, Condition, Not, Op, Or

if TYPE_CHECKING:
    from engram.memories import Filter, Scalar, Scope


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
    """What a filter comes to: `at_most` meets a subset of what it holds for, `at_least` a superset.

    The two are one object where Qdrant's answer is exact; else what meets only `at_least` has to be held
    against the memory. That is: numbers that Qdrant rounds, and paths that it has no way to write.
    """

    at_least: Clause
    at_most: Clause

    @property
    def exact(self) -> bool:
        """Whether Qdrant's answer needs no check."""
        return self.at_least is self.at_most


_UNASKABLE = Bounds(ALWAYS, NEVER)
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


def bounds(condition: Filter) -> Bounds:
    """The two conditions of a filter. Raises InvalidFilter for a field that memories do not have."""
    match condition:
        case And():
            parts = [bounds(part) for part in condition.parts]
            return _joined(parts, every=True)
        case Or():
            parts = [bounds(part) for part in condition.parts]
            return _joined(parts, every=False)
        case Not():
            part = bounds(condition.part)
            if part.exact:
                return _exact(Group(must_not=(part.at_least,)))
            return Bounds(Group(must_not=(part.at_most,)), Group(must_not=(part.at_least,)))
        case Condition():
            return _condition(condition)


def _joined(parts: list[Bounds], *, every: bool) -> Bounds:
    def join(clauses: tuple[Clause, ...]) -> Clause:
        if not clauses:
            return ALWAYS if every else NEVER
        return Group(must=clauses) if every else Group(should=clauses)

    at_least = join(tuple(part.at_least for part in parts))
    if all(part.exact for part in parts):
        return _exact(at_least)
    return Bounds(at_least, join(tuple(part.at_most for part in parts)))


def _exact(clause: Clause) -> Bounds:
    return Bounds(clause, clause)


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
        match op:
            case Op.GT | Op.GTE:
                parts.append(Bounds(Range("t", gte=tick), Range("t", gt=tick)))
            case Op.LT | Op.LTE:
                parts.append(Bounds(Range("t", lte=tick), Range("t", lt=tick)))
            case _:
                parts.append(Bounds(Range("t", gte=tick, lte=tick), NEVER))
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
        return Bounds(near, NEVER)
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
        return Bounds(wide, narrow)
    return _unless_odd(path, Range(key, **{op.value: float(value)}), wide, narrow)


def _unless_odd(path: tuple[str, ...], plain: Clause, wide: Clause, narrow: Clause) -> Bounds:
    """`plain` is exact where Qdrant reads the number exactly; elsewhere the truth lies between two margins."""
    unsure = Match("facts", (odd(path),))
    return Bounds(
        Group(should=(plain, Group(must=(unsure, wide)))),
        Group(should=(Group(must=(plain,), must_not=(unsure,)), narrow)),
    )


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
