"""Parses the JSON filters of requests into `lorestream.memories.Filter`.

    {"type": "dig", "tick": {"gte": 100, "lt": 200}, "OR": [{"node": "default:tree"}, {"zone": ["north", "west"]}]}

All entries of an object must hold. A scalar means equality, a list any of its values, an object of operators all of
them. `AND` and `OR` take a list of filters, `NOT` one filter, or a list of filters of which not all may hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from lorestream.errors import InvalidFilter
from lorestream.memories import EVERYTHING, And, Condition, Field, Filter, Not, Op, Or, Scalar

MAX_CONDITIONS = 32
MAX_DEPTH = 4
MAX_OBJECTS = 128
"""The most filter objects, empty ones included."""
MAX_VALUES = 1000
"""The most values in all lists of a filter together."""

_INT64 = 2**63
TEXT_FIELDS = frozenset({"type", "server", "player"})
LIST_FIELDS = frozenset({"about", "sources"})
_NUMBER_FIELDS = frozenset({"tick", "timestamp", "importance", "pos.x", "pos.y", "pos.z"})
_OPERATORS = ("eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "contains", "exists")
_COMPARISONS = frozenset({Op.GT, Op.GTE, Op.LT, Op.LTE})

StoredForms = Callable[[str], Sequence[str]]
"""All stored forms of a value of a field."""


def parse_filter(value: object, *, stored_forms: Mapping[str, StoredForms]) -> Filter:
    """Parse a decoded JSON filter; None means no filter. Raises InvalidFilter with the path of the invalid part.

    `stored_forms`: by the name of a field, for fields whose values are stored in other forms than callers write.
    """
    if value is None:
        return EVERYTHING
    return _Parser(stored_forms).filter(value, "filters", 1)


class _Parser:
    """Parses one filter, and counts its parts while parsing, so that a too large one is rejected early."""

    def __init__(self, stored_forms: Mapping[str, StoredForms]) -> None:
        self._stored_forms = stored_forms
        self._conditions = 0
        self._objects = 0
        self._values = 0

    def filter(self, value: object, path: str, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"filters may be nested at most {MAX_DEPTH} deep", path=path)
        if not isinstance(value, Mapping):
            raise InvalidFilter("a filter is an object", path=path)
        self._objects += 1
        if self._objects > MAX_OBJECTS:
            raise InvalidFilter(f"a filter may have at most {MAX_OBJECTS} objects", path=path)
        entries = cast("Mapping[str, object]", value)
        parts = [self._entry(key, inner, f"{path}.{key}", depth) for key, inner in entries.items()]
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _entry(self, key: str, value: object, path: str, depth: int) -> Filter:
        match key:
            case "AND":
                return And(self._filters(value, path, depth))
            case "OR":
                return Or(self._filters(value, path, depth))
            case "NOT" if isinstance(value, list):
                return Not(And(self._filters(cast("object", value), path, depth)))
            case "NOT":
                return Not(self.filter(value, path, depth + 1))
            case _:
                return self._field(key, value, path)

    def _filters(self, value: object, path: str, depth: int) -> tuple[Filter, ...]:
        if not isinstance(value, list):
            raise InvalidFilter("a list of filters is needed here", path=path)
        parts = cast("list[object]", value)
        return tuple(self.filter(part, f"{path}[{index}]", depth + 1) for index, part in enumerate(parts))

    def _field(self, name: str, value: object, path: str) -> Filter:
        field = parse_field(name, path)
        match value:
            case dict():
                operators = cast("dict[str, object]", value)
                if not operators:
                    raise InvalidFilter(f"an operator is missing: one of {', '.join(_OPERATORS)}", path=path)
                parts = [self._operator(field, op, inner, f"{path}.{op}") for op, inner in operators.items()]
                return parts[0] if len(parts) == 1 else And(tuple(parts))
            case list():
                return self._operator(field, "in", cast("object", value), path)
            case _:
                return self._operator(field, "eq", value, path)

    def _operator(self, field: Field, name: str, value: object, path: str) -> Filter:
        match name:
            case "ne":
                return Not(self._condition(field, Op.EQ, value, path))
            case "nin":
                return Not(self._condition(field, Op.IN, value, path))
            case "eq" | "in" | "gt" | "gte" | "lt" | "lte" | "contains" | "exists":
                return self._condition(field, Op(name), value, path)
            case _:
                known = f"known are {', '.join(_OPERATORS)}; a key of a nested object is written with a dot"
                raise InvalidFilter(f"{name!r} is not an operator: {known}", path=path)

    def _condition(self, field: Field, op: Op, value: object, path: str) -> Filter:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise InvalidFilter(f"a filter may have at most {MAX_CONDITIONS} conditions", path=path)
        name = ".".join(field.path)
        if op is Op.EXISTS:
            if not isinstance(value, bool):
                raise InvalidFilter("exists is true or false", path=path)
            return Condition(field, op, value)
        if op is Op.IN:
            values = self._list(value, path)
            for index, one in enumerate(values):
                _check_type(name, op, one, f"{path}[{index}]")
            return Condition(field, op, self._stored(name, values))
        scalar = _scalar(value, path)
        _check_type(name, op, scalar, path)
        if name in LIST_FIELDS:  # a list holds a value if one of its elements equals it
            op = Op.EQ
        stored = self._stored(name, (scalar,))
        return Condition(field, op, stored[0]) if len(stored) == 1 else Condition(field, Op.IN, stored)

    def _list(self, value: object, path: str) -> tuple[Scalar, ...]:
        if not isinstance(value, list | tuple):
            raise InvalidFilter("a list of values is needed here", path=path)
        values = cast("Sequence[object]", value)
        self._values += len(values)
        if self._values > MAX_VALUES:
            raise InvalidFilter(
                f"the lists of a filter may have at most {MAX_VALUES} values in all", path=path
            )
        return tuple(_scalar(one, f"{path}[{index}]") for index, one in enumerate(values))

    def _stored(self, name: str, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        """The values to compare with, in all of their stored forms: those of players' names are pseudonyms."""
        forms = self._stored_forms.get(name)
        if forms is None:
            return values
        return tuple(form for value in values for form in forms(cast("str", value)))


def parse_field(name: str, path: str) -> Field:
    """The field that a request names. Raises InvalidFilter with its `path`."""
    parts = name.split(".")
    if '"' in name or "\\" in name or not all(parts):
        raise InvalidFilter(
            "a field name is made of keys joined by dots; keys that contain a dot, a double quote or a backslash"
            " cannot be used in a filter",
            path=path,
        )
    if name in TEXT_FIELDS | LIST_FIELDS | _NUMBER_FIELDS:
        return Field((name,))
    if name == "metadata":
        raise InvalidFilter("name a key: metadata.KEY, or KEY alone", path=path)
    return Field(tuple(parts) if parts[0] == "metadata" else ("metadata", *parts))


def _scalar(value: Any, path: str) -> Scalar:  # noqa: ANN401 (JSON)
    match value:
        case str() | bool():
            return value
        case int() if -_INT64 <= value < _INT64:
            return value
        case float() if math.isfinite(value):
            return value
        case int() | float():
            raise InvalidFilter("numbers must be finite, and integers at most 64 bits long", path=path)
        case None:
            raise InvalidFilter(
                'null equals nothing: for missing or null values use {"exists": false}', path=path
            )
        case _:
            raise InvalidFilter("a string, a number or a boolean is needed here", path=path)


def _check_type(name: str, op: Op, value: Scalar, path: str) -> None:
    """Reject a comparison that no memory can satisfy: it would return nothing and hide a mistake."""
    number = not isinstance(value, str | bool)
    if name in TEXT_FIELDS:
        if op in _COMPARISONS or (op is Op.CONTAINS and name == "player"):
            raise InvalidFilter(f"{op.value} cannot be used with {name}", path=path)
        if not isinstance(value, str):
            raise InvalidFilter(f"{name} is compared with a string", path=path)
    elif name in LIST_FIELDS:
        if op in _COMPARISONS:
            raise InvalidFilter(f"{op.value} cannot be used with {name}, which is a list", path=path)
        if not isinstance(value, str):
            raise InvalidFilter(f"the elements of {name} are strings", path=path)
    elif name in _NUMBER_FIELDS and op is Op.CONTAINS:
        raise InvalidFilter(f"contains cannot be used with {name}, which is a number", path=path)
    elif (name in _NUMBER_FIELDS or op in _COMPARISONS) and not number:
        raise InvalidFilter("a number is needed here", path=path)
