"""What an event changes, and where in the log it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from lorestream.state import documents
from lorestream.state.rows import Row

if TYPE_CHECKING:
    from lorestream.events import DocumentWrite, QUpdate
    from lorestream.state.documents import Answer
    from lorestream.state.rows import RowKey

Rows: TypeAlias = "Mapping[RowKey, Row]"
"""The rows that a fold may need. A key that is missing has no row."""


MIN_LIFETIME_S = 86_400.0
"""How long after its fold a row stays at least."""


class Position(NamedTuple):
    """Where an event lies, the identity of the log and the offset in its partition, and when it is folded."""

    log: str
    offset: int
    now: float
    """Unix seconds."""

    def is_in(self, row: Row | None) -> bool:
        """Whether the event at this position is folded into the row already."""
        return row is not None and row.has(self.log, self.offset)

    def made(self, row: Row) -> bool:
        """Whether the event at this position made the row, in an earlier attempt to fold it."""
        return row.log == self.log and row.born == self.offset

    def expiry(self, accepted_at: float, lifetime_s: float) -> float:
        """When a row of a limited lifetime may be removed: not soon after it was folded, however old its event is.

        In a replay, and after a worker was away, the next events may need it: they are accepted when it was.
        """
        return max(accepted_at + lifetime_s, self.now + MIN_LIFETIME_S)

    def born(self, row: Row | None) -> int:
        """The `born` of a row that the event at this position makes, or changes.

        A row of another log was made before all events of this one.
        """
        if row is None:
            return self.offset
        return row.born if row.log == self.log else -1


@dataclass(slots=True)
class Changes:
    """What an event changes: rows to write, to remove, and to keep beyond their expiry. `put` and `delete` are disjoint."""

    put: list[Row] = field(default_factory=list[Row])
    delete: list[RowKey] = field(default_factory=list["RowKey"])
    keep: list[RowKey] = field(default_factory=list["RowKey"])


class EarlierAnswer(NamedTuple):
    """The answer that an event finds under its `event_id`: of an earlier event, or of an attempt to fold this one."""

    key: RowKey
    row: Row | None
    is_duplicate: bool
    """The answer is that of an earlier event: this one changes nothing."""

    @property
    def own(self) -> Answer | None:
        """The answer that an interrupted attempt to fold this event has written."""
        return None if self.row is None or self.is_duplicate else documents.decode_answer(self.row)


def earlier_answer(
    rows: Rows, event: DocumentWrite | QUpdate, topic: str, position: Position
) -> EarlierAnswer:
    """Find the answer to the event's `event_id`. One that was given longer than its lifetime ago does not count.

    By the times of acceptance, so that a replay decides as the first fold did.
    """
    key = documents.answer_key(event.tenant, event.agent_id, topic, event.event_id)
    row = rows.get(key)
    if row is None or event.accepted_at >= row.accepted_at + documents.ANSWER_LIFETIME_S:
        return EarlierAnswer(key, None, is_duplicate=False)
    return EarlierAnswer(key, row, is_duplicate=not position.made(row))


def answer_row(key: RowKey, answer: Answer, event: DocumentWrite | QUpdate, position: Position) -> Row:
    """The row of the answer to an event."""
    return Row(
        key=key,
        body=documents.encode(answer),
        accepted_at=event.accepted_at,
        since=event.accepted_at,
        log=position.log,
        offset=position.offset,
        born=position.offset,
        agent_player=event.agent_player,
        expires_at=position.expiry(event.accepted_at, documents.ANSWER_LIFETIME_S),
    )
