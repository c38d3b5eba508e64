"""Filters held against a memory itself, for where an engine's answer is only nearly right.

Engines compare numbers as 64-bit floats and cannot express every path; a store asks its engine for a
little too much there, and lets `holds` decide.
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
_PLAIN = frozenset({"type", "tick", "timestamp", "importance", "player", "server"})
_PLACE = {"pos.x": "x", "pos.y": "y", "pos.z": "z"}


def holds(condition: Filter, memory: Memory) -> bool:
    """Whether a memory satisfies a filter, exactly as the contract words it."""
    match condition:
        case And():
            return all(holds(part, memory) for part in condition.parts)
        case Or():
            return any(holds(part, memory) for part in condition.parts)
        case Not():
            return not holds(condition.part, memory)
        case Condition():
            return _satisfies(_value(memory, condition.field.path), condition.op, condition.value)


def _value(memory: Memory, path: tuple[str, ...]) -> object:
    """The value at a path, None where there is none: no condition tells missing from null."""
    if path[0] == "metadata":
        value: object = memory.metadata
        for part in path[1:]:
            value = value.get(part) if isinstance(value, Mapping) else None
        return value
    name = ".".join(path)
    if name in _PLAIN:
        return getattr(memory, name)
    if name in _PLACE:
        return None if memory.pos is None else memory.pos.get(_PLACE[name])
    raise InvalidFilter(f"{name} is not a field of a memory", path=name)


def _satisfies(value: object, op: Op, wanted: Scalar | tuple[Scalar, ...]) -> bool:
    if op is Op.EXISTS:
        return (value is not None and value != []) is wanted
    if isinstance(value, list):
        return any(_compare(element, op, wanted, element=True) for element in value)
    return _compare(value, op, wanted, element=False)


def _compare(value: object, op: Op, wanted: Scalar | tuple[Scalar, ...], *, element: bool) -> bool:
    """One comparison with a scalar; what is no scalar, or one of another type, satisfies none."""
    match op:
        case Op.EQ:
            return _equal(value, wanted)
        case Op.IN:
            return isinstance(wanted, tuple) and any(_equal(value, one) for one in wanted)
        case Op.CONTAINS:
            if isinstance(value, str) and isinstance(wanted, str):
                return wanted in value
            return element and _equal(value, wanted)
        case Op.GT | Op.GTE | Op.LT | Op.LTE:
            return _number(value) and _number(wanted) and _COMPARE[op](value, wanted)
        case Op.EXISTS:
            raise AssertionError("answered before")


def _number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(value: object, wanted: object) -> bool:
    if _number(value):
        return _number(wanted) and value == wanted
    return type(value) is type(wanted) and isinstance(value, str | bool) and value == wanted
