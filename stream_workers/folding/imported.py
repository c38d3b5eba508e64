"""The fold of a row that an import appended: it takes the place of one whose newest event was accepted earlier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lorestream.errors import InvalidEvent
from lorestream.state import documents, q_tables
from lorestream.state.rows import Row, RowKey, RowKind
from stream_workers.folding.changes import Changes, Position, Rows

if TYPE_CHECKING:
    from lorestream.events import ImportedRow

_PARTS: dict[RowKind, tuple[type, ...]] = {
    RowKind.DOCUMENT: (str,),
    RowKind.VERSION: (str, int),
    RowKind.ANSWER: (str, str),
    RowKind.Q_STATE: (str, str),
    RowKind.Q_TABLE: (str,),
    RowKind.POLICY_PART: (str, str, int),
}


def key_of(event: ImportedRow) -> RowKey:
    """The row that the event writes. Raises InvalidEvent for a kind that is not known, or parts that it has not."""
    try:
        kind = RowKind(event.kind)
    except ValueError as error:
        raise InvalidEvent(f"{event.kind[:64]!r} is no kind of rows", path="kind") from error
    if tuple(map(type, event.parts)) != _PARTS[kind]:
        raise InvalidEvent(f"a row of the kind {kind} has other parts", path="parts")
    return RowKey(event.tenant, event.agent_id, kind, event.parts)


def fold(rows: Rows, event: ImportedRow, position: Position) -> Changes:
    """Write the row, unless it is there with content of the same age or newer. Raises InvalidEvent."""
    key = key_of(event)
    row = rows.get(key)
    if position.is_in(row) or (row is not None and row.accepted_at >= event.accepted_at):
        return Changes()
    imported = Row(
        key=key,
        body=event.body,
        accepted_at=event.accepted_at,
        since=event.since,
        log=position.log,
        offset=position.offset,
        born=position.born(row),
        agent_player=event.agent_player,
        expires_at=event.expires_at,
        listed=event.listed,
    )
    _check_body(imported)
    return Changes(put=[imported])


def _check_body(row: Row) -> None:
    """Raises InvalidEvent for a body that later folds and reads of the row could not decode."""
    try:
        match row.key.kind:
            case RowKind.DOCUMENT | RowKind.VERSION:
                documents.decode(row)
            case RowKind.ANSWER:
                documents.decode_answer(row)
            case RowKind.Q_STATE:
                q_tables.decode_values(row)
            case RowKind.Q_TABLE:
                q_tables.decode_count(row)
            case RowKind.POLICY_PART:
                msgspec.json.decode(row.body, type=bytes)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidEvent(
            f"not the body of a row of the kind {row.key.kind}: {error}", path="body"
        ) from error
