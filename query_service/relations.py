"""With whom an agent has to do: over the players of its memories, and over whom its memories are about."""

from __future__ import annotations

import asyncio
import math
import sys
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorestream.errors import TooManyRecords
from lorestream.memories import Condition, Field, Op, Or, PageQuery
from lorestream.turns import Turns
from query_service.schemas import Relation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorestream.memories import Memory
    from query_service.queries import ResolvedAgents
    from query_service.recall import Recall

MAX_MEMORIES = 100_000
"""The most memories with a player or with `about` that are read for an answer."""

_WITH_SOMEONE = Or(
    (
        Condition(Field(("player",)), Op.EXISTS, value=True),
        Condition(Field(("about",)), Op.EXISTS, value=True),
    )
)


@dataclass(slots=True)
class _Sums:
    total: int = 0
    last: float = -math.inf
    valences: list[float] = field(default_factory=list[float])

    def add(self, memory: Memory) -> None:
        self.total += 1
        self.last = max(self.last, memory.timestamp)
        valence = memory.metadata.get("valence")
        if isinstance(valence, int | float) and not isinstance(valence, bool):
            self.valences.append(float(valence))


async def get_relations(recall: Recall, agents: ResolvedAgents, limit: int) -> list[Relation]:
    """The `limit` others with the most memories of the agent, equal ones by the newer memory, then by name.

    Raises TooManyRecords where more than MAX_MEMORIES memories have a player or are about someone.
    """
    scope = agents.scope
    page = PageQuery(scope, MAX_MEMORIES, recall.clock.now(), _WITH_SOMEONE)
    guard = recall.guard(scope, page.now)
    sums: dict[str, _Sums] = {}
    async with recall.working(scope, _WITH_SOMEONE):
        count = await recall.store.count(page)
        if count > MAX_MEMORIES:
            raise TooManyRecords(
                f"{count:,} memories of the agent have a player or are about someone; relations are computed over at most"
                f" {MAX_MEMORIES:,}. Search with a filter on `about` or `player` for a part of them"
            )
        turns = Turns()
        async with aclosing(recall.store.each(page)) as found:
            async for stored in found:
                if guard.admits(stored):
                    memory = guard.strip(stored)
                    for name in _others(memory):
                        sums.setdefault(name, _Sums()).add(memory)
                await turns.next()
        return await asyncio.to_thread(_largest, sums, agents, limit)


def _others(memory: Memory) -> set[str]:
    """Whom the memory connects its agent with, in stored forms."""
    others = {*memory.about} if memory.player is None else {*memory.about, memory.player}
    return others - {memory.agent_id, memory.agent_player}


def _largest(sums: Mapping[str, _Sums], agents: ResolvedAgents, limit: int) -> list[Relation]:
    ranked = sorted(sums.items(), key=lambda entry: (-entry[1].total, -entry[1].last, entry[0]))
    return [
        Relation(agents.name(name), one.total, one.last, _sum(one.valences)) for name, one in ranked[:limit]
    ]


def _sum(values: list[float]) -> float:
    """The sum, rounded once; a sum that no float has is the nearest one that there is."""
    try:
        return math.fsum(values)
    except OverflowError:
        return math.copysign(sys.float_info.max, math.fsum(math.ldexp(one, -20) for one in values))
