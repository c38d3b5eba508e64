"""The fold of a Q-table's updates: one row per state, the number of the table's states, and the answer.

A crash can leave some of these rows written. The answer is written before the others, so it tells the next attempt
whether the update is applied; each of the other rows tells whether it has it already.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lorestream.state import documents, q_tables
from lorestream.state.documents import Answer
from lorestream.state.rows import Row
from stream_workers.folding.changes import Changes, Position, Rows, answer_row, earlier_answer

if TYPE_CHECKING:
    from lorestream.events import QUpdate
    from lorestream.state.q_tables import QUpdateItem, QValues
    from lorestream.state.rows import RowKey


def keys(event: QUpdate) -> list[RowKey]:
    """The rows that the fold of this event needs."""
    owner = (event.tenant, event.agent_id)
    return [
        documents.answer_key(*owner, q_tables.q_topic(event.table), event.event_id),
        q_tables.q_table_key(*owner, event.table),
        *(q_tables.q_state_key(*owner, event.table, state) for state in _by_state(event)),
    ]


def fold(rows: Rows, event: QUpdate, position: Position) -> Changes:
    """Apply all updates, or none: then the answer says why."""
    earlier = earlier_answer(rows, event, q_tables.q_topic(event.table), position)
    if earlier.is_duplicate:
        return Changes()
    owner = (event.tenant, event.agent_id)
    found = {
        q_tables.q_state_key(*owner, event.table, state): updates
        for state, updates in _by_state(event).items()
    }
    states = [
        _updated(rows.get(key), key, updates, event, position)
        for key, updates in found.items()
        if not position.is_in(rows.get(key))
    ]
    table_key = q_tables.q_table_key(*owner, event.table)
    table = rows.get(table_key)
    count = 0 if table is None else q_tables.decode_count(table)
    # Rows that this event made in an earlier attempt count as new, unless the table's row has them.
    new = sum((row := rows.get(key)) is None or position.made(row) for key in found)
    total = count if position.is_in(table) else count + new
    code = _refusal(states, total, new)
    answer = earlier.own or (Answer(applied=True) if code is None else Answer(applied=False, code=code))
    changes = Changes()
    if earlier.own is None:
        changes.put.append(answer_row(earlier.key, answer, event, position))
    if answer.applied:
        changes.put += [row for row, _ in states]
        if new and not position.is_in(table):
            changes.put.append(_count_row(table, table_key, total, event, position))
    return changes


def _by_state(event: QUpdate) -> dict[str, list[QUpdateItem]]:
    """The updates of each state, in their order."""
    found: dict[str, list[QUpdateItem]] = {}
    for update in event.updates:
        found.setdefault(update.state, []).append(update)
    return found


def _refusal(states: list[tuple[Row, QValues]], total: int, new: int) -> str | None:
    """Why the updates cannot be applied; None if they can."""
    if any(not math.isfinite(q) for _, values in states for q, _ in values.values()):
        return "not_finite"
    if any(len(values) > q_tables.MAX_ACTIONS for _, values in states):
        return "too_many_actions"
    return "too_many_states" if new and total > q_tables.MAX_STATES else None


def _updated(
    row: Row | None, key: RowKey, updates: list[QUpdateItem], event: QUpdate, position: Position
) -> tuple[Row, QValues]:
    """The row of a state after its updates, and its values."""
    values = {} if row is None else q_tables.decode_values(row)
    for update in updates:
        q, n = values.get(update.action, (0.0, 0))
        values[update.action] = (_q(q, update), n + 1)
    replaced = {update.action for update in updates if update.op == "set"}
    all_replaced = row is None or values.keys() <= replaced
    return Row(
        key=key,
        body=q_tables.encode(values) if all(math.isfinite(q) for q, _ in values.values()) else "",
        accepted_at=event.accepted_at,
        since=event.accepted_at if row is None or all_replaced else min(row.since, event.accepted_at),
        log=position.log,
        offset=position.offset,
        born=position.born(row),
        agent_player=event.agent_player,
        listed=True,
    ), values


def _q(q: float, update: QUpdateItem) -> float:
    match update.op:
        case "set":
            return update.value
        case "add":
            return q + update.value
        case "toward":
            alpha, distance = update.alpha or 0.0, update.value - q
            if math.isfinite(distance):
                return q + alpha * distance
            # No float holds the distance of two large numbers.
            return (1.0 - alpha) * q + alpha * update.value


def _count_row(table: Row | None, key: RowKey, total: int, event: QUpdate, position: Position) -> Row:
    return Row(
        key=key,
        body=q_tables.encode(total),
        accepted_at=event.accepted_at,
        since=event.accepted_at if table is None else min(table.since, event.accepted_at),
        log=position.log,
        offset=position.offset,
        born=position.born(table),
        agent_player=event.agent_player,
    )
