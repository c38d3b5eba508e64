"""Q-tables: the values of some states, and all states of a table page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lorestream.state import q_tables
from lorestream.state.rows import RowGroup, RowKind
from lorestream.tokens import list_cursor, parse_list_cursor
from lorestream.turns import Turns
from query_service.state.rows import PageBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorestream.memories import AgentKey
    from lorestream.state.rows import Row
    from query_service.state.rows import Page, VisibleRows

STATES_PER_STEP = 64
"""States that are read together: at most 5 MiB, of 256 actions with long names each."""


class ActionValue(msgspec.Struct):
    """The value of an action, and how often it was updated."""

    q: float
    n: int


_encoder = msgspec.json.Encoder()


async def get_values(rows: VisibleRows, agent: AgentKey, table: str, states: Sequence[str]) -> list[bytes]:
    """The values of those of the states that are known, each once: the members of a JSON object. Raises Unavailable."""
    names = list(dict.fromkeys(states))
    keys = [q_tables.q_state_key(agent.tenant, agent.agent_id, table, state) for state in names]
    return [_member(row) async for row in rows.each(keys, STATES_PER_STEP) if row is not None]


async def get_table(
    rows: VisibleRows, agent: AgentKey, table: str, *, limit: int, cursor: str | None
) -> Page:
    """A page of a table, in an order of the store's own. Raises InvalidCursor, Unavailable."""
    listing = f"states {table}"
    after = None if cursor is None else parse_list_cursor(listing, cursor, str)
    group = RowGroup(agent.tenant, RowKind.Q_STATE, table)
    page, turns = PageBuilder(limit), Turns()
    while page.left:
        found, after = await rows.page(
            group, agent.agent_id, after=after, limit=min(page.left, STATES_PER_STEP)
        )
        for row in found:
            page.add(_member(row))
            await turns.next()
        if after is None:
            return page.ends()
    return page.ends(list_cursor(listing, after or ""))


def _member(row: Row) -> bytes:
    """A state and its values, as they stand in a JSON object."""
    values = q_tables.decode_values(row)
    shown = {action: ActionValue(q, n) for action, (q, n) in values.items()}
    return _encoder.encode(row.key.parts[1]) + b":" + _encoder.encode(shown)
