"""The envelopes: the values of the log (schema version 1), their encoding, and the memories they become.

Gateways write them; workers and other readers read them. docs/schemas/ has the JSON Schema. Readers ignore unknown
fields, and refuse records of an unknown version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from lorestream import identity
from lorestream.errors import InvalidEvent
from lorestream.memories import Correction, Erasure, Memory, SubjectKind
from lorestream.ports import NewRecord, Tombstone
from lorestream.rewinds import Rewind
from lorestream.state.q_tables import QUpdateItem

if TYPE_CHECKING:
    from lorestream.ports import Record

SCHEMA_VERSION = b"1"

MAX_VALUE_BYTES = 640 * 1024
"""More than the largest record: an imported document of 256 KiB, as a JSON string in which every character is escaped."""


class Put(msgspec.Struct, frozen=True, tag_field="op", tag="put", omit_defaults=True):
    """A game event after admission: player names replaced, times fixed, limits checked."""

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
    """The agent id from which the memory id is computed, where a newer player key gives another `agent_id`."""
    naming: list[str] | None = None
    """Keys of `data` whose value is the name of the event's player: the generated text must not contain it.

    Only in older records: where the data have that name, gateways now write the text.
    """
    recall: bool = True
    """False: it is stored without a vector, and its text is not generated."""
    about: tuple[str, ...] = ()
    """Whom it is about: agent ids and pseudonyms of players."""
    sources: tuple[str, ...] = ()
    """The ids of the memories that it rests on."""
    supersedes: str | None = None
    """The id of the memory of the same agent that it replaces."""
    superseded_by: tuple[Correction, ...] = ()
    """What replaces it. Only in imported records; else the records of the memories that replace it say so."""

    def memory(self, text: str) -> Memory:
        """The memory of this event, with the given text."""
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
            recall=self.recall,
            about=self.about,
            sources=self.sources,
            supersedes=self.supersedes,
        ).with_corrections(self.superseded_by)


class Delete(msgspec.Struct, frozen=True, tag_field="op", tag="delete"):
    """Deletes one memory for good."""

    tenant: str
    agent_id: str
    memory_id: str
    accepted_at: float

    def tombstone(self) -> Tombstone:
        """The tombstone that the store keeps."""
        return Tombstone(self.tenant, self.agent_id, self.memory_id, self.accepted_at)


class Erase(msgspec.Struct, frozen=True, tag_field="op", tag="erase"):
    """Erases all memories of an agent, or about a player, that were accepted until `accepted_at`."""

    tenant: str
    erasure_id: str
    kind: Literal["agent", "player"]
    subjects: tuple[str, ...]
    accepted_at: float

    def erasure(self) -> Erasure:
        """The entry of the erasure ledger."""
        return Erasure(self.erasure_id, self.tenant, SubjectKind(self.kind), self.subjects, self.accepted_at)


class RewindWrite(msgspec.Struct, frozen=True, tag_field="op", tag="rewind", omit_defaults=True):
    """Hides what a server's agents came to know after `to` (Unix seconds) and up to `accepted_at`.

    With `undone_at` the rewind of that id is undone. Both are in the partition of [tenant, server].
    """

    tenant: str
    rewind_id: str
    server: str
    to: float
    accepted_at: float
    undone_at: float | None = None

    @classmethod
    def of(cls, rewind: Rewind) -> RewindWrite:
        """The record of a rewind, or of its undoing."""
        return cls(rewind.tenant, rewind.id, rewind.server, rewind.to, rewind.accepted_at, rewind.undone_at)

    def rewind(self) -> Rewind:
        """The entry of the rewind ledger."""
        return Rewind(self.rewind_id, self.tenant, self.server, self.to, self.accepted_at, self.undone_at)


class DocumentWrite(msgspec.Struct, frozen=True, tag_field="op", tag="document", omit_defaults=True):
    """Changes a document. `agent_id` is the lasting stored form of the agent that it belongs to.

    `data`: the new data of a `put`, the merge patch of a `patch`. `to`: the version that a `rollback` repeats.
    """

    tenant: str
    agent_id: str
    type: str
    action: Literal["put", "patch", "delete", "rollback"]
    event_id: str
    accepted_at: float
    agent_player: str | None = None
    data: dict[str, Any] | None = None
    to: int | None = None
    tick: float | None = None
    if_version: int | None = None


class QUpdate(msgspec.Struct, frozen=True, tag_field="op", tag="q_update", omit_defaults=True):
    """Changes values of a Q-table: all of the updates, in their order, or none."""

    tenant: str
    agent_id: str
    table: str
    event_id: str
    updates: tuple[QUpdateItem, ...]
    accepted_at: float
    agent_player: str | None = None


class PolicyPart(msgspec.Struct, frozen=True, tag_field="op", tag="policy_part", omit_defaults=True):
    """A part of a policy's bytes. It becomes visible with the `document` record that names its upload."""

    tenant: str
    agent_id: str
    name: str
    upload: str
    index: int
    content: bytes
    """In JSON: base64."""
    accepted_at: float
    agent_player: str | None = None


class ImportedRow(msgspec.Struct, frozen=True, tag_field="op", tag="row", omit_defaults=True):
    """A row of an export: it takes the place of a row that was last written earlier."""

    tenant: str
    agent_id: str
    kind: str
    parts: tuple[str | int, ...]
    body: str
    since: float
    accepted_at: float
    """That of the row. The record itself is appended later."""
    agent_player: str | None = None
    expires_at: float | None = None
    listed: bool = False


StateEvent: TypeAlias = DocumentWrite | QUpdate | PolicyPart | ImportedRow
"""What is folded into rows."""
Envelope: TypeAlias = Put | Delete | Erase | RewindWrite | StateEvent

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)


def encode(envelope: Envelope, *, event_id: str | None = None, traceparent: bytes | None = None) -> NewRecord:
    """The log record of an envelope, keyed by its agent (an erasure: by its first subject, a rewind: by its server).

    `traceparent` is the W3C header of the request.
    """
    headers = {"schema": SCHEMA_VERSION, "kind": _kind(envelope), "tenant": envelope.tenant.encode()}
    if event_id is not None:
        headers["event_id"] = event_id.encode()
    if traceparent is not None:
        headers["traceparent"] = traceparent
    return NewRecord(_key(envelope), _encoder.encode(envelope), headers)


IMPORTED_HEADER = "lorestream.imported"
"""The header of a record that an import has written: it was accepted long before it was appended."""
INTERNAL_HEADER_PREFIX = "lorestream."
"""Prefix of headers that gateways never write: those of imported and of retried records."""


def is_direct(record: Record) -> bool:
    """Whether a gateway appended the record right after accepting it: it was neither imported nor retried."""
    return not any(name.startswith(INTERNAL_HEADER_PREFIX) for name in record.headers)


class Unreadable(InvalidEvent):
    """A record that this version cannot read. `reason` labels the metric and the dead letter."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnknownOp(Unreadable):
    """A record of an operation that a newer version has added. Workers skip it: it concerns none of their memories."""


def decode(record: Record) -> Envelope:
    """The envelope of a log record. Raises Unreadable, and of its subclasses UnknownOp."""
    version = record.headers.get("schema")
    if version != SCHEMA_VERSION:
        raise Unreadable("unknown_schema", f"unknown schema version {version!r}")
    if not record.value:
        raise Unreadable("empty", "the record has no value")
    if len(record.value) > MAX_VALUE_BYTES:
        raise Unreadable(
            "too_large", f"{len(record.value)} bytes; a record may have at most {MAX_VALUE_BYTES}"
        )
    try:
        envelope = _decoder.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        op = _op(record.value)
        if op is not None and op not in _KNOWN_OPS:
            raise UnknownOp(
                "unknown_op", f"the operation {op[:64]!r} is not known to this version"
            ) from error
        raise Unreadable("undecodable", str(error)) from error
    key = _key(envelope)
    # The key decides the partition, and so the order within an agent: in another one, a delete could come first.
    if record.key != key:
        raise Unreadable("wrong_key", f"the key is {record.key[:200]!r}, but must be {key[:200]!r}")
    return envelope


_OPS: Mapping[type[Envelope], str] = {
    Put: "put",
    Delete: "delete",
    Erase: "erase",
    RewindWrite: "rewind",
    DocumentWrite: "document",
    QUpdate: "q_update",
    PolicyPart: "policy_part",
    ImportedRow: "row",
}
_KNOWN_OPS = frozenset(_OPS.values())


class _Op(msgspec.Struct):
    op: str


_op_decoder = msgspec.json.Decoder(_Op)


def _op(value: bytes) -> str | None:
    """The operation of an envelope, known or not; None if it has none."""
    try:
        return _op_decoder.decode(value).op
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def schema() -> dict[str, Any]:
    """The JSON Schema of the log's values."""
    document = msgspec.json.schema(Envelope)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lorestream.events, version 1",
        **document,
    }


def _key(envelope: Envelope) -> bytes:
    match envelope:
        case Erase():
            key = next(iter(envelope.subjects), "")
        case RewindWrite():
            key = envelope.server
        case _:
            key = envelope.agent_id
    return identity.agent_key(envelope.tenant, key)


def _kind(envelope: Envelope) -> bytes:
    return _OPS[type(envelope)].encode()
