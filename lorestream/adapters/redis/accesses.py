"""The AccessTimes in Redis, shared by all query services: one hash per agent, from memory id to Unix seconds.

A hash expires a week after its last access, and Redis may evict it earlier. It holds random ids and times, no names
and no text.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from lorestream import supervision
from lorestream.adapters.redis.client import RedisClient, Script
from lorestream.errors import Unavailable
from lorestream.identity import agent_key
from lorestream.memories import AgentKey, SubjectKind
from lorestream.ports.accesses import TOUCH_INTERVAL_S

if TYPE_CHECKING:
    from lorestream.memories import Erasure, Memory

_TTL_S = 7 * 86_400
_MAX_PER_AGENT = 10_000
"""Beyond it the agent's accesses are forgotten and begin anew: sorting them out would take Redis too long."""
_MAX_RECENT = 100_000

_TOUCH = Script("""
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then redis.call('UNLINK', KEYS[1]) end
for i = 4, #ARGV do redis.call('HSET', KEYS[1], ARGV[i], ARGV[1]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
""")
"""Arguments: time, most fields, TTL in seconds, memory ids."""


class RedisAccessTimes:
    """AccessTimes (lorestream.ports.accesses). What this process touched lately costs no call."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._recent: OrderedDict[str, float] = OrderedDict()

    async def last(self, memories: Sequence[Memory]) -> Mapping[str, float]:
        """The access times that Redis has; none in an outage."""
        found: dict[str, float] = {}

        async def read(agent: AgentKey, ids: Sequence[str]) -> None:
            with contextlib.suppress(Unavailable):
                times = await self._redis.try_command("HMGET", self._name(agent), *ids)
                for id_, time in zip(ids, times, strict=True):
                    with contextlib.suppress(TypeError, ValueError):  # missing, or not ours
                        found[id_] = float(time)

        await supervision.run_all(*(read(agent, ids) for agent, ids in _by_agent(memories).items()))
        return found

    async def touch(self, memories: Sequence[Memory], now: float) -> None:
        """Keep the time of those that this process has not touched within TOUCH_INTERVAL_S."""
        due = [one for one in memories if now - self._recent.get(one.id, float("-inf")) >= TOUCH_INTERVAL_S]
        for agent, ids in _by_agent(due).items():
            with contextlib.suppress(Unavailable):
                await self._redis.try_script(
                    _TOUCH, self._name(agent), repr(now), _MAX_PER_AGENT, _TTL_S, *ids
                )
                for id_ in ids:
                    self._recent[id_] = now
                    self._recent.move_to_end(id_)
        while len(self._recent) > _MAX_RECENT:
            self._recent.popitem(last=False)

    async def forget(self, erasure: Erasure) -> None:
        """Forget the accesses of an erased agent."""
        if erasure.kind is SubjectKind.AGENT:
            with contextlib.suppress(Unavailable):
                names = [self._name(AgentKey(erasure.tenant, one)) for one in erasure.subjects]
                await self._redis.command("UNLINK", *names)

    def _name(self, agent: AgentKey) -> str:
        hashed = blake2b(agent_key(agent.tenant, agent.agent_id), digest_size=16).hexdigest()
        return f"{self._redis.prefix}:access:{hashed}"


def _by_agent(memories: Sequence[Memory]) -> dict[AgentKey, list[str]]:
    grouped: dict[AgentKey, list[str]] = {}
    for one in memories:
        grouped.setdefault(AgentKey(one.tenant, one.agent_id), []).append(one.id)
    return grouped
