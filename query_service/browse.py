"""Reads without a query text: one memory, pages of an agent's memories, the largest agents, a summary."""

from __future__ import annotations

import sys
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import islice
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
from lorestream.rewinds import check_time
from lorestream.tokens import cursor
from query_service.recall import then
from query_service.records import with_records
from query_service.response_schemas import AgentTotal, RewindPreviewResponse, SummaryResponse
from query_service.retrieval import visible_memories

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from query_service.queries import ResolvedAgents
    from query_service.recall import Recall

MAX_TYPES = 200
"""A summary lists the most frequent types, at most this many; memories of further types are in `total` only."""

_LINES_AT_ONCE = 500

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
            return guard.strip(memory)
    return None


def page_query(
    recall: Recall,
    agents: ResolvedAgents,
    limit: int,
    filter_: Filter,
    *,
    oldest_first: bool,
    after: Position | None,
    as_of: float | None = None,
) -> PageQuery:
    """The next `limit` memories of the agents strictly after a position, and records where the filter names their type.

    `as_of`: the time (Unix seconds) that they are read as of; the filter has its conditions.
    """
    scope = with_records(agents.scope, filter_)
    return PageQuery(scope, limit, then(as_of, recall.clock.now()), filter_, oldest_first, after)


async def get_page(recall: Recall, query: PageQuery) -> Page:
    """The memories of the query, and the number of all."""
    limit = query.limit
    # One memory more than requested shows whether there is a next page.
    query = replace(query, limit=limit + 1)
    async with recall.working(query.scope, query.filter):
        total = await recall.store.count(query)
        memories: list[Memory] = []
        async for memory in _visible(recall, query):
            memories.append(memory)
            if len(memories) > limit:
                return Page(memories[:limit], cursor(memories[limit - 1].position), total)
        return Page(memories, None, total)


async def get_lines(
    recall: Recall, query: PageQuery, as_of: float | None = None
) -> AsyncGenerator[Sequence[Memory]]:
    """The memories of the query, some at a time; without any, an empty list. `as_of`: as in `page_query`.

    While the caller uses what it got, no work is in progress that counts for the capacity of the process.
    """
    left, after = query.limit, query.after
    while left > 0:
        now = then(as_of, recall.clock.now())
        part = replace(query, limit=min(left, _LINES_AT_ONCE), after=after, now=now)
        found: list[Memory] = []
        async with recall.working(part.scope, part.filter):
            async for memory in _visible(recall, part):
                found.append(memory)
                if len(found) == part.limit:
                    break
        yield found
        if len(found) < part.limit:
            return
        left, after = left - len(found), found[-1].position


async def get_many(
    recall: Recall, agents: ResolvedAgents, memory_ids: Sequence[str], *, vectors: bool
) -> list[tuple[Memory, NDArray[np.float32] | None]]:
    """The memories of these ids of the agents, in their order, with their vectors (dim,) if `vectors`.

    Unknown ids are left out.
    """
    scope = agents.scope
    guard = recall.guard(scope, recall.clock.now())
    wanted = [canonical_memory_id(one) or one for one in memory_ids]
    found: dict[str, tuple[Memory, NDArray[np.float32] | None]] = {}
    for agent_id in scope.agents or ():
        missing = [one for one in wanted if one not in found]
        for memory, vector in await recall.store.get_many(scope.tenant, agent_id, missing, vectors=vectors):
            if guard.admits(memory):
                found[memory.id] = guard.strip(memory), vector
    return [found[one] for one in wanted if one in found]


async def get_largest_agents(recall: Recall, tenant: str, limit: int, prefix: str = "") -> list[AgentTotal]:
    """The `limit` agents with the most memories, of those whose ids begin with `prefix`."""
    scope = Scope(tenant)
    async with recall.working(scope, EVERYTHING):
        # The store counts all agents in any case.
        most = sys.maxsize if prefix else limit
        found = await recall.store.agents(scope, limit=most, now=recall.clock.now())
    named = (AgentTotal(agent_id, total) for agent_id, total in found if agent_id.startswith(prefix))
    return list(islice(named, limit))


async def count_rewound(recall: Recall, tenant: str, server: str, to: float) -> RewindPreviewResponse:
    """How many memories of how many agents a rewind of the server to that time (Unix seconds) would hide.

    Raises InvalidRequest for a time that has not come yet, as the rewind does.
    """
    now = recall.clock.now()
    check_time(to, now)
    scope = Scope(tenant, records=True, superseded=True)
    of_server = Condition(Field(("server",)), Op.EQ, server)
    concerned = And((of_server, Condition(Field(("accepted_at",)), Op.GT, to)))
    guard = recall.guard(scope, now)
    agents: set[str] = set()
    memories = 0
    async with (
        recall.working(scope, of_server),
        aclosing(recall.store.each(PageQuery(scope, 1, guard.now, concerned))) as found,
    ):
        async for some in found:
            hidden = [memory.agent_id for memory in some if guard.admits(memory)]
            agents.update(hidden)
            memories += len(hidden)
    return RewindPreviewResponse(memories, len(agents))


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
