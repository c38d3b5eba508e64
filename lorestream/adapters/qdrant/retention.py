"""Keeping only the newest memories of each agent, over every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lorestream.adapters.qdrant.conditions import Clause, Group, Range, expired, in_scope
from lorestream.adapters.qdrant.payload import agent_of, ticks
from lorestream.memories import AgentKey, PageQuery, Scope

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.engine import Engine
    from lorestream.adapters.qdrant.reader import QdrantReader


async def agents_above(engine: Engine[Any], *, keep: int) -> Sequence[AgentKey]:
    """The agents of all tenants with more than `keep` points, the largest first.

    Without any condition the index itself is counted; what has expired and is still there counts too.
    """
    counts = await engine.agents(())
    over = sorted((-count, agent) for agent, count in counts if count > keep)
    return [AgentKey(*agent_of(agent)) for _, agent in over]


async def trim(
    engine: Engine[Any], reader: QdrantReader, agent: AgentKey, *, keep: int, limit: int, now: float
) -> int:
    """Remove at most `limit` of the oldest memories beyond the newest `keep`; return how many went."""
    scope = Scope(agent.tenant, (agent.agent_id,))
    living: tuple[Clause, ...] = (in_scope(scope), Group(must_not=(expired(now),)))
    excess = min(limit, await engine.count(living) - keep)
    if excess <= 0:
        return 0
    oldest = await reader.page(PageQuery(scope, excess, now, oldest_first=True))
    if not oldest:
        return 0
    last = oldest[-1]
    doomed = [
        point
        async for point, found in reader.scroll(*living, Range("t", lte=ticks(last.timestamp)))
        if found.order <= last.order
    ]
    for start in range(0, len(doomed), engine.traits.step):
        await engine.delete(doomed[start : start + engine.traits.step])
        await asyncio.sleep(0)
    return len(doomed)
