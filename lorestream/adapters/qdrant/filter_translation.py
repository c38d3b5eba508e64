"""Filters as Qdrant conditions over the payload described in `payload`.

Qdrant cannot evaluate every filter exactly: it rounds some numbers, and some metadata paths cannot be written.
`translate_filter` therefore returns a condition that is exact for most memories, and bounds for the others; the
memories between the bounds are checked in `exact_filter`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeGuard

from lorestream.adapters.qdrant.conditions import (
    ALWAYS,
    NEVER,
    SUPERSEDED,
    Clause,
    Empty,
    Group,
    Match,
    Range,
    Substring,
    linked_clause,
)
from lorestream.adapters.qdrant.payload import (
    fact_hash,
    inexact_number_hash,
    links_hash,
    ticks,
)
from lorestream.errors import InvalidFilter
from lorestream.memories import And, Condition, Not, Op, Or

if TYPE_CHECKING:
    from lorestream.memories import Filter, Scalar


@dataclass(frozen=True, slots=True)
class TranslatedFilter:
    """A filter as Qdrant conditions.

    `plain` is exact for every memory that does not match `uncertain`. For the others: `superset` matches at least
    the memories that the filter matches, `subset` at most those, and the memory itself has to be checked.
    """

    plain: Clause
    superset: Clause
    subset: Clause
    uncertain: Clause

    @property
    def exact(self) -> bool:
        """True if `plain` is exact for every memory."""
        return self.uncertain is NEVER


_NOT_TRANSLATABLE = TranslatedFilter(plain=ALWAYS, superset=ALWAYS, subset=NEVER, uncertain=ALWAYS)
_TEXT_FIELDS = frozenset({"type", "player", "server"})
_LINK_FIELDS = frozenset({"about", "sources"})
_NUMBER_FIELDS = frozenset({"tick", "importance", "pos.x", "pos.y", "pos.z"})
_WITHOUT_INDEX = frozenset({("tick",), ("superseded_at",)})
_TICKS_EXACT_FROM, _TICKS_EXACT_UNTIL = 2**30, 2**31
"""Unix seconds of January 2004 and 2038: doubles between them are whole numbers of ticks."""
_COMPARISONS = frozenset({Op.GT, Op.GTE, Op.LT, Op.LTE})


def translate_filter(filter_: Filter, *, exact_substrings: bool = True) -> TranslatedFilter:
    """Translate a filter. Raises InvalidFilter for a field that memories do not have.

    `exact_substrings`: the engine evaluates `Substring` exactly.
    """
    match filter_:
        case And():
            parts = [translate_filter(part, exact_substrings=exact_substrings) for part in filter_.parts]
            return _joined(parts, every=True)
        case Or():
            parts = [translate_filter(part, exact_substrings=exact_substrings) for part in filter_.parts]
            return _joined(parts, every=False)
        case Not():
            part = translate_filter(filter_.part, exact_substrings=exact_substrings)
            # The complement of a subset is a superset of the complement, and the other way round.
            plain, superset, subset = map(_not, (part.plain, part.subset, part.superset))
            return TranslatedFilter(plain, superset, subset, part.uncertain)
        case Condition():
            found = _condition(filter_)
            if isinstance(found.plain, Substring) and not exact_substrings:
                return _uncertain_where_present(found.plain.key)
            return found


def unindexed_conditions(filter_: Filter) -> int:
    """How many conditions of a filter need the payload of each memory.

    Those on `tick` and `superseded_at`, and on metadata other than equality.
    """
    match filter_:
        case And() | Or():
            return sum(map(unindexed_conditions, filter_.parts))
        case Not():
            return unindexed_conditions(filter_.part)
        case Condition():
            if not filter_.field.is_metadata:
                return int(filter_.field.path in _WITHOUT_INDEX)
            hashed = filter_.op in (Op.EQ, Op.IN) or (
                filter_.op is Op.CONTAINS and not isinstance(filter_.value, str)
            )
            return int(not hashed)


def _joined(parts: list[TranslatedFilter], *, every: bool) -> TranslatedFilter:
    join = _all if every else _any
    return TranslatedFilter(
        join(part.plain for part in parts),
        join(part.superset for part in parts),
        join(part.subset for part in parts),
        _any(part.uncertain for part in parts if not part.exact),
    )


def _exact(clause: Clause) -> TranslatedFilter:
    return TranslatedFilter(clause, clause, clause, NEVER)


def _all(clauses: Iterable[Clause]) -> Clause:
    return Group(must=tuple(clauses))


def _any(clauses: Iterable[Clause]) -> Clause:
    some = tuple(clauses)
    return Group(should=some) if some else NEVER


def _not(clause: Clause) -> Clause:
    return Group(must_not=(clause,))


def _condition(condition: Condition) -> TranslatedFilter:
    path = condition.field.path
    if condition.field.is_metadata:
        return _metadata(path, condition.op, condition.value)
    name = ".".join(path)
    if name in _TEXT_FIELDS:
        return _exact(_text(name, condition.op, condition.value))
    if name in _LINK_FIELDS:
        return _exact(_link(name, condition.op, condition.value))
    if name in _TIME_FIELDS:
        return _TIME_FIELDS[name](condition.op, condition.value)
    if name in _NUMBER_FIELDS:
        return _number(name, condition.op, condition.value)
    raise InvalidFilter(f"memories have no field {name}", path=name)


def _uncertain_where_present(key: str) -> TranslatedFilter:
    present = Group(must_not=(Empty(key),))
    return TranslatedFilter(plain=present, superset=present, subset=NEVER, uncertain=present)


def _metadata(path: tuple[str, ...], op: Op, value: Scalar | tuple[Scalar, ...]) -> TranslatedFilter:
    if len(path) == 1 or any('"' in part or "\\" in part for part in path):
        return _NOT_TRANSLATABLE
    key = ".".join(["metadata", *(f'"{part}"' for part in path[1:])])
    match op:
        case Op.EQ | Op.IN:
            hashes = tuple({fact_hash(path, one) for one in _scalars(value)})
            return _exact(Match("facts", hashes) if hashes else NEVER)
        case Op.CONTAINS if isinstance(value, str):
            return _exact(Substring(key, value))
        case Op.CONTAINS:
            return _exact(
                Match("facts", tuple(fact_hash(path, one, element=True) for one in _scalars(value)))
            )
        case Op.EXISTS:
            return _exact(_exists(key, value))
        case Op.GT | Op.GTE | Op.LT | Op.LTE:
            return _comparison(path, key, op, value)


def _text(key: str, op: Op, value: Scalar | tuple[Scalar, ...]) -> Clause:
    if op is Op.EXISTS:
        return _exists(key, value)
    if op in (Op.EQ, Op.IN):
        wanted = tuple(one for one in _scalars(value) if isinstance(one, str))
        return Match(key, wanted) if wanted else NEVER
    if op is Op.CONTAINS and isinstance(value, str):
        return Substring(key, value)
    return NEVER


def _number(key: str, op: Op, value: Scalar | tuple[Scalar, ...]) -> TranslatedFilter:
    if op is Op.EXISTS:
        return _exact(_exists(key, value))
    if op is Op.CONTAINS:
        return _exact(NEVER)
    if op in _COMPARISONS:
        return _comparison((key,), key, op, value)
    return _joined([_comparison((key,), key, Op.EQ, one) for one in _scalars(value)], every=False)


def _link(name: str, op: Op, value: Scalar | tuple[Scalar, ...]) -> Clause:
    if op is Op.EXISTS:
        present = Match("facts", (links_hash(name),))
        return present if value else Group(must_not=(present,))
    if op in (Op.EQ, Op.IN):
        return linked_clause(name, [one for one in _scalars(value) if isinstance(one, str)])
    return NEVER


def _accepted_at(op: Op, value: Scalar | tuple[Scalar, ...]) -> TranslatedFilter:
    """By ticks; a memory of an older point, which does not have the key, is read and checked."""
    found, unknown = _time("accepted", op, value), Empty("accepted")
    superset, uncertain = _any((found.superset, unknown)), _any((found.uncertain, unknown))
    return TranslatedFilter(superset, superset, found.subset, uncertain)


def _superseded_at(op: Op, value: Scalar | tuple[Scalar, ...]) -> TranslatedFilter:
    """By ticks; the payloads of memories that are not superseded are not read: an index tells them."""
    found = _time("superseded", op, value)
    if op is Op.EXISTS:
        return found
    plain, superset, subset = (_all((SUPERSEDED, one)) for one in (found.plain, found.superset, found.subset))
    return TranslatedFilter(plain, superset, subset, found.uncertain)


def _time(key: str, op: Op, value: Scalar | tuple[Scalar, ...]) -> TranslatedFilter:
    """By the ticks at a payload key: only memories in the same tick as the bound are uncertain.

    Not even these if the bound is between 2004 and 2038: then the times of a tick are all equal.
    """
    if op is Op.EXISTS:
        return _exact(_exists(key, value))
    parts: list[TranslatedFilter] = []
    for one in _scalars(value):
        if not _is_number(one) or op is Op.CONTAINS:
            continue
        tick = _clamped_ticks(one)
        same = Range(key, gte=tick, lte=tick)
        if _TICKS_EXACT_FROM <= one < _TICKS_EXACT_UNTIL:
            bound = same if op in (Op.EQ, Op.IN) else Range(key, **{op.value: tick})
            parts.append(_exact(bound))
            continue
        match op:
            case Op.GT | Op.GTE:
                superset = Range(key, gte=tick)
                parts.append(TranslatedFilter(superset, superset, Range(key, gt=tick), same))
            case Op.LT | Op.LTE:
                superset = Range(key, lte=tick)
                parts.append(TranslatedFilter(superset, superset, Range(key, lt=tick), same))
            case _:
                parts.append(TranslatedFilter(same, same, NEVER, same))
    return _joined(parts, every=False)


_TIME_FIELDS = {
    "timestamp": partial(_time, "t"),
    "accepted_at": _accepted_at,
    "superseded_at": _superseded_at,
}


def _clamped_ticks(value: float) -> int:
    try:
        return ticks(float(value))
    except OverflowError:  # an integer larger than any float
        return ticks(math.inf if value > 0 else -math.inf)


def _comparison(
    path: tuple[str, ...], key: str, op: Op, value: Scalar | tuple[Scalar, ...]
) -> TranslatedFilter:
    """`op`: one of _COMPARISONS, or EQ."""
    if not _is_number(value):
        return _exact(NEVER)
    interval = _rounding_interval(value)
    if interval is None:
        return _NOT_TRANSLATABLE
    low, high = interval
    number, around = float(value), Range(key, gte=low, lte=high)
    if op is Op.EQ:
        plain, wide, narrow = Range(key, gte=number, lte=number), around, NEVER
    elif op in (Op.GT, Op.GTE):
        plain, wide, narrow = Range(key, **{op.value: number}), Range(key, gte=low), Range(key, gt=high)
    else:
        plain, wide, narrow = Range(key, **{op.value: number}), Range(key, lte=high), Range(key, lt=low)
    if number != value:
        return TranslatedFilter(plain=wide, superset=wide, subset=narrow, uncertain=around)
    return _uncertain_where_inexact(path, plain=plain, wide=wide, narrow=narrow)


def _uncertain_where_inexact(
    path: tuple[str, ...], *, plain: Clause, wide: Clause, narrow: Clause
) -> TranslatedFilter:
    """`plain` is exact where Qdrant parses the number exactly; elsewhere the result is between `narrow` and `wide`."""
    uncertain = Match("facts", (inexact_number_hash(path),))
    superset = _any((plain, _all((uncertain, wide))))
    subset = _any((_all((plain, _not(uncertain))), narrow))
    return TranslatedFilter(plain, superset, subset, uncertain)


def _rounding_interval(value: float) -> tuple[float, float] | None:
    """(low, high) around every number that Qdrant may parse this one as; None if there are no finite bounds."""
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
