"""Q-tables: for each state of an agent's table, the value of each action and how often it was updated."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from lorestream.state.rows import Row, RowKey, RowKind

MAX_STATES = 1_000_000
"""States of one table."""
MAX_ACTIONS = 256
"""Actions of one state."""
MAX_UPDATES = 1000
"""Updates of one request."""

MAX_NAME_CHARS = 256
"""Characters of the name of a table, a state, an action."""
DEFAULT_TABLE = "q"

QName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
QOp: TypeAlias = Literal["set", "add", "toward"]


class QUpdateItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One update: `set` q = value, `add` q += value, `toward` q += alpha * (value - q). An unknown action begins at 0."""

    state: str
    action: str
    op: QOp
    value: float
    alpha: float | None = None


QValues: TypeAlias = "dict[str, tuple[float, int]]"
"""The body of a Q_STATE row: action -> (q, number of updates)."""

_values = msgspec.json.Decoder(dict[str, tuple[float, int]])
_count = msgspec.json.Decoder(int)


def q_state_key(tenant: str, agent_id: str, table: str, state: str) -> RowKey:
    """The row of a state."""
    return RowKey(tenant, agent_id, RowKind.Q_STATE, (table, state))


def q_table_key(tenant: str, agent_id: str, table: str) -> RowKey:
    """The row of a table, whose body is the number of its states."""
    return RowKey(tenant, agent_id, RowKind.Q_TABLE, (table,))


def q_topic(table: str) -> str:
    """The topic of the answers to a table's updates."""
    return f"q:{table}"


def decode_values(row: Row) -> QValues:
    """The values of a row of the kind Q_STATE."""
    return _values.decode(row.body)


def decode_count(row: Row) -> int:
    """The number of states of a row of the kind Q_TABLE."""
    return _count.decode(row.body)


def encode(body: QValues | int) -> str:
    """The body of a row."""
    return msgspec.json.encode(body).decode()
