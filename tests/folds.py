"""Folds of single events into rows in memory, and the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorestream import events
from lorestream.adapters.in_process.erased_subjects import ErasedSubjects
from lorestream.events import DocumentWrite, PolicyPart, QUpdate, StateEvent
from lorestream.memories import Erasure, SubjectKind
from lorestream.ports import Record
from lorestream.state import documents, policies, q_tables
from lorestream.state.documents import Answer, Document
from lorestream.state.policies import Manifest
from lorestream.state.q_tables import QUpdateItem, QValues
from lorestream.state.rows import Row, RowKey
from stream_workers.folding.folder import Folded, Folder, StateRecord
from tests.rows_in_memory import MemoryRows

LOG = "log"


class Folds:
    """Folds events of the agent "a" of the tenant "default". The offsets go on from call to call."""

    def __init__(self, *, keep_versions: int = 20, log: str = LOG) -> None:
        self.rows = MemoryRows()
        self.ledger = ErasedSubjects()
        self.folder = Folder(self.rows, self.ledger, self, log, keep_versions)  # type: ignore[arg-type]
        self.next_offset = 0
        self.time = 0.0

    async def __call__(self, *arrived: StateEvent) -> Folded:
        """Fold them as one batch."""
        first, self.next_offset = self.next_offset, self.next_offset + len(arrived)
        return await self.again(*arrived, first=first)

    async def again(self, *arrived: StateEvent, first: int) -> Folded:
        """Fold them as one batch whose first offset is `first`."""
        return await self.folder.fold(state_records(*arrived, first=first))

    def now(self) -> float:
        return self.time

    def erase(self, *subjects: str, at: float, kind: SubjectKind = SubjectKind.AGENT) -> None:
        """An erasure, in the ledger and in the rows."""
        erasure = Erasure(f"{subjects}{at}", "default", kind, subjects, at)
        self.ledger.add(erasure)
        self.rows.erase(erasure)

    def row(self, key: RowKey) -> Row | None:
        return self.rows.stored.get(key)

    def document(self, type_: str = "character", agent: str = "a") -> Document | None:
        row = self.row(documents.document_key("default", agent, type_))
        return None if row is None else documents.decode(row)

    def version(self, number: int, type_: str = "character") -> Document | None:
        row = self.row(documents.version_key("default", "a", type_, number))
        return None if row is None else documents.decode(row)

    def answer(self, event: DocumentWrite | QUpdate) -> Answer | None:
        topic = (
            q_tables.q_topic(event.table)
            if isinstance(event, QUpdate)
            else documents.document_topic(event.type)
        )
        row = self.row(documents.answer_key("default", "a", topic, event.event_id))
        return None if row is None else documents.decode_answer(row)

    def values(self, state: str, table: str = "q") -> QValues | None:
        row = self.row(q_tables.q_state_key("default", "a", table, state))
        return None if row is None else q_tables.decode_values(row)

    def states(self, table: str = "q") -> int:
        row = self.row(q_tables.q_table_key("default", "a", table))
        return 0 if row is None else q_tables.decode_count(row)


def state_records(*arrived: StateEvent, first: int = 0) -> list[StateRecord]:
    """The events with records at consecutive offsets."""
    found: list[StateRecord] = []
    for offset, event in enumerate(arrived, first):
        new = events.encode(event)
        found.append(StateRecord(event, Record(0, offset, new.key, new.value, new.headers, 0.0)))
    return found


def write(
    action: Any, data: dict[str, Any] | None = None, *, at: float = 100.0, **fields: Any
) -> DocumentWrite:
    """A write of a document of the agent "a"; its event_id is made from its time."""
    defaults: dict[str, Any] = {"agent_id": "a", "type": "character", "event_id": f"e{at}"}
    return DocumentWrite(tenant="default", action=action, data=data, accepted_at=at, **(defaults | fields))


def put(data: dict[str, Any], *, at: float = 100.0, **fields: Any) -> DocumentWrite:
    return write("put", data, at=at, **fields)


def q_update(*updates: Sequence[Any], at: float = 100.0, **fields: Any) -> QUpdate:
    """`updates`: (state, action, op, value[, alpha])."""
    defaults: dict[str, Any] = {"agent_id": "a", "table": "q", "event_id": f"e{at}"}
    items = tuple(QUpdateItem(*update) for update in updates)
    return QUpdate(tenant="default", updates=items, accepted_at=at, **(defaults | fields))


def part(upload: str, index: int, content: bytes = b"bytes", *, at: float = 100.0) -> PolicyPart:
    return PolicyPart("default", "a", "main", upload, index, content, at)


def manifest(upload: str, parts: int, *, at: float = 100.0, **fields: Any) -> DocumentWrite:
    named = Manifest("raw", 5 * parts, "0" * 64, upload, parts)
    data = {name: getattr(named, name) for name in Manifest.__struct_fields__}
    return write("put", data, at=at, type=policies.policy_type("main"), **fields)
