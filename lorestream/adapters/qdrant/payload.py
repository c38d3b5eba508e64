"""A memory as a Qdrant point: its id, its payload, and the memory decoded from the payload.

A payload holds the memory twice. `body` is the memory as JSON text, and readers get the memory decoded from it:
Qdrant parses floats with an error of up to one unit in the last place and turns integers beyond 64 bits into
floats, so a number that has to come back exactly cannot be stored as a number. The other keys exist for filters,
order and facets:

    agent         JSON array [tenant, agent_id]        facts     64-bit hashes for equality, see `fact_hash`
    tenant        the tenant                           metadata  the event's own metadata
    owner, group  in place of these two, in a record   (a memory that is not for recall, see `record_group`)
                  and in a memory that was rewound     (see `rewound_group`)
    t, expires    times in ticks, see `ticks`          type, server, player, agent_player
    accepted      likewise; missing in older points    tick, importance, pos
    superseded    when it was superseded, likewise     text      the text

`facts` also say with what the memory is linked (`link_hash`): whom it is `about`, its `sources`, what it `supersedes`,
what it is `superseded_by`, on which `servers`, and whether it is `superseded` by one that counts; and the `players`
among all these, for erasures. And they have a hash of the text of each memory that has a vector (`text_hash`), by which
the vector of an equal text is found.

A tombstone has only the keys `deleted` (ticks) and `grave` (JSON text: tenant, agent, memory id, exact time).
Without `agent` and `tenant` it matches no condition on either of them.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from lorestream.errors import InvalidEvent
from lorestream.identity import agent_key
from lorestream.limits import check_json, scalar_fault
from lorestream.memories import Correction, Memory
from lorestream.ports import Tombstone

if TYPE_CHECKING:
    from lorestream.memories import Scalar

SCHEMA_VERSION = 4
"""Rises when points are stored differently, so that no older version writes to the collection."""
READABLE_SCHEMAS = (3, SCHEMA_VERSION)
"""Schemas that this version reads and writes. Collections of schema 3 do not record how words are stored."""
POINT_NAMESPACE = uuid.UUID("c1a5a3c4-58c8-5a0e-9d3b-0a8f6b1d7e90")
"""The UUIDv5 namespace of point ids. It must never change: existing points could not be found any more."""

READ_KEYS = ["body", "text", "grave", "row"]
"""The payload keys that `decode_memory` and `decode_point` need, and the one by which rows are told from memories."""

FLOAT_INDEX_KEYS = ["importance", "pos.x", "pos.y", "pos.z"]
"""The payload keys with a float index: a box filter over 10,000 memories takes 0.1 ms with it, 15 ms without."""

TICKS_PER_S = 2**22
"""A double between 2004 and 2038, in seconds, is a whole number of ticks below 2**53."""

MAX_TICKS = 2**62
_MAX_EXACT_INTEGER = 2**53
_MAX_EXACT_DIGITS = 15


class _Links(msgspec.Struct, array_like=True):
    """What few memories have. Fields may only be added at the end, with a default."""

    about: tuple[str, ...]
    sources: tuple[str, ...]
    supersedes: str | None
    superseded_by: tuple[Correction, ...]


class _Body(msgspec.Struct, array_like=True):
    """The memory without its text. Fields may only be added at the end, with a default: stored bodies lack them."""

    id: str
    tenant: str
    agent_id: str
    timestamp: float
    accepted_at: float
    server: str
    type: str | None
    metadata: dict[str, Any]
    pos: dict[str, float] | None
    tick: float | None
    importance: float
    player: str | None
    agent_player: str | None
    expires_at: float | None
    truncated: bool
    lasting_agent: str | None
    recall: bool = True
    rewound: bool = False
    links: _Links | None = None


class _TombstoneBody(msgspec.Struct, array_like=True):
    """What is kept of a deleted memory."""

    tenant: str
    agent_id: str
    memory_id: str
    deleted_at: float


_NO_LINKS = _Links((), (), None, ())
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Body)
_tombstone_decoder = msgspec.json.Decoder(_TombstoneBody)


# --- identity ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=65_536)
def agent_keyword(tenant: str, agent_id: str) -> str:
    """The payload key `agent`. A JSON array, because any separator may occur in the parts."""
    return agent_key(tenant, agent_id).decode()


@lru_cache(maxsize=1024)
def record_group(tenant: str) -> str:
    """The payload key `group` of the tenant's records: rows have three parts there.

    A record has `owner` and `group` in place of `agent` and `tenant`, so no condition on memories matches it.
    """
    return orjson.dumps([tenant, "record"]).decode()


@lru_cache(maxsize=1024)
def rewound_group(tenant: str) -> str:
    """The payload key `group` of the tenant's memories and records that a rewind hides.

    They have `owner` and `group` in place of `agent` and `tenant`, as records do, so no read matches them, while an
    erasure of their agent or player, and the sweep, still do.
    """
    return orjson.dumps([tenant, "rewound"]).decode()


def is_group_of_memories(group: str) -> bool:
    """Whether a payload key `group` is one of memories or records; those of rows have three parts."""
    return len(orjson.loads(group)) == 2  # noqa: PLR2004


def parse_agent_keyword(keyword: str) -> tuple[str, str]:
    """(tenant, agent_id) from the payload key `agent`."""
    tenant, agent_id = orjson.loads(keyword)
    return tenant, agent_id


def point_id(tenant: str, agent_id: str, memory_id: str) -> str:
    """UUIDv5 of [tenant, agent_id, memory_id]: the same memory id of another agent is another point."""
    return str(uuid.uuid5(POINT_NAMESPACE, orjson.dumps([tenant, agent_id, memory_id]).decode()))


def point_of(memory: Memory) -> str:
    """The id of the memory's point: made of `lasting_agent`, which stays when the player key is rotated."""
    return point_id(memory.tenant, memory.lasting_agent or memory.agent_id, memory.id)


def ticks(seconds: float) -> int:
    """Unix seconds as an integer number of ticks, rounded down: Qdrant stores and compares integers exactly.

    From 2004 to 2038 different times have different ticks. Elsewhere they may share one; the exact time is in `body`.
    """
    if seconds >= MAX_TICKS / TICKS_PER_S:
        return MAX_TICKS
    if seconds <= -MAX_TICKS / TICKS_PER_S:
        return -MAX_TICKS
    return math.floor(seconds * TICKS_PER_S)


# --- hashes for equality -----------------------------------------------------------------------------------


def fact_hash(path: Sequence[str], value: Scalar, *, element: bool = False) -> int:
    """A 64-bit hash of "the scalar `value` is at `path`"; equal numbers have equal hashes.

    One index over these hashes answers equality on any metadata path. Without it Qdrant reads every payload
    (2 microseconds each). `element`: the value is an element of a list.
    """
    kind = "e" if element else "v"
    match value:
        case bool():
            kind, text = kind + "b", str(value)
        case str():
            kind, text = kind + "s", value
        case int():
            kind, text = kind + "n", str(value)
        case float():
            kind, text = kind + "n", str(int(value)) if value.is_integer() else repr(value)
    digest = hashlib.blake2b(orjson.dumps([*path, kind, text]), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@lru_cache(maxsize=4096)
def inexact_number_hash(path: tuple[str, ...]) -> int:
    """A 64-bit hash of "the number at `path` is one that Qdrant may parse inexactly, and so compare wrongly"."""
    digest = hashlib.blake2b(orjson.dumps([*path, "odd"]), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def text_hash(text: str) -> int:
    """A 64-bit hash of "this is the text of the memory", unlike any other one; by it the vector of a text is found."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"text").digest()
    return int.from_bytes(digest, "big", signed=True)


def _facts(path: tuple[str, ...], value: object) -> Iterator[int]:
    """The hashes of everything that equality can be tested on: nested objects, and lists one level deep."""
    if isinstance(value, int | float | list) and _is_inexact(value):
        yield inexact_number_hash(path)
    match value:
        case Mapping():
            for key, inner in value.items():
                yield from _facts((*path, key), inner)
        case list():
            for inner in value:
                if isinstance(inner, str | int | float):
                    yield fact_hash(path, inner)
                    if not isinstance(inner, str):
                        yield fact_hash(path, inner, element=True)
        case str() | int() | float():
            yield fact_hash(path, value)
        case _:
            pass


def _is_inexact(value: object) -> bool:
    """True if Qdrant may round this number, or a number in this list, when it parses the payload."""
    match value:
        case int():
            return abs(value) >= _MAX_EXACT_INTEGER
        case float():
            # A decimal number of up to 15 digits without an exponent is parsed exactly.
            digits = repr(value)
            return "e" in digits or len(digits.strip("-0").replace(".", "")) > _MAX_EXACT_DIGITS
        case list():
            return any(map(_is_inexact, value))
        case _:
            return False


# --- encoding and decoding ---------------------------------------------------------------------------------


def link_hash(link: str, value: str) -> int:
    """A 64-bit hash of "`link` of the memory has `value`", which `facts` contain for each link and value."""
    return fact_hash((link,), value)


def links_hash(link: str) -> int:
    """A 64-bit hash of "the memory has at least one `link`", which `facts` contain."""
    return fact_hash((link,), value=True)


def _links(memory: Memory) -> Iterator[tuple[str, Iterable[str]]]:
    yield "about", memory.about
    yield "sources", memory.sources
    yield "supersedes", () if memory.supersedes is None else (memory.supersedes,)
    yield "superseded_by", (one.id for one in memory.superseded_by)
    yield "superseded", () if memory.superseded_at is None else ("",)
    yield "servers", {one.server for one in memory.superseded_by}
    yield "players", memory.named_players


def encode_memory(memory: Memory) -> dict[str, Any]:
    """The payload of a memory. Raises InvalidEvent for a memory that would not come back unchanged."""
    check_json(memory.metadata, "metadata")
    check_json(memory.pos or {}, "pos")
    for name in ("timestamp", "accepted_at", "expires_at", "tick", "importance"):
        if fault := scalar_fault(getattr(memory, name)):
            raise InvalidEvent(fault, path=name)
    try:
        memory.text.encode()
        return _payload(memory)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidEvent(f"memory {memory.id}: {error}") from error


def _payload(memory: Memory) -> dict[str, Any]:
    facts = set(_facts(("metadata",), memory.metadata))
    own = {"tick": memory.tick, "importance": memory.importance}
    own |= {f"pos.{axis}": value for axis, value in (memory.pos or {}).items()}
    facts.update(inexact_number_hash((name,)) for name, value in own.items() if _is_inexact(value))
    for link, values in _links(memory):
        for value in values:
            facts |= {link_hash(link, value), links_hash(link)}
    agent = agent_keyword(memory.tenant, memory.agent_id)
    keys: dict[str, Any] = {"agent": agent, "tenant": memory.tenant}
    if memory.recall:
        facts.add(text_hash(memory.text))
    if memory.rewound:
        keys = {"owner": agent, "group": rewound_group(memory.tenant)}
    elif not memory.recall:
        keys = {"owner": agent, "group": record_group(memory.tenant)}
    keys |= {
        "t": ticks(memory.timestamp),
        "accepted": ticks(memory.accepted_at),
        "server": memory.server,
        "importance": memory.importance,
        "text": memory.text,
        "body": _body(memory),
    }
    optional: dict[str, Any] = {
        "expires": None if memory.expires_at is None else ticks(memory.expires_at),
        "superseded": None if memory.superseded_at is None else ticks(memory.superseded_at),
        "type": memory.type,
        "player": memory.player,
        "agent_player": memory.agent_player,
        "tick": memory.tick,
        "pos": None if memory.pos is None else dict(memory.pos),
        "metadata": dict(memory.metadata) or None,
        "facts": list(facts) or None,
    }
    keys.update((key, value) for key, value in optional.items() if value is not None)
    return keys


def decode_memory(stored: Mapping[str, Any]) -> Memory:
    """The memory of a payload; of its keys only `READ_KEYS` are needed."""
    body = _decoder.decode(stored["body"])
    links = body.links or _NO_LINKS
    return Memory(
        body.id,
        body.tenant,
        body.agent_id,
        stored["text"],
        body.timestamp,
        body.accepted_at,
        body.server,
        body.type,
        body.metadata,
        body.pos,
        body.tick,
        body.importance,
        body.player,
        body.agent_player,
        body.expires_at,
        body.truncated,
        body.lasting_agent,
        body.recall,
        body.rewound,
        links.about,
        links.sources,
        links.supersedes,
        links.superseded_by,
    )


def decode_point(stored: Mapping[str, Any]) -> Memory | Tombstone:
    """The memory or tombstone of a payload; of its keys only `READ_KEYS` are needed."""
    if "grave" not in stored:
        return decode_memory(stored)
    body = _tombstone_decoder.decode(stored["grave"])
    return Tombstone(body.tenant, body.agent_id, body.memory_id, body.deleted_at)


def encode_tombstone(tombstone: Tombstone) -> dict[str, Any]:
    """The payload of a tombstone."""
    body = _TombstoneBody(tombstone.tenant, tombstone.agent_id, tombstone.memory_id, tombstone.deleted_at)
    return {"deleted": ticks(tombstone.deleted_at), "grave": _encoder.encode(body).decode()}


def _body(memory: Memory) -> str:
    links = _Links(memory.about, memory.sources, memory.supersedes, memory.superseded_by)
    body = _Body(
        memory.id,
        memory.tenant,
        memory.agent_id,
        memory.timestamp,
        memory.accepted_at,
        memory.server,
        memory.type,
        dict(memory.metadata),
        None if memory.pos is None else dict(memory.pos),
        memory.tick,
        memory.importance,
        memory.player,
        memory.agent_player,
        memory.expires_at,
        memory.truncated,
        memory.lasting_agent,
        memory.recall,
        memory.rewound,
        None if links == _NO_LINKS else links,
    )
    return _encoder.encode(body).decode()
