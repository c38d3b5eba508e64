"""Reads without a query text: one memory, pages of an agent's memories, the largest agents, a summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorestream.limits import canonical_memory_id
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
from query_service.retrieval import visible_memories
from query_service.schemas import AgentTotal, SummaryResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from query_service.queries import ResolvedAgents
    from query_service.recall import Recall

MAX_TYPES = 200
"""A summary counts at most this many types; memories of further types are in `total` only."""

_TYPE = Field(("type",))


@dataclass(frozen=True, slots=True)
class Page:
    """Memories in order. `next_cursor`: where the next page begins, None on the last page.

    `total`: the number of memories on all pages.
    """

    memories: Sequence[Memory]
    next_cursor: str | None
    total: int


async def get_memory(recall: Recall, agents: ResolvedAgents, memory_id: str) -> Memory | None:
    """The memory of that id of one of the agents, or None."""
    memory_id = canonical_memory_id(memory_id) or memory_id
    scope = agents.scope
    guard = recall.guard(scope, recall.clock.now())
    for agent_id in scope.agents or ():
        memory = await recall.store.get(scope.tenant, agent_id, memory_id, now=guard.now)
        if memory is not None and guard.admits(memory):
            return memory
    return None


async def get_page(
    recall: Recall,
    agents: ResolvedAgents,
    limit: int,
    *,
    filter_: Filter,
    oldest_first: bool,
    after: Position | None,
) -> Page:
    """The next `limit` memories of the agents strictly after a position, and the number of all."""
    # One memory more than requested shows whether there is a next page.
    query = PageQuery(agents.scope, limit + 1, recall.clock.now(), filter_, oldest_first, after)
    total = await recall.store.count(query)
    memories: list[Memory] = []
    async for memory in _visible(recall, query):
        memories.append(memory)
        if len(memories) > limit:
            return Page(memories[:limit], cursor(memories[limit - 1].position), total)
    return Page(memories, None, total)


async def get_largest_agents(recall: Recall, tenant: str, limit: int) -> list[AgentTotal]:
    """The `limit` agents with the most memories."""
    found = await recall.store.agents(Scope(tenant), limit=limit, now=recall.clock.now())
    return [AgentTotal(agent_id, total) for agent_id, total in found]


async def get_summary(recall: Recall, agents: ResolvedAgents, name: str) -> SummaryResponse:
    """How many memories an agent has, how many of each type, and the timestamps of the oldest and newest."""
    now, scope = recall.clock.now(), agents.scope
    query = PageQuery(scope, 1, now)
    total = await recall.store.count(query)
    first = await _first(recall, PageQuery(scope, 1, now, oldest_first=True))
    last = await _first(recall, query)
    return SummaryResponse(
        name,
        total,
        await _count_by_type(recall, scope, now),
        None if first is None else first.timestamp,
        None if last is None else last.timestamp,
    )


async def _count_by_type(recall: Recall, scope: Scope, now: float) -> dict[str, int]:
    """Two queries per type, independent of the number of memories: find a type not seen yet, and count it."""
    counts: dict[str, int] = {}
    seen: list[Filter] = []
    while len(counts) < MAX_TYPES:
        unseen = And(tuple(Not(part) for part in seen)) if seen else EVERYTHING
        memory = await _first(recall, PageQuery(scope, 1, now, unseen))
        if memory is None:
            break
        same_type: Filter = (
            Not(Condition(_TYPE, Op.EXISTS, value=True))
            if memory.type is None
            else Condition(_TYPE, Op.EQ, memory.type)
        )
        counts[memory.type or ""] = await recall.store.count(PageQuery(scope, 1, now, same_type))
        seen.append(same_type)
    return counts


async def _first(recall: Recall, query: PageQuery) -> Memory | None:
    async for memory in _visible(recall, query):
        return memory
    return None


def _visible(recall: Recall, query: PageQuery) -> AsyncIterator[Memory]:
    return visible_memories(recall.store, query, recall.guard(query.scope, query.now))
