"""The body of POST /v1/events, taken apart so that one bad event never costs its neighbours.

A whole body is decoded at once, with every event left as bytes. Where that fails, because one event holds what
is almost JSON (NaN, a lone surrogate, a thousand brackets), the list is cut at its commas instead, and each
piece stands for itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from lorestream.http.request import Refused, decode
from producers.admission import Event

MAX_EVENTS = 1000
DEFAULT_SERVER = "default"

ServerName = Annotated[str, Meta(min_length=1, max_length=128)]


class Events(msgspec.Struct):
    """What a producer sends: at most 1,000 events of one game server, in their order."""

    events: Annotated[list[Event], Meta(max_length=MAX_EVENTS)] | None
    server: ServerName | None = None


class _Uncut(msgspec.Struct):
    events: list[msgspec.Raw] | None
    server: ServerName | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A body, its events still as bytes."""

    server: str
    events: Sequence[bytes | msgspec.Raw]


_decoder = msgspec.json.Decoder(_Uncut)

# Strings whole (the last one may lack its end), so that what is in them is not taken for structure.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},:]', re.DOTALL)


async def take_apart(body: bytes) -> Submission:
    """Split a body into its events. Raises InvalidRequest and Refused (400, 413) for the body as a whole."""
    try:
        uncut = _decoder.decode(body)
    except msgspec.ValidationError:
        uncut = decode(body, _Uncut)  # once more, for the error that names the field
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Slow, and not what anybody sends in earnest: it must not hold up the others.
        return await asyncio.to_thread(_take_apart_by_hand, body)
    return _submission(uncut, uncut.events or ())


def _take_apart_by_hand(body: bytes) -> Submission:
    rest, pieces = _cut(body)
    return _submission(decode(rest, _Uncut), pieces)


def _submission(uncut: _Uncut, events: Sequence[bytes | msgspec.Raw]) -> Submission:
    if len(events) > MAX_EVENTS:
        raise Refused(
            413,
            "too_many_events",
            f"{len(events)} events; a body may hold {MAX_EVENTS}",
            max_events=MAX_EVENTS,
        )
    return Submission(uncut.server or DEFAULT_SERVER, events)


def _cut(body: bytes) -> tuple[bytes, list[bytes]]:
    """The body with an empty list of events, and the pieces that were in it. Judges nothing."""
    depth, key, before = 0, b"", b""
    begin = end = piece = -1
    pieces: list[bytes] = []
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in {b"{", b"["}:
            depth += 1
            if begin < 0 and depth == 2 and (key, before, mark) == (b'"events"', b":", b"["):  # noqa: PLR2004
                begin = piece = token.end()
        elif mark in {b"}", b"]"}:
            if depth == 2 and begin >= 0 > end:  # noqa: PLR2004
                end = token.start()
                pieces.append(body[piece:end])
            depth -= 1
        elif mark == b"," and depth == 2 and begin >= 0 > end:  # noqa: PLR2004
            pieces.append(body[piece : token.start()])
            piece = token.end()
        elif mark == b":" and depth == 1:
            key = before
        before = mark
    if end < 0:
        return body, []
    if len(pieces) == 1 and not pieces[0].strip():
        pieces = []
    return body[:begin] + body[end:], pieces
