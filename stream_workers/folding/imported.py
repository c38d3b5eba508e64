"""The fold of a row that an import appended: it takes the place of one whose newest event was accepted earlier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorestream.state import row_checks
from lorestream.state.rows import Row
from stream_workers.folding.changes import Changes, Position, Rows

if TYPE_CHECKING:
    from lorestream.events import ImportedRow
    from lorestream.state.rows import RowKey


def key_of(event: ImportedRow) -> RowKey:
    """The row that the event writes. Raises InvalidEvent for a kind that is not known, or parts that it has not."""
    return row_checks.row_key(event.tenant, event.agent_id, event.kind, event.parts)


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
    row_checks.check_body(imported)
    return Changes(put=[imported])
