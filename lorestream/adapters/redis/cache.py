"""A cache of answers in Redis, shared by all query services and told of writes by all workers.

One hash per agent holds its generation and its entries, so that whatever removes a generation (an invalidation, an
eviction, an expiry, a flush) takes the entries along, and one HMGET reads both. No agent without a hash has a
generation: a new one is 16 random bytes, so what was computed under a generation that has gone meets no equal one.
That makes removing the hash the whole invalidation, also against an answer that is on its way: it is kept only by
a script that finds its generation still there.
"""

from __future__ import annotations

import contextlib
import secrets
import struct
import time
from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import TYPE_CHECKING

from lorestream.adapters.redis.client import RedisClient, Script
from lorestream.errors import Unavailable
from lorestream.identity import agent_key

if TYPE_CHECKING:
    from lorestream.memories import AgentKey

GENERATION_BYTES = 16

LIFE_S = 60.0
"""No answer lives longer, whatever its `ttl_s`. A hash that gets no new answer for so long goes as well."""

_GENERATION = "g"
_KEYS_PER_COMMAND = 500
"""Redis removes 500 hashes in under a millisecond; nobody else is answered meanwhile."""
_HEAD = struct.Struct(f"<{GENERATION_BYTES}sd104x")
"""What stands before an answer: the generation that it was computed under, and its end in Unix seconds.

Of a slow command Redis writes the first 128 bytes of each argument into its slow log, which no invalidation empties:
so many hold nothing of the answer.
"""

_BEGIN = Script("""
if redis.call('HSETNX', KEYS[1], 'g', ARGV[1]) == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('HGET', KEYS[1], 'g')
""")
"""generation, life in ms -> the agent's generation: this one, or another's who came first."""

_KEEP = Script("""
if redis.call('HGET', KEYS[1], 'g') ~= ARGV[1] then return 0 end
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[4]) and redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if field ~= 'g' then redis.call('HDEL', KEYS[1], field) break end
  end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
""")
"""generation, field, entry, entries at most, life in ms -> whether it was kept; of a full hash any other goes.

HRANDFIELD would pick one, but Redis has it from 6.2 on only."""


class RedisCache:
    """A Cache in Redis. Ends of life are times of day: the clocks of its users should agree within a second."""

    def __init__(
        self,
        redis: RedisClient,
        *,
        max_entries: int = 128,
        max_answer_bytes: int = 256 * 1024,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`max_entries`: answers kept of one agent. Larger answers than `max_answer_bytes` are not kept."""
        self._redis = redis
        self._prefix = f"{redis.prefix}:a:"
        self._max_entries = max_entries
        self._max_answer_bytes = max_answer_bytes
        self._now = now

    async def get(self, agent: AgentKey, key: bytes) -> tuple[bytes | None, bytes]:
        """The answer, or None, and the generation to hand to `put`: one that nothing matches in an outage."""
        name = self._name(agent)
        try:
            generation, entry = await self._redis.try_command("HMGET", name, _GENERATION, _field(key))
            if generation is None:
                mine = secrets.token_bytes(GENERATION_BYTES)
                return None, await self._redis.try_script(_BEGIN, name, mine, _ms(LIFE_S))
        except Unavailable:
            return None, secrets.token_bytes(GENERATION_BYTES)
        if entry is None or len(entry) < _HEAD.size:
            return None, generation
        computed_under, death = _HEAD.unpack_from(entry)
        lives = computed_under == generation and 0 < death - self._now() <= LIFE_S
        return entry[_HEAD.size :] if lives else None, generation

    async def put(self, agent: AgentKey, key: bytes, answer: bytes, generation: bytes, ttl_s: float) -> None:
        """Keep an answer at most `ttl_s` seconds; void when the generation is no longer the agent's."""
        if ttl_s <= 0 or len(answer) > self._max_answer_bytes or len(generation) != GENERATION_BYTES:
            return
        entry = _HEAD.pack(generation, self._now() + min(ttl_s, LIFE_S)) + answer
        with contextlib.suppress(Unavailable):
            await self._redis.try_script(
                _KEEP, self._name(agent), generation, _field(key), entry, self._max_entries, _ms(LIFE_S)
            )

    async def invalidate(self, agents: Collection[AgentKey]) -> None:
        """Take each agent's generation and answers away. Raises Unavailable; then some may be gone."""
        names = [self._name(agent) for agent in agents]
        for first in range(0, len(names), _KEYS_PER_COMMAND):
            await self._redis.command("UNLINK", *names[first : first + _KEYS_PER_COMMAND])

    async def clear(self) -> None:
        """Take all generations and answers of this prefix away. Raises Unavailable.

        A scan meets every hash that was there when it began, unless it goes by itself. One that is made
        meanwhile has a new generation, which only searches have that began after this call did.
        """
        cursor = 0
        while True:
            cursor, names = await self._redis.command(
                "SCAN", cursor, "MATCH", f"{_literal(self._prefix)}*", "COUNT", _KEYS_PER_COMMAND
            )
            if names:
                await self._redis.command("UNLINK", *names)
            if not cursor:
                return

    def _name(self, agent: AgentKey) -> str:
        """Of one length, however long an id is, and no two agents run into each other."""
        return self._prefix + blake2b(agent_key(agent.tenant, agent.agent_id), digest_size=16).hexdigest()


def _field(key: bytes) -> bytes:
    return blake2b(key, digest_size=16).digest()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _literal(prefix: str) -> str:
    """The prefix as a pattern that matches nothing else."""
    return "".join(f"\\{character}" if character in "*?[]^\\" else character for character in prefix)
