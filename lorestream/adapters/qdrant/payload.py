"""A memory as a Qdrant point: its id, its payload, and back.

Two copies lie in a payload. `body` is the memory as JSON text and is what readers get: Qdrant parses a
float with up to one unit in the last place of error and turns an integer past 64 bits into a float, so
nothing that must come back exactly may lie there as a number. The other keys are there to be asked for:

    agent         JSON array [tenant, agent_id]        facts     64-bit hashes, see `fact`
    tenant        the tenant                           metadata  the event's own
    t, expires    times in ticks, see `ticks`          type, server, player, agent_player
    text          the text                             tick, importance, pos

A tombstone has the keys `deleted` (ticks) and `grave` (JSON text: whose it is and its exact time) and no
other, hence no condition on agent or tenant meets one.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from lorestream.errors import InvalidEvent
from lorestream.identity import agent_key
from lorestream.memories import Memory
from lorestream.ports import Tombstone

if TYPE_CHECKING:
    from lorestream.memories import Scalar

SCHEMA_VERSION = 3
POINT_NAMESPACE = uuid.UUID("c1a5a3c4-58c8-5a0e-9d3b-0a8f6b1d7e90")
"""The UUIDv5 namespace of point ids. Changing it orphans every point."""

READ = ["body", "text", "grave"]
"""The keys that `memory` and `entry` need."""

NUMBERS = ["importance", "pos.x", "pos.y", "pos.z"]
"""The keys with an index of floats: a box among 10,000 places takes 0.1 ms with it, and 15 ms without."""

_MAX_DEPTH = 32  # as gateways have it; protobuf stops at 100 nested messages, and a level takes three
TICKS_PER_S = 2**22  # a double between 2004 and 2038 is a whole number of them, below 2**53
_MAX_TICKS = 2**62
_EXACT = 2**53


class _Body(msgspec.Struct, array_like=True):
    """The memory without its text. Fields are only ever added, at the end and with a default."""

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


class _Grave(msgspec.Struct, array_like=True):
    """What is known of a deleted memory."""

    tenant: str
    agent_id: str
    memory_id: str
    deleted_at: float


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Body)
_graves = msgspec.json.Decoder(_Grave)


# --- identity ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=65_536)
def agent_keyword(tenant: str, agent_id: str) -> str:
    """The agent as one keyword: a JSON array, since no character is free to join the parts."""
    return agent_key(tenant, agent_id).decode()


def agent_of(keyword: str) -> tuple[str, str]:
    """The tenant and the agent id of an agent's keyword."""
    tenant, agent_id = orjson.loads(keyword)
    return tenant, agent_id


def point_id(tenant: str, agent_id: str, memory_id: str) -> str:
    """UUIDv5 of [tenant, agent_id, memory_id]: an id guessed for another agent names another point."""
    return str(uuid.uuid5(POINT_NAMESPACE, orjson.dumps([tenant, agent_id, memory_id]).decode()))


def ticks(seconds: float) -> int:
    """A time as a whole number, rounded down: unlike a float, Qdrant keeps and compares it exactly.

    Times of this age never share a tick; those that do (before 2004) are told apart by their body.
    """
    if seconds >= _MAX_TICKS / TICKS_PER_S:
        return _MAX_TICKS
    if seconds <= -_MAX_TICKS / TICKS_PER_S:
        return -_MAX_TICKS
    return math.floor(seconds * TICKS_PER_S)


# --- facts -------------------------------------------------------------------------------------------------


def fact(path: Sequence[str], value: Scalar, *, element: bool = False) -> int:
    """A scalar at a path of the metadata as a 64-bit hash, alike for numbers that are equal.

    One index over these answers equality for every path there will ever be, where Qdrant would have to
    read each payload (2 microseconds each). `element`: that the value is an element of a list.
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
def odd(path: tuple[str, ...]) -> int:
    """The fact that at a path lies a number that Qdrant may misread, and thus compare wrongly."""
    digest = hashlib.blake2b(orjson.dumps([*path, "odd"]), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _facts(path: tuple[str, ...], value: object) -> Iterator[int]:
    """What can be asked about a value by equality: objects are entered, lists one level deep."""
    if isinstance(value, int | float | list) and _is_odd(value):
        yield odd(path)
    match value:
        case Mapping():
            for key, inner in value.items():
                yield from _facts((*path, key), inner)
        case list():
            for inner in value:
                if isinstance(inner, str | int | float):
                    yield fact(path, inner)
                    if not isinstance(inner, str):
                        yield fact(path, inner, element=True)
        case str() | int() | float():
            yield fact(path, value)
        case _:
            pass


def _is_odd(value: object) -> bool:
    """Whether Qdrant's comparisons of this number, or of one in this list, may be off by rounding."""
    match value:
        case int():
            return abs(value) >= _EXACT
        case float():
            # A decimal of up to 15 digits and a small exponent is parsed exactly.
            digits = repr(value)
            return "e" in digits or len(digits.strip("-0").replace(".", "")) > 15  # noqa: PLR2004
        case list():
            return any(map(_is_odd, value))
        case _:
            return False


# --- there and back ----------------------------------------------------------------------------------------


def payload(memory: Memory) -> dict[str, Any]:
    """The payload of a memory. Raises InvalidEvent for one that the store could not give back."""
    _check(memory.metadata, "metadata", _MAX_DEPTH)
    for name in ("timestamp", "accepted_at", "expires_at", "tick", "importance", "pos"):
        _check(getattr(memory, name), name, 2)
    try:
        memory.text.encode()
        return _payload(memory)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidEvent(f"memory {memory.id}: {error}") from error


def _payload(memory: Memory) -> dict[str, Any]:
    facts = set(_facts(("metadata",), memory.metadata))
    own = {"tick": memory.tick, "importance": memory.importance}
    own |= {f"pos.{axis}": value for axis, value in (memory.pos or {}).items()}
    facts.update(odd((name,)) for name, value in own.items() if _is_odd(value))
    keys: dict[str, Any] = {
        "agent": agent_keyword(memory.tenant, memory.agent_id),
        "tenant": memory.tenant,
        "t": ticks(memory.timestamp),
        "server": memory.server,
        "importance": memory.importance,
        "text": memory.text,
        "body": _body(memory),
    }
    optional: dict[str, Any] = {
        "expires": None if memory.expires_at is None else ticks(memory.expires_at),
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


def memory(stored: Mapping[str, Any]) -> Memory:
    """The memory of a payload that has at least the keys `READ`."""
    body = _decoder.decode(stored["body"])
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
    )


def entry(stored: Mapping[str, Any]) -> Memory | Tombstone:
    """What a payload that has at least the keys `READ` stands for."""
    if "grave" not in stored:
        return memory(stored)
    grave = _graves.decode(stored["grave"])
    return Tombstone(grave.tenant, grave.agent_id, grave.memory_id, grave.deleted_at)


def tombstone(one: Tombstone) -> dict[str, Any]:
    """The payload of a tombstone."""
    grave = _Grave(one.tenant, one.agent_id, one.memory_id, one.deleted_at)
    return {"deleted": ticks(one.deleted_at), "grave": _encoder.encode(grave).decode()}


def _body(memory: Memory) -> str:
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
    )
    return _encoder.encode(body).decode()


def _check(value: object, path: str, depth: int) -> None:
    """Refuse what JSON or the store would change or choke on."""
    match value:  # in the order of how often it comes: every value of every memory passes here
        case str() | bool() | None:
            pass
        case float() | int():
            _check_number(value, path)
        case dict() | list() | Mapping() if depth == 0:
            raise InvalidEvent(f"nested deeper than {_MAX_DEPTH}", path=path)
        case list():
            for inner in value:
                _check(inner, path, depth - 1)
        case dict() | Mapping():
            for key, inner in value.items():
                _check(inner, f"{path}.{key}", depth - 1)
        case _:
            pass


def _check_number(value: float, path: str) -> None:
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InvalidEvent("an integer past 64 bits", path=path)
    elif not math.isfinite(value):
        raise InvalidEvent("a number that is not finite", path=path)
