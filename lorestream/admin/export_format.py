"""A memory as a line of an export: JSON with everything that is needed to put it back.

    {"format": "lorestream.memories", "version": 1}
    {"id": "…", "tenant": "default", "agent_id": "npc:smith", "text": "…", "timestamp": 1760000000.0, …}

Vectors are not in it: whoever puts a memory back computes them anew, by whatever model it has.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Self, cast

import msgspec

from lorestream import identity
from lorestream.errors import InvalidRequest
from lorestream.events import MAX_VALUE_BYTES, Put
from lorestream.memories import Memory

FORMAT = "lorestream.memories"
VERSION = 1
MAX_LINE_BYTES = MAX_VALUE_BYTES
MAX_AHEAD_S = 300.0
"""How far a clock may be ahead: what was accepted later than that was never accepted."""

_MAX_DEPTH = 31
_INT64 = range(-(2**63), 2**63)

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Header(msgspec.Struct, frozen=True):
    """The first line."""

    format: str
    version: int


HEADER = Header(FORMAT, VERSION)


class Line(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Every other line. Names of players are pseudonyms here, as everywhere behind the gateway."""

    id: _Name
    tenant: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_-]{1,64}$")]
    agent_id: _Name
    text: Annotated[str, msgspec.Meta(min_length=1)]
    timestamp: float
    accepted_at: float
    server: str = ""
    type: str | None = None
    metadata: dict[str, Any] = {}
    pos: dict[str, float] | None = None
    tick: float | None = None
    importance: Annotated[float, msgspec.Meta(ge=0, le=10)] = 5.0
    player: str | None = None
    agent_player: str | None = None
    expires_at: float | None = None
    lasting_agent: _Name | None = None

    @classmethod
    def of(cls, memory: Memory) -> Self:
        """The line of a memory."""
        return cls(
            id=memory.id,
            tenant=memory.tenant,
            agent_id=memory.agent_id,
            text=memory.text,
            timestamp=memory.timestamp,
            accepted_at=memory.accepted_at,
            server=memory.server,
            type=memory.type,
            metadata=dict(memory.metadata),
            pos=None if memory.pos is None else dict(memory.pos),
            tick=memory.tick,
            importance=memory.importance,
            player=memory.player,
            agent_player=memory.agent_player,
            expires_at=memory.expires_at,
            lasting_agent=memory.lasting_agent,
        )

    def put(self) -> Put:
        """The envelope that brings it back: the text that it was remembered by is its text from now on."""
        return Put(
            tenant=self.tenant,
            agent_id=self.agent_id,
            memory_id=self.id,
            server=self.server,
            timestamp=self.timestamp,
            accepted_at=self.accepted_at,
            type=self.type,
            text=self.text,
            metadata=self.metadata or None,
            player=self.player,
            agent_player=self.agent_player,
            pos=self.pos,
            tick=self.tick,
            importance=self.importance,
            expires_at=self.expires_at,
            lasting_agent=self.lasting_agent,
        )


_headers = msgspec.json.Decoder(Header)
_lines = msgspec.json.Decoder(Line)


def read_header(text: bytes) -> None:
    """Look at a first line. Raises InvalidRequest for what is no export that this version reads."""
    try:
        header = _headers.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        header = Header("", 0)
    if header.format != FORMAT:
        raise InvalidRequest(f'this is no export of Lorestream: its first line has no "format": "{FORMAT}"')
    if header.version != VERSION:
        raise InvalidRequest(f"an export of version {header.version}; this lorestream reads {VERSION}")


def read_line(text: bytes | str, now: float) -> Line:
    """The memory of a line. Raises InvalidRequest with what is wrong about it; `now` in Unix seconds."""
    if len(text) > MAX_LINE_BYTES:
        raise InvalidRequest(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        line = _lines.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(str(error)) from error
    for name in ("timestamp", "accepted_at", "expires_at", "tick", "importance"):
        value = getattr(line, name)
        if value is not None and not math.isfinite(value):
            raise InvalidRequest(f"{name} is not finite")
    for axis, value in (line.pos or {}).items():
        if axis not in {"x", "y", "z"} or not math.isfinite(value):
            raise InvalidRequest("pos has x, y and z, each a finite number")
    if not 0 <= line.accepted_at <= now + MAX_AHEAD_S:
        raise InvalidRequest(f"accepted_at {line.accepted_at} is not a time in the past")
    _check_names(line)
    _check_metadata(line.metadata, _MAX_DEPTH)
    return line


def _check_names(line: Line) -> None:
    """Plain names of players must not come in by this way, and every form of an agent names one player."""
    name = identity.player_name(line.agent_id)
    for pseudonym in (name, line.player):
        if pseudonym is not None and not identity.is_pseudonym(pseudonym):
            raise InvalidRequest("the name of a player stands where only a pseudonym may")
    if line.agent_player != name:
        raise InvalidRequest("agent_player is not the player that agent_id names")
    if line.lasting_agent is not None:
        lasting = identity.player_name(line.lasting_agent)
        if name is None or lasting is None or not identity.is_pseudonym(lasting):
            raise InvalidRequest("lasting_agent is no other form of agent_id")


def _check_metadata(value: object, levels: int) -> None:
    if levels < 0:
        raise InvalidRequest(f"metadata of more than {_MAX_DEPTH} levels")
    match value:
        case dict():
            for inner in cast("dict[str, object]", value).values():
                _check_metadata(inner, levels - 1)
        case list():
            for inner in cast("list[object]", value):
                _check_metadata(inner, levels - 1)
        case bool():
            pass
        case int() if value not in _INT64:
            raise InvalidRequest("metadata holds an integer beyond 64 bits")
        case float() if not math.isfinite(value):
            raise InvalidRequest("metadata holds a number that is not finite")
        case _:
            pass
