"""The envelope: what stands in the log, version 1, and how it becomes a memory.

Gateways write it, workers and other readers read it; docs/schemas/ holds its JSON Schema. Readers ignore
fields that they do not know, and refuse a version that they do not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from lorestream import identity
from lorestream.errors import InvalidEvent
from lorestream.memories import Erasure, Memory, SubjectKind
from lorestream.ports import NewRecord, Tombstone

if TYPE_CHECKING:
    from lorestream.ports import Record

SCHEMA_VERSION = b"1"

MAX_VALUE_BYTES = 128 * 1024
"""Several times what the largest admitted event comes to."""


class Put(msgspec.Struct, frozen=True, tag_field="op", tag="put", omit_defaults=True):
    """A game event after admission: names replaced, times fixed, limits kept."""

    tenant: str
    agent_id: str
    memory_id: str
    server: str
    timestamp: float
    accepted_at: float
    type: str | None = None
    text: str | None = None
    data: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    player: str | None = None
    agent_player: str | None = None
    pos: dict[str, float] | None = None
    tick: float | None = None
    importance: float = 5.0
    expires_at: float | None = None
    lasting_agent: str | None = None
    """The agent's form that ids are made of, where a newer player key has made `agent_id` another one."""
    naming: list[str] | None = None
    """Keys of `data` whose value is the name of the event's own player: no sentence may repeat it."""

    def memory(self, text: str) -> Memory:
        """The memory of this event, with the text that it is remembered by."""
        return Memory(
            id=self.memory_id,
            tenant=self.tenant,
            agent_id=self.agent_id,
            text=text,
            timestamp=self.timestamp,
            accepted_at=self.accepted_at,
            server=self.server,
            type=self.type,
            metadata={**(self.data or {}), **(self.metadata or {})},
            pos=self.pos,
            tick=self.tick,
            importance=self.importance,
            player=self.player,
            agent_player=self.agent_player,
            expires_at=self.expires_at,
            lasting_agent=self.lasting_agent,
        )


class Delete(msgspec.Struct, frozen=True, tag_field="op", tag="delete"):
    """One memory is to be forgotten for good."""

    tenant: str
    agent_id: str
    memory_id: str
    accepted_at: float

    def tombstone(self) -> Tombstone:
        """What the store keeps of it."""
        return Tombstone(self.tenant, self.agent_id, self.memory_id, self.accepted_at)


class Erase(msgspec.Struct, frozen=True, tag_field="op", tag="erase"):
    """Everything of an agent or a player accepted until now is to be forgotten."""

    tenant: str
    erasure_id: str
    kind: Literal["agent", "player"]
    subjects: tuple[str, ...]
    accepted_at: float

    def erasure(self) -> Erasure:
        """The entry of the ledger."""
        return Erasure(self.erasure_id, self.tenant, SubjectKind(self.kind), self.subjects, self.accepted_at)


Envelope: TypeAlias = Put | Delete | Erase

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Put | Delete | Erase)


def encode(envelope: Envelope, *, event_id: str | None = None, traceparent: bytes | None = None) -> NewRecord:
    """One record for the log, keyed by its agent (an erasure: by its first subject).

    `traceparent` is the W3C header of the request that brought it.
    """
    headers = {"schema": SCHEMA_VERSION, "kind": _kind(envelope), "tenant": envelope.tenant.encode()}
    if event_id is not None:
        headers["event_id"] = event_id.encode()
    if traceparent is not None:
        headers["traceparent"] = traceparent
    return NewRecord(_key(envelope), _encoder.encode(envelope), headers)


IMPORTED = "lorestream.imported"
"""The header of a record that an import has written, long after the acceptance that it tells of."""
OURS = "lorestream."
"""How headers begin that no gateway writes: of what was imported, or tried again."""


def is_direct(record: Record) -> bool:
    """Whether it came from a gateway and stands in the log for the first time, right behind its acceptance."""
    return not any(name.startswith(OURS) for name in record.headers)


class Unreadable(InvalidEvent):
    """A record that no reader of this version can use. `reason` is the metric's label and the dead letter's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode(record: Record) -> Envelope:
    """Read a record of the log. Raises Unreadable."""
    version = record.headers.get("schema")
    if version != SCHEMA_VERSION:
        raise Unreadable("unknown_schema", f"schema version {version!r} is not one that this reader knows")
    if not record.value:
        raise Unreadable("empty", "the record has no value")
    if len(record.value) > MAX_VALUE_BYTES:
        raise Unreadable("too_large", f"{len(record.value)} bytes; a record may have {MAX_VALUE_BYTES}")
    try:
        envelope = _decoder.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable("undecodable", str(error)) from error
    key = _key(envelope)
    # Order within an agent rests on the key: what stands in the wrong partition may overtake its own delete.
    if record.key != key:
        raise Unreadable(
            "wrong_key", f"the key is {record.key[:200]!r}; this record's would be {key[:200]!r}"
        )
    return envelope


def schema() -> dict[str, Any]:
    """The JSON Schema of the values of the log."""
    document = msgspec.json.schema(Put | Delete | Erase)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lorestream.events, version 1",
        **document,
    }


def _key(envelope: Envelope) -> bytes:
    agent = next(iter(envelope.subjects), "") if isinstance(envelope, Erase) else envelope.agent_id
    return identity.agent_key(envelope.tenant, agent)


def _kind(envelope: Envelope) -> bytes:
    match envelope:
        case Put():
            return b"put"
        case Delete():
            return b"delete"
        case Erase():
            return b"erase"
