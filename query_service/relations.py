"""With whom an agent has to do: over the players of its memories, and over whom its memories are about."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from lorestream.errors import TooManyRecords
from lorestream.memories import Condition, Field, Op, Or, PageQuery
from lorestream.turns import Turns
from query_service.aggregates import sum_of
from query_service.answer_cache import MAX_TTL_S, ComputedAnswer
from query_service.queries import fingerprint_of
from query_service.recall import Read
from query_service.response_schemas import Relation, RelationsResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorestream.memories import Memory
    from query_service.queries import ResolvedAgents
    from query_service.recall import Recall
    from query_service.retrieval import Vector

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


def relations_read(recall: Recall, agents: ResolvedAgents, limit: int) -> Read:
    """The relations of one agent as a read: the `limit` others with the most of its memories.

    Equal ones are ordered by the newer memory, then by name. The read raises TooManyRecords where more than MAX_MEMORIES
    memories have a player or are about someone.
    """
    return Read(
        "relations",
        agents.single,
        fingerprint_of("relations", sorted(agents.names.items()), limit),
        agents.scope,
        _WITH_SOMEONE,
        partial(_compute, recall, agents, limit),
    )


async def _compute(
    recall: Recall, agents: ResolvedAgents, limit: int, _vector: Vector | None
) -> ComputedAnswer:
    page = PageQuery(agents.scope, MAX_MEMORIES, recall.clock.now(), _WITH_SOMEONE)
    guard = recall.guard(page.scope, page.now)
    sums: dict[str, _Sums] = {}
    expires_at = page.now + MAX_TTL_S
    async with recall.working(page.scope, page.filter):
        turns, read = Turns(), 0
        async with aclosing(recall.store.each(page)) as found:
            async for memories in found:
                # Not counted before: that takes a tenth of the time of the read.
                read += len(memories)
                if read > MAX_MEMORIES:
                    raise TooManyRecords(
                        f"more than {MAX_MEMORIES:,} memories of the agent have a player or are about someone, and relations"
                        " are computed over at most as many. Search with a filter on `about` or `player` for a part of them"
                    )
                for memory in map(guard.strip, filter(guard.admits, memories)):
                    for name in _others(memory):
                        if (one := sums.get(name)) is None:
                            one = sums[name] = _Sums()
                        one.add(memory)
                    if memory.expires_at is not None and memory.expires_at < expires_at:
                        expires_at = memory.expires_at
                await turns.next()
        relations = await asyncio.to_thread(_largest, sums, agents, limit)
    return ComputedAnswer(msgspec.json.encode(RelationsResponse(relations)), expires_at)


def _others(memory: Memory) -> set[str]:
    """Whom the memory connects its agent with, in stored forms."""
    others = {*memory.about} if memory.player is None else {*memory.about, memory.player}
    return others - {memory.agent_id, memory.agent_player}


def _largest(sums: Mapping[str, _Sums], agents: ResolvedAgents, limit: int) -> list[Relation]:
    ranked = sorted(sums.items(), key=lambda entry: (-entry[1].total, -entry[1].last, entry[0]))
    return [
        Relation(agents.name(name), one.total, one.last, sum_of(one.valences)) for name, one in ranked[:limit]
    ]
