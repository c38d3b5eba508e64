"""What is valid: the limits on times, depth, lengths, names and numbers, for every part that accepts, stores or reads.

The doors (HTTP, gRPC, import, command line, clients) refuse what is outside; readers clamp, because data from before a
limit existed may lie outside it. A limit is written only here, so that no part accepts what another one cannot carry.

    check_json({"n": 1}, "metadata")  # raises InvalidEvent with the path of what cannot be stored
    utc(-1e300)                       # datetime(1, 1, 1, tzinfo=UTC)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias, cast

from msgspec import Meta

from lorestream.errors import InvalidEvent, InvalidRequest

# --- lengths -----------------------------------------------------------------------------------------------

MAX_EVENTS = 1000
"""The most events of one request."""
MAX_EVENT_BYTES = 16 * 1024
MAX_RECORD_BYTES = 64 * 1024
"""The limit of an event whose `recall` is false."""
MAX_AGENT_ID_CHARS = 256
"""The limit of an agent id as its caller names it. A stored id with a pseudonym in place of the name may be longer."""
MAX_PLAYER_CHARS = 256
MAX_SERVER_CHARS = 128
MAX_TYPE_CHARS = 64
MAX_EVENT_ID_CHARS = 256
MAX_ABOUT = 64
"""The most entries of an event's `about`."""
MAX_IDS = 256
"""The most memories that are read by their ids in one request."""
MAX_SOURCES = MAX_IDS
"""The most entries of an event's `sources`."""
MAX_DOCUMENT_BYTES = 256 * 1024
"""The largest `data` of a document, as JSON."""
MAX_QUERY_CHARS = 8192
MAX_K = 100
"""The most memories of a search."""
MAX_PAGE_SIZE = 1000
"""The most entries of a page: memories, agents, documents, versions."""
MAX_AGENTS = 64
"""The most agents of one search."""
MAX_TOKEN_BUDGET = 100_000
"""The most tokens of a context."""

_PSEUDONYM_AT_END = re.compile(r":[A-Za-z0-9_-]{1,32}:[0-9a-f]{64}\Z")

AgentId: TypeAlias = Annotated[
    str,
    # The longest is checked by `check_agent_id`, because it depends on the content.
    Meta(min_length=1, extra_json_schema={"maxLength": MAX_AGENT_ID_CHARS}),
]
PlayerName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_PLAYER_CHARS)]
ServerName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_SERVER_CHARS)]
Query: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_QUERY_CHARS)]


def check_agent_id(agent_id: str, path: str = "agent_id") -> None:
    """Raise InvalidRequest unless the id has 1 to MAX_AGENT_ID_CHARS characters.

    A pseudonym at its end is not counted: what a listing shows can be asked for, though the stored id is longer than
    the one that the caller named.
    """
    if not agent_id:
        raise InvalidRequest("must not be empty", path=path)
    if len(agent_id) > MAX_AGENT_ID_CHARS:
        stored = _PSEUDONYM_AT_END.search(agent_id)
        if stored is None or stored.start() > MAX_AGENT_ID_CHARS:
            raise InvalidRequest(
                f"{len(agent_id)} characters; an agent id may have at most {MAX_AGENT_ID_CHARS}", path=path
            )


# --- names -------------------------------------------------------------------------------------------------
# Patterns of msgspec are searched for, so they begin with ^ and end with \Z; `$` would allow a line break at the end.

Tenant: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,64}\Z")]
CollectionName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")]
"""The name of a collection that an operator chooses."""

DOCUMENT_TYPE = re.compile(r"[a-z0-9_.-]{1,64}")
"""The types of documents that callers may use. Internal types have a colon."""
DocumentType: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": f"^{DOCUMENT_TYPE.pattern}$"})]
"""For parameters. `lorestream.state.documents.check_type` checks it, because `$` would allow a line break at the end."""

RESERVED_TYPE_PREFIX = "lorestream."
"""Types of events that begin with it are reserved."""

_TENANT = re.compile(r"[a-z0-9_-]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_tenant(name: str) -> bool:
    """Whether `name` can be the name of a tenant."""
    return _TENANT.fullmatch(name) is not None


def canonical_memory_id(text: str) -> str | None:
    """A memory id in its stored form, lower case. None for a text that no memory id has."""
    lower = text.lower()
    return lower if _UUID.fullmatch(lower) else None


# --- times -------------------------------------------------------------------------------------------------

MIN_TIME = -62_135_596_800.0
"""0001-01-01T00:00:00Z in Unix seconds: the beginning of the calendar of most libraries."""
MAX_TIME = 253_402_300_799.999
"""The last millisecond of the year 9999 in Unix seconds."""


def is_time(seconds: float) -> bool:
    """Whether these Unix seconds are a time in the years 1 to 9999. False for NaN and infinity."""
    return MIN_TIME <= seconds <= MAX_TIME


def clamp_time(seconds: float) -> float:
    """The nearest time in the years 1 to 9999, in Unix seconds."""
    return min(MAX_TIME, max(MIN_TIME, seconds))


def utc(seconds: float) -> datetime:
    """Unix seconds as a datetime in UTC, clamped to the years 1 to 9999."""
    return datetime.fromtimestamp(clamp_time(seconds), UTC)


def check_has_come(seconds: float, now: float, path: str, what: str = "") -> None:
    """Raise InvalidRequest if the time has not come yet. Both are Unix seconds. `what`: the end of the message."""
    if seconds > now:
        raise InvalidRequest(
            f"{utc(seconds):%Y-%m-%d %H:%M:%S} UTC has not come yet, by the clock of this service{what}",
            path=path,
        )


# --- numbers and JSON values -------------------------------------------------------------------------------

EmptyList: TypeAlias = Annotated[list[Any], Meta(max_length=0)]
"""Lua has one type for objects and lists, so an empty table may arrive as either."""
JsonObject: TypeAlias = dict[str, Any] | EmptyList | None
INT64 = range(-(2**63), 2**63)
MAX_DEPTH = 32
"""Levels of nested objects and lists in a JSON value, the outermost included. Values that are not containers are no level.

Protobuf allows 100 nested messages, and a level of JSON takes three in Qdrant's API.
"""

_LONE_SURROGATE = re.compile(r'\\u[dD][89abAB][0-9a-fA-F]{2}"')


def check_json(value: Mapping[str, Any] | list[Any], path: str, levels: int = MAX_DEPTH) -> None:
    """Check that a JSON object or list can be stored and comes back unchanged.

    Raises InvalidEvent with the path of the first value that cannot: a number that is not finite, an integer beyond
    64 bits, a lone surrogate, or more than `levels` levels. `path` is the name of the value itself.
    """
    if levels == 0:
        raise InvalidEvent(f"more than {MAX_DEPTH} levels deep", path=re.split(r"[.\[]", path, maxsplit=1)[0])
    parts: Iterable[tuple[str | int, object]] = (
        value.items() if isinstance(value, Mapping) else enumerate(value)
    )
    for key, part in parts:
        if isinstance(part, dict | list):
            check_json(cast("dict[str, Any] | list[Any]", part), _child(path, key), levels - 1)
        elif fault := scalar_fault(part):
            raise InvalidEvent(fault, path=_child(path, key))
        if isinstance(key, str) and (fault := scalar_fault(key)):
            raise InvalidEvent(f"a key: {fault}", path=path)


def json_fault(text: bytes | str, error: Exception) -> str:
    """What is wrong with a text that msgspec could not decode, by its `error`.

    It takes half of a surrogate pair that is not followed by six more characters for the end of the text.
    """
    end = text[-12:].decode(errors="replace") if isinstance(text, bytes) else text[-12:]
    return "a lone surrogate" if _LONE_SURROGATE.search(end) else str(error)


def scalar_fault(value: object) -> str | None:
    """Why a value that is no container cannot be stored. None if it can."""
    match value:  # the most frequent types first: this runs for every value of every memory
        case str():
            return None if value.isascii() or _is_unicode(value) else "a lone surrogate cannot be stored"
        case bool() | None:
            return None
        case float():
            return None if math.isfinite(value) else "a number that is not finite"
        case int():
            return None if value in INT64 else "an integer beyond 64 bits"
        case _:
            return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _child(path: str, key: str | int) -> str:
    return f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}"
