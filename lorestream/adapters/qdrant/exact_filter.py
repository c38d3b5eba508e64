"""Filters evaluated on a memory itself, for the cases in which the engine's answer is only approximate.

Engines compare numbers as 64-bit floats and cannot express every metadata path. In those cases the store requests
a superset from the engine, and `matches` decides.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from lorestream.errors import InvalidFilter
from lorestream.memories import And, Condition, Not, Op, Or

if TYPE_CHECKING:
    from lorestream.memories import Filter, Memory, Scalar

_COMPARE: Mapping[Op, Callable[[Any, Any], bool]] = {
    Op.GT: operator.gt,
    Op.GTE: operator.ge,
    Op.LT: operator.lt,
    Op.LTE: operator.le,
}
_ATTRIBUTES = frozenset(
    {"type", "tick", "timestamp", "importance", "player", "server", "accepted_at", "superseded_at"}
)
_LISTS = frozenset({"about", "sources"})
_COORDINATES = {"pos.x": "x", "pos.y": "y", "pos.z": "z"}


def matches(filter_: Filter, memory: Memory) -> bool:
    """True if the memory satisfies the filter, exactly as the public contract defines it."""
    match filter_:
        case And():
            return all(matches(part, memory) for part in filter_.parts)
        case Or():
            return any(matches(part, memory) for part in filter_.parts)
        case Not():
            return not matches(filter_.part, memory)
        case Condition():
            return _satisfies(_value(memory, filter_.field.path), filter_.op, filter_.value)


def _value(memory: Memory, path: tuple[str, ...]) -> object:
    """The value at a path; None if it is missing, because filters treat missing and null alike."""
    if path[0] == "metadata":
        value: object = memory.metadata
        for part in path[1:]:
            value = value.get(part) if isinstance(value, Mapping) else None
        return value
    name = ".".join(path)
    if name in _ATTRIBUTES:
        return getattr(memory, name)
    if name in _LISTS:
        return [*getattr(memory, name)]
    if name in _COORDINATES:
        return None if memory.pos is None else memory.pos.get(_COORDINATES[name])
    raise InvalidFilter(f"memories have no field {name}", path=name)


def _satisfies(value: object, op: Op, wanted: Scalar | tuple[Scalar, ...]) -> bool:
    if op is Op.EXISTS:
        return (value is not None and value != []) is wanted
    if isinstance(value, list):
        return any(_compare(element, op, wanted, in_list=True) for element in value)
    return _compare(value, op, wanted, in_list=False)


def _compare(value: object, op: Op, wanted: Scalar | tuple[Scalar, ...], *, in_list: bool) -> bool:
    """One comparison with a scalar. False for a value that is not a scalar, or of another type."""
    match op:
        case Op.EQ:
            return _equal(value, wanted)
        case Op.IN:
            return isinstance(wanted, tuple) and any(_equal(value, one) for one in wanted)
        case Op.CONTAINS:
            if isinstance(value, str) and isinstance(wanted, str):
                return wanted in value
            return in_list and _equal(value, wanted)
        case Op.GT | Op.GTE | Op.LT | Op.LTE:
            return _is_number(value) and _is_number(wanted) and _COMPARE[op](value, wanted)
        case Op.EXISTS:
            raise AssertionError("_satisfies handles exists")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(value: object, wanted: object) -> bool:
    if _is_number(value):
        return _is_number(wanted) and value == wanted
    return type(value) is type(wanted) and isinstance(value, str | bool) and value == wanted
