"""Arguments as JSON and as parts of a URL; what cannot be represented there is refused before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

import msgspec

from lorestream import limits
from lorestream.client.exceptions import InvalidValue


def encoded(value: object, path: str = "") -> bytes:
    """The value as JSON. `path`: its name in errors.

    Raises InvalidValue for what JSON cannot represent: NaN and infinity would be sent as null.
    """
    _check(value, path)
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidValue(f"cannot be written as JSON: {error}", path=path or None) from error


def as_texts(params: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of a query string. Raises InvalidValue."""
    _check(params, "")
    return {name: str(value) for name, value in params.items()}


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, rounded up. Raises InvalidValue for NaN and infinity."""
    _check(seconds, "wait_s")
    return math.ceil(seconds * 1000)


def quoted(text: str, path: str = "agent_id") -> str:
    """One path segment, percent-encoded; dots too, because a segment `..` would be removed from the path.

    `path`: the name of the argument in errors. Raises InvalidValue.
    """
    _check(text, path)
    return quote(text, safe="").replace(".", "%2E")


def _check(value: object, path: str) -> None:
    if isinstance(value, Mapping):
        for key, part in cast("Mapping[object, object]", value).items():
            _check(key, path)
            _check(part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(cast("Sequence[object]", value)):
            _check(part, f"{path}[{index}]")
    elif isinstance(value, str | float) and (fault := limits.scalar_fault(value)):
        raise InvalidValue(fault, path=path or None)
