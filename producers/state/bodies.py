"""JSON bodies of writes: an error names the field also where the body is not strict JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar, cast

from lorestream import limits
from lorestream.errors import InvalidEvent, InvalidRequest
from lorestream.http.request import ApiRequest, HttpError, decode

T = TypeVar("T")

_UNNAMED = "[...]"
"""How msgspec names any key of an object, also the one of a number beyond the largest float."""
_ENVELOPE_LEVELS = 2
"""Levels of a body around the value whose depth is limited."""


async def json_body(request: ApiRequest, kind: type[T], *, may_be_empty: bool = False) -> T:
    """The body as a struct. Raises HttpError, and InvalidRequest with the path of the invalid field.

    `may_be_empty`: no body is the same as an empty object.
    """
    raw = await request.body()
    if may_be_empty and not raw:
        raw = b"{}"
    try:
        return decode(raw, kind)
    except (HttpError, InvalidRequest) as error:
        if isinstance(error, HttpError) or _UNNAMED in (error.path or ""):
            # In a thread: reading a body of 1 MiB in this way takes a fifth of a second.
            await asyncio.to_thread(_name_unstorable, raw)
        raise error from error.__cause__


def check_json(value: dict[str, Any] | list[Any], path: str, levels: int = limits.MAX_DEPTH) -> None:
    """As `limits.check_json`, but raises InvalidRequest: nothing here is an event for a worker."""
    try:
        limits.check_json(value, path, levels)
    except InvalidEvent as error:
        named = (error.path or path).lstrip(".")
        raise InvalidRequest(error.message, path=named.encode(errors="replace").decode()) from error


def _name_unstorable(raw: bytes) -> None:
    """Raise InvalidRequest with the path of a NaN, an infinity or a lone surrogate in a body that msgspec refuses."""
    try:
        # Python's parser accepts these.
        body = json.loads(raw, parse_int=float)
    except (ValueError, RecursionError):
        return
    if isinstance(body, dict | list):
        check_json(cast("dict[str, Any] | list[Any]", body), "", limits.MAX_DEPTH + _ENVELOPE_LEVELS)
