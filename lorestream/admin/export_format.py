"""The file format of exports: JSON Lines, a header and then one memory on each line.

    {"format": "lorestream.memories", "version": 1}
    {"id": "…", "tenant": "default", "agent_id": "npc:smith", "text": "…", "timestamp": 1760000000.0, …}

Vectors are not part of it: an import computes them again with the model of the target.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

import msgspec

from lorestream import identity, limits
from lorestream.errors import InvalidRequest
from lorestream.events import MAX_VALUE_BYTES, Put
from lorestream.memories import Memory

FORMAT = "lorestream.memories"
VERSION = 1
MAX_LINE_BYTES = MAX_VALUE_BYTES
MAX_AHEAD_S = 300.0
"""Tolerance for clocks that run ahead, in seconds: a later `accepted_at` is refused."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Header(msgspec.Struct, frozen=True):
    """The first line of an export."""

    format: str
    version: int


HEADER = Header(FORMAT, VERSION)


class ExportedMemory(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Every other line: all fields of one memory. Player names are pseudonyms, as everywhere behind the gateway.

    Times are Unix seconds, `pos` is in nodes.
    """

    id: _Name
    tenant: limits.Tenant
    agent_id: _Name
    text: str
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
    recall: bool = True

    @classmethod
    def from_memory(cls, memory: Memory) -> Self:
        """All fields of `memory`."""
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
            recall=memory.recall,
        )

    def to_event(self) -> Put:
        """The event that restores the memory, with the same id and times. Its text is stored as it is, not narrated again."""
        return Put(
            tenant=self.tenant,
            agent_id=self.agent_id,
            memory_id=self.id,
            server=self.server,
            timestamp=self.timestamp,
            accepted_at=self.accepted_at,
            type=self.type,
            text=self.text or None,
            metadata=self.metadata or None,
            player=self.player,
            agent_player=self.agent_player,
            pos=self.pos,
            tick=self.tick,
            importance=self.importance,
            expires_at=self.expires_at,
            lasting_agent=self.lasting_agent,
            recall=self.recall,
        )


_headers = msgspec.json.Decoder(Header)
_lines = msgspec.json.Decoder(ExportedMemory)


def check_header(text: bytes) -> None:
    """Check the first line. Raises InvalidRequest unless it is an export of a version that can be read."""
    try:
        header = _headers.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        header = Header("", 0)
    if header.format != FORMAT:
        raise InvalidRequest(
            f'this is not an export of Lorestream: its first line has no "format": "{FORMAT}"'
        )
    if header.version != VERSION:
        raise InvalidRequest(
            f"this export has format version {header.version}; this Lorestream reads version {VERSION} only"
        )


def parse_line(text: bytes | str, now: float) -> ExportedMemory:
    """Decode and check a line; `now` in Unix seconds. Raises InvalidRequest that names the error."""
    if len(text) > MAX_LINE_BYTES:
        raise InvalidRequest(f"the line is longer than {MAX_LINE_BYTES} bytes")
    try:
        line = _lines.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(str(error)) from error
    for name in ("timestamp", "accepted_at", "expires_at", "tick", "importance"):
        value = getattr(line, name)
        if value is not None and not math.isfinite(value):
            raise InvalidRequest(f"{name} is not a finite number")
    for axis, value in (line.pos or {}).items():
        if axis not in {"x", "y", "z"} or not math.isfinite(value):
            raise InvalidRequest("pos may only have x, y and z, each a finite number")
    if not 0 <= line.accepted_at <= now + MAX_AHEAD_S:
        raise InvalidRequest(f"accepted_at {line.accepted_at} is not a time in the past (Unix seconds)")
    if line.recall and not line.text:
        raise InvalidRequest("text must not be empty, unless recall is false")
    _check_names(line)
    try:
        limits.check_json(line.metadata, "metadata")
    except InvalidRequest as error:
        raise InvalidRequest(f"{error.path}: {error.message}") from error
    return line


def _check_names(line: ExportedMemory) -> None:
    """Refuse plain player names, and fields that contradict each other about which player the agent belongs to."""
    name = identity.player_name(line.agent_id)
    for pseudonym in (name, line.player):
        if pseudonym is not None and not identity.is_pseudonym(pseudonym):
            raise InvalidRequest("a plain player name where only a pseudonym is allowed")
    if line.agent_player != name:
        raise InvalidRequest("agent_player is not the player in agent_id")
    if line.lasting_agent is not None:
        lasting = identity.player_name(line.lasting_agent)
        if name is None or lasting is None or not identity.is_pseudonym(lasting):
            raise InvalidRequest("lasting_agent is not another pseudonym of the player in agent_id")
