"""Reads that ask for no likeness: one memory, pages of an agent's, which agents, a summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorestream.memories import (
    EVERYTHING,
    And,
    Condition,
    Field,
    Filter,
    Memory,
    Not,
    Op,
    PageQuery,
    Position,
    Scope,
)
from lorestream.tokens import cursor
from query_service.schemas import AgentTotal, SummaryAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from query_service.queries import Named
    from query_service.recall import Recall

MAX_TYPES = 200
"""Types that a summary counts one by one; what is left over has no entry."""

_TYPE = Field(("type",))


@dataclass(frozen=True, slots=True)
class Page:
    """Memories in order; `next_cursor` goes on behind the last, None where there are no more."""

    memories: Sequence[Memory]
    next_cursor: str | None
    total: int


async def one(recall: Recall, agents: Named, memory_id: str) -> Memory | None:
    """The memory of that id, or None."""
    now = recall.clock.now()
    for agent_id in agents.scope.agents or ():
        found = await recall.store.get(agents.scope.tenant, agent_id, memory_id, now=now)
        if found is not None and recall.visible(found, agents.scope, now):
            return found
    return None


async def page(
    recall: Recall, agents: Named, limit: int, *, where: Filter, oldest_first: bool, after: Position | None
) -> Page:
    """The next `limit` memories of the agents behind `after`, and how many there are in all."""
    # One more than asked for tells whether there is a next page.
    query = PageQuery(agents.scope, limit + 1, recall.clock.now(), where, oldest_first, after)
    total = await recall.store.count(query)
    memories: list[Memory] = []
    async for memory in recall.walk(query):
        memories.append(memory)
        if len(memories) > limit:
            return Page(memories[:limit], cursor(memories[limit - 1].position), total)
    return Page(memories, None, total)


async def largest(recall: Recall, tenant: str, limit: int) -> list[AgentTotal]:
    """The agents with the most memories."""
    found = await recall.store.agents(Scope(tenant), limit=limit, now=recall.clock.now())
    return [AgentTotal(agent_id, total) for agent_id, total in found]


async def summary(recall: Recall, agents: Named, name: str) -> SummaryAnswer:
    """How many memories an agent has, of which types, from when to when."""
    now, scope = recall.clock.now(), agents.scope
    query = PageQuery(scope, 1, now)
    total = await recall.store.count(query)
    first = await _next(recall, PageQuery(scope, 1, now, oldest_first=True))
    last = await _next(recall, query)
    return SummaryAnswer(
        name,
        total,
        await _by_type(recall, scope, now),
        None if first is None else first.timestamp,
        None if last is None else last.timestamp,
    )


async def _by_type(recall: Recall, scope: Scope, now: float) -> dict[str, int]:
    """Each type is counted by itself: two questions a type, whatever the number of memories."""
    counts: dict[str, int] = {}
    seen: list[Filter] = []
    while len(counts) < MAX_TYPES:
        rest = And(tuple(Not(part) for part in seen)) if seen else EVERYTHING
        memory = await _next(recall, PageQuery(scope, 1, now, rest))
        if memory is None:
            break
        same: Filter = (
            Not(Condition(_TYPE, Op.EXISTS, value=True))
            if memory.type is None
            else Condition(_TYPE, Op.EQ, memory.type)
        )
        counts[memory.type or ""] = await recall.store.count(PageQuery(scope, 1, now, same))
        seen.append(same)
    return counts


async def _next(recall: Recall, query: PageQuery) -> Memory | None:
    async for memory in recall.walk(query):
        return memory
    return None
