"""The known types of events: which of them are records by default, and the fields that they may have.

A record is an event that is no memory to be found by meaning: it is stored without a vector. Fields that are not known
are kept as they are.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, cast

from lorestream.errors import InvalidEvent

RECORD_TYPES = frozenset({"tool", "reward", "interaction", "agent_state"})
"""Events of these types are records unless their `recall` says otherwise."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    """A string, or a whole number, which Lua writes as 3.0."""
    return isinstance(value, str) or (_is_number(value) and float(cast("float", value)).is_integer())


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_base64(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        base64.b64decode(value, validate=True)
    except ValueError:  # binascii.Error is one as well
        return False
    return True


def _are_numbers(value: object) -> bool:
    """An object of numbers; Lua may write an empty one as a list."""
    if isinstance(value, Mapping):
        return all(map(_is_number, cast("Mapping[str, object]", value).values()))
    return value == []


_TEXT = (_is_text, "a string is needed")
_NAME = (_is_name, "a string or a whole number is needed")
_NUMBER = (_is_number, "a number is needed")
_BOOL = (_is_bool, "true or false is needed")
_NUMBERS = (_are_numbers, "an object of numbers is needed")
_BASE64 = (_is_base64, "bytes in base64 (RFC 4648, with padding) are needed")

_FIELDS: Mapping[str, Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "message": {"role": _TEXT, "name": _TEXT, "conversation": _NAME},
    "tool": {"tool": _TEXT, "ok": _BOOL, "took_ms": _NUMBER},
    "reward": {"value": _NUMBER, "components": _NUMBERS},
    "agent_state": {"bytes": _BASE64, "codec": _TEXT, "encoder_version": _NAME},
}


def check_known_fields(type_: str | None, path: str, fields: Mapping[str, Any]) -> None:
    """Check the known fields of a type where they are present; null is as missing.

    `fields` is the event's `data` or `metadata`, `path` its name. Raises InvalidEvent.
    """
    for name, (is_valid, fault) in _FIELDS.get(type_ or "", {}).items():
        value = fields.get(name)
        if value is not None and not is_valid(value):
            raise InvalidEvent(f"{fault} in an event of the type {type_}", path=f"{path}.{name}")
