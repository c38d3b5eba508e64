"""Reads without a query text: one memory, pages of an agent's memories, the largest agents, a summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorestream.limits import canonical_memory_id
from lorestream.memories import (
    EVERYTHING,
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
"""A summary lists the most frequent types, at most this many; memories of further types are in `total` only."""

_UNTYPED = Not(Condition(Field(("type",)), Op.EXISTS, value=True))


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
    async with recall.working(query.scope, filter_):
        total = await recall.store.count(query)
        memories: list[Memory] = []
        async for memory in _visible(recall, query):
            memories.append(memory)
            if len(memories) > limit:
                return Page(memories[:limit], cursor(memories[limit - 1].position), total)
        return Page(memories, None, total)


async def get_largest_agents(recall: Recall, tenant: str, limit: int) -> list[AgentTotal]:
    """The `limit` agents with the most memories."""
    scope = Scope(tenant)
    async with recall.working(scope, EVERYTHING):
        found = await recall.store.agents(scope, limit=limit, now=recall.clock.now())
    return [AgentTotal(agent_id, total) for agent_id, total in found]


async def get_summary(recall: Recall, agents: ResolvedAgents, name: str) -> SummaryResponse:
    """How many memories an agent has, how many of each type, and the timestamps of the oldest and newest."""
    now, scope = recall.clock.now(), agents.scope
    query = PageQuery(scope, 1, now)
    async with recall.working(scope, EVERYTHING):
        total = await recall.store.count(query)
        first = await _first(recall, PageQuery(scope, 1, now, oldest_first=True))
        last = await _first(recall, query)
        by_type = dict(await recall.store.count_by_type(scope, limit=MAX_TYPES, now=now))
        untyped = await recall.store.count(PageQuery(scope, 1, now, _UNTYPED))
    if untyped:
        by_type[""] = untyped
    return SummaryResponse(
        name,
        total,
        by_type,
        None if first is None else first.timestamp,
        None if last is None else last.timestamp,
    )


async def _first(recall: Recall, query: PageQuery) -> Memory | None:
    async for memory in _visible(recall, query):
        return memory
    return None


def _visible(recall: Recall, query: PageQuery) -> AsyncIterator[Memory]:
    return visible_memories(recall.store, query, recall.guard(query.scope, query.now))
