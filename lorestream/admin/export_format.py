"""The file format of exports: JSON Lines, a header and then one memory or one row on each line.

    {"format": "lorestream.memories", "version": 2}
    {"id": "…", "tenant": "default", "agent_id": "npc:smith", "text": "…", "timestamp": 1760000000.0, …}
    {"row": "document", "parts": ["character"], "tenant": "default", "agent_id": "npc:smith", "body": {…}, …}

Version 1 had no rows.

Vectors are not part of it: an import computes them again with the model of the target.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

import msgspec

from lorestream import identity, limits
from lorestream.errors import InvalidRequest
from lorestream.events import MAX_VALUE_BYTES, ImportedRow, Put
from lorestream.memories import Correction, Memory
from lorestream.state import row_checks
from lorestream.state.rows import Row

FORMAT = "lorestream.memories"
VERSION = 2
READABLE_VERSIONS = (1, VERSION)
MAX_LINE_BYTES = MAX_VALUE_BYTES
MAX_AHEAD_S = 300.0
"""Tolerance for clocks that run ahead, in seconds: a later `accepted_at` is refused."""

_PLAIN_NAME = "a plain player name where only a pseudonym is allowed"
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
    server: Annotated[str, msgspec.Meta(max_length=limits.MAX_SERVER_CHARS)] = ""
    type: Annotated[str, msgspec.Meta(max_length=limits.MAX_TYPE_CHARS)] | None = None
    metadata: dict[str, Any] = {}
    pos: dict[str, float] | None = None
    tick: float | None = None
    importance: Annotated[float, msgspec.Meta(ge=0, le=10)] = 5.0
    player: str | None = None
    agent_player: str | None = None
    expires_at: float | None = None
    lasting_agent: _Name | None = None
    recall: bool = True
    about: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=limits.MAX_ABOUT)] = ()
    sources: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=limits.MAX_SOURCES)] = ()
    supersedes: _Name | None = None
    superseded_by: tuple[Correction, ...] = ()

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
            about=memory.about,
            sources=memory.sources,
            supersedes=memory.supersedes,
            superseded_by=memory.superseded_by,
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
            about=self.about,
            sources=self.sources,
            supersedes=self.supersedes,
            superseded_by=self.superseded_by,
        )


class ExportedRow(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A line that holds a row: a part of a document, a Q-table or a policy. Its position in the log is not part of it."""

    row: str
    """The kind."""
    parts: tuple[str | int, ...]
    tenant: limits.Tenant
    agent_id: _Name
    body: Any
    """A JSON value. In a line that was read: `msgspec.Raw`."""
    since: float
    accepted_at: float
    agent_player: str | None = None
    expires_at: float | None = None
    listed: bool = False

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """All of `row` that is exported."""
        return cls(
            row=row.key.kind.value,
            parts=row.key.parts,
            tenant=row.key.tenant,
            agent_id=row.key.agent_id,
            body=msgspec.json.decode(row.body),
            since=row.since,
            accepted_at=row.accepted_at,
            agent_player=row.agent_player,
            expires_at=row.expires_at,
            listed=row.listed,
        )

    def to_row(self) -> Row:
        """The row, at no position of any log. Raises InvalidEvent for a key that no row has."""
        return Row(
            key=row_checks.row_key(self.tenant, self.agent_id, self.row, self.parts),
            body=msgspec.json.encode(self.body).decode(),
            since=self.since,
            accepted_at=self.accepted_at,
            log="",
            offset=0,
            born=0,
            agent_player=self.agent_player,
            expires_at=self.expires_at,
            listed=self.listed,
        )

    def to_event(self) -> ImportedRow:
        """The event that restores the row."""
        return ImportedRow(
            tenant=self.tenant,
            agent_id=self.agent_id,
            kind=self.row,
            parts=self.parts,
            body=msgspec.json.encode(self.body).decode(),
            since=self.since,
            accepted_at=self.accepted_at,
            agent_player=self.agent_player,
            expires_at=self.expires_at,
            listed=self.listed,
        )


class _Kind(msgspec.Struct):
    """Tells a line with a row from one with a memory."""

    row: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_headers = msgspec.json.Decoder(Header)
_kinds = msgspec.json.Decoder(_Kind)
_lines = msgspec.json.Decoder(ExportedMemory)
_rows = msgspec.json.Decoder(ExportedRow)


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
    if header.version not in READABLE_VERSIONS:
        raise InvalidRequest(
            f"this export has format version {header.version}; this Lorestream reads versions up to {VERSION}"
        )


def parse_line(text: bytes | str, now: float) -> ExportedMemory | ExportedRow:
    """Decode and check a line; `now` in Unix seconds. Raises InvalidRequest that names the error."""
    if len(text) > MAX_LINE_BYTES:
        raise InvalidRequest(f"the line is longer than {MAX_LINE_BYTES} bytes")
    try:
        is_memory = _kinds.decode(text).row is msgspec.UNSET
        line = _lines.decode(text) if is_memory else _rows.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(limits.json_fault(text, error)) from error
    for name in ("timestamp", "accepted_at", "since", "expires_at", "tick", "importance"):
        value = getattr(line, name, None)
        if value is not None and not math.isfinite(value):
            raise InvalidRequest(f"{name} is not a finite number")
    if not 0 <= line.accepted_at <= now + MAX_AHEAD_S:
        raise InvalidRequest(f"accepted_at {line.accepted_at} is not a time in the past (Unix seconds)")
    try:
        if isinstance(line, ExportedRow):
            _check_row(line)
        else:
            _check_memory(line)
    except InvalidRequest as error:
        raise InvalidRequest(f"{error.path}: {error.message}" if error.path else error.message) from error
    return line


def _check_memory(line: ExportedMemory) -> None:
    for axis, value in (line.pos or {}).items():
        if axis not in {"x", "y", "z"} or not math.isfinite(value):
            raise InvalidRequest("pos may only have x, y and z, each a finite number")
    if line.recall and not line.text:
        raise InvalidRequest("text must not be empty, unless recall is false")
    if (line.type or "").startswith(limits.RESERVED_TYPE_PREFIX):
        raise InvalidRequest(f"types that begin with {limits.RESERVED_TYPE_PREFIX} are reserved")
    _check_agent(line)
    if line.player is not None and not identity.is_pseudonym(line.player):
        raise InvalidRequest(_PLAIN_NAME)
    if line.lasting_agent is not None:
        lasting = identity.player_name(line.lasting_agent)
        if line.agent_player is None or lasting is None or not identity.is_pseudonym(lasting):
            raise InvalidRequest("lasting_agent is not another pseudonym of the player in agent_id")
    _check_links(line)
    limits.check_json(line.metadata, "metadata")


def _check_links(line: ExportedMemory) -> None:
    """Refuse plain player names, ids that no memory has, and times that are no numbers."""
    for one in (*line.sources, *filter(None, [line.supersedes])):
        if limits.canonical_memory_id(one) != one:
            raise InvalidRequest(f"{one!r} in sources or supersedes is not a memory id in its stored form")
    for one in line.about:
        limits.check_agent_id(one, "about")
    for by in line.superseded_by:
        if not math.isfinite(by.accepted_at):
            raise InvalidRequest("superseded_by: accepted_at is not a finite number")
    named = [identity.about_player(one, None) or identity.player_name(one) for one in line.about]
    named += [one for by in line.superseded_by for one in (by.player, by.agent_player)]
    if any(one is not None and not identity.is_pseudonym(one) for one in named):
        raise InvalidRequest(_PLAIN_NAME)


def _check_row(line: ExportedRow) -> None:
    if not 0 <= line.since <= line.accepted_at:
        raise InvalidRequest(f"since {line.since} is not a time up to accepted_at (Unix seconds)")
    _check_agent(line)
    row_checks.check_body(line.to_row())


def _check_agent(line: ExportedMemory | ExportedRow) -> None:
    """Refuse ids that are too long, plain player names, and fields that contradict each other about the agent's player."""
    limits.check_agent_id(line.agent_id)
    name = identity.player_name(line.agent_id)
    if name is not None and not identity.is_pseudonym(name):
        raise InvalidRequest(_PLAIN_NAME)
    if line.agent_player != name:
        raise InvalidRequest("agent_player is not the player in agent_id")
