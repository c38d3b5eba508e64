"""Which reads show records: those whose filter names the type, and that do not search by meaning or words."""

from __future__ import annotations

from dataclasses import replace

from lorestream.memories import And, Condition, Filter, Op, Or, Scope


def with_records(scope: Scope, filter_: Filter) -> Scope:
    """The scope of a read by order, place or time: with the agents' records if the filter names a type."""
    return replace(scope, records=True) if _names_types(filter_) else scope


def _names_types(filter_: Filter) -> bool:
    """Whether all that matches the filter is of types that it names."""
    match filter_:
        case And(parts):
            return any(map(_names_types, parts))
        case Or(parts):
            return all(map(_names_types, parts))
        case Condition(field, op, _):
            return field.path == ("type",) and op in (Op.EQ, Op.IN)
        case _:
            return False
