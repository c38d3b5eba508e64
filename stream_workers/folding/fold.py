"""The fold of one state event, by its type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorestream import events
from lorestream.memories import AgentKey
from lorestream.state import policies as policy_state
from stream_workers.folding import documents, imported, policies, q_tables

if TYPE_CHECKING:
    from lorestream.events import StateEvent
    from lorestream.ports import ErasureLedger
    from lorestream.state.rows import RowKey
    from stream_workers.folding.changes import Changes, Position, Rows


def agent(event: StateEvent) -> AgentKey:
    """The agent whose state the event changes."""
    return AgentKey(event.tenant, event.agent_id)


def is_erased(event: StateEvent, ledger: ErasureLedger) -> bool:
    """Whether an erasure covers the event."""
    since = event.since if isinstance(event, events.ImportedRow) else event.accepted_at
    return ledger.covers_state(agent(event), event.agent_player, since)


def keys(event: StateEvent) -> list[RowKey]:
    """The rows that the fold of this event needs. Raises InvalidEvent for an event that cannot be folded."""
    match event:
        case events.DocumentWrite():
            return documents.keys(event) + policies.part_keys(event)
        case events.QUpdate():
            return q_tables.keys(event)
        case events.PolicyPart():
            return [policies.part_key(event)]
        case events.ImportedRow():
            return [imported.key_of(event)]


def more_keys(event: StateEvent, rows: Rows) -> list[RowKey]:
    """The further rows that the fold of this event needs, where they depend on the first ones."""
    return policies.version_keys(rows, event) if isinstance(event, events.DocumentWrite) else []


def fold(rows: Rows, event: StateEvent, position: Position, keep_versions: int) -> Changes:
    """What the event changes. `rows`: those of `keys` and `more_keys` that exist. Raises InvalidEvent."""
    match event:
        case events.DocumentWrite():
            if policy_state.policy_name(event.type) is not None:
                return policies.fold_manifest(rows, event, position, keep_versions)
            return documents.fold(rows, event, position, keep_versions, put_since=event.accepted_at)
        case events.QUpdate():
            return q_tables.fold(rows, event, position)
        case events.PolicyPart():
            return policies.fold_part(rows, event, position)
        case events.ImportedRow():
            return imported.fold(rows, event, position)
