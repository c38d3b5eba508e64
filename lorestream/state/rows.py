"""Rows: keyed JSON values of an agent, in the same collection as its memories, without a vector.

A row holds the position of the newest event that is folded into it. Writes are guarded by it, so that a worker that was
suspended, or records that are delivered again, never replace a newer row by an older one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from lorestream.memories import AgentKey, Erasure, SubjectKind


class RowKind(StrEnum):
    """What a row is, and so what its key's `parts` and its body are."""

    DOCUMENT = "document"
    """(type,): the current version of a document, or its deletion."""
    VERSION = "version"
    """(type, version): an earlier version of a document."""
    ANSWER = "answer"
    """(topic, event_id): what became of a write. `topic`: `document:TYPE` or `q:TABLE`."""
    Q_STATE = "q_state"
    """(table, state): the values of a state's actions."""
    Q_TABLE = "q_table"
    """(table,): the number of its states."""
    POLICY_PART = "policy_part"
    """(name, upload, index): a part of a policy's bytes."""


KeyPart: TypeAlias = "str | int"


@dataclass(frozen=True, slots=True)
class RowKey:
    """The identity of a row.

    `agent_id`: the agent that it belongs to, in the form of `Pseudonyms.lasting_agent`, which stays when a player key is
    added. All rows of an agent are made from records of one partition.
    """

    tenant: str
    agent_id: str
    kind: RowKind
    parts: tuple[KeyPart, ...]

    @property
    def agent(self) -> AgentKey:
        """The agent that the row belongs to."""
        return AgentKey(self.tenant, self.agent_id)

    @property
    def group(self) -> RowGroup:
        """The group in which the row is listed."""
        return RowGroup(self.tenant, self.kind, str(self.parts[0]))


@dataclass(frozen=True, slots=True)
class RowGroup:
    """The rows of a tenant of one kind whose keys have the same first part: the documents of a type, the states of a table."""

    tenant: str
    kind: RowKind
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A keyed JSON value.

    `accepted_at`, `since`: acceptance times (Unix seconds) of the newest event that is folded into it, and of the oldest
    one whose content is still in the body. `log`, `offset`: the log's identity and the offset of the newest event;
    `born`: the offset of the event that made the row.
    """

    key: RowKey
    body: str
    """JSON; its type depends on `key.kind`."""
    accepted_at: float
    since: float
    log: str
    offset: int
    born: int
    agent_player: str | None = None
    """The player that the agent is named after (stored form), None if it is named after none."""
    expires_at: float | None = None
    """The sweep removes the row after this time (Unix seconds); reads of the row do not look at it."""
    listed: bool = False
    """Whether the row is found by its group; otherwise only by its key."""

    def is_covered_by(self, erasure: Erasure) -> bool:
        """True if this erasure removes the row: some of its content was accepted at or before the erasure."""
        if self.key.tenant != erasure.tenant or self.since > erasure.accepted_at:
            return False
        if erasure.kind is SubjectKind.AGENT:
            return self.key.agent_id in erasure.subjects
        return self.agent_player in erasure.subjects

    def has(self, log: str, offset: int) -> bool:
        """True if the event at this position of the log is folded into the row already."""
        return self.log == log and self.offset >= offset
