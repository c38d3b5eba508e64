"""The Cache in Redis: query services share the answers, and workers invalidate them.

One hash per agent holds its generation and its entries. So whatever removes the generation (an invalidation, an
eviction, an expiry, a flush) also removes the entries, and one HMGET reads both. Invalidating an agent is removing its
hash. The next reader makes a new generation of 16 random bytes, which equals no earlier one. An answer that is being
computed meanwhile is not kept: the script that stores it compares the generation first.
"""

from __future__ import annotations

import contextlib
import secrets
import struct
import time
from collections.abc import Callable, Collection
from contextlib import aclosing
from hashlib import blake2b
from typing import TYPE_CHECKING

from lorestream.adapters.redis.client import RedisClient, Script
from lorestream.errors import Unavailable
from lorestream.identity import agent_key

if TYPE_CHECKING:
    from lorestream.memories import AgentKey

GENERATION_BYTES = 16

MAX_TTL_S = 60.0
"""Upper limit of the `ttl_s` of an answer. Also the TTL of a hash since its last new answer."""

_GENERATION = "g"
_KEYS_PER_COMMAND = 500
"""Redis removes 500 hashes in under a millisecond, during which it answers no other command."""
_ENTRY_HEADER = struct.Struct(f"<{GENERATION_BYTES}sd104x")
"""128 bytes before each answer: its generation, its expiry in Unix seconds, padding.

Redis copies the first 128 bytes of each argument of a slow command into its slow log, which an invalidation does not
clear. With this padding no part of an answer gets there.
"""

_ENSURE_GENERATION = Script("""
if redis.call('HSETNX', KEYS[1], 'g', ARGV[1]) == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('HGET', KEYS[1], 'g')
""")
"""Arguments: generation, TTL in ms. Returns the agent's generation: this one, or the one that exists already."""

_STORE = Script("""
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
"""Arguments: generation, field, entry, maximum number of entries, TTL in ms. Returns 1 if the entry was stored.

A full hash loses an arbitrary entry. HRANDFIELD would choose one, but needs Redis 6.2."""


class RedisCache:
    """A Cache (lorestream.ports.cache) in Redis.

    Expiry times are wall-clock times: the clocks of the processes that share it should agree within a second.
    """

    def __init__(
        self,
        redis: RedisClient,
        *,
        max_entries: int = 128,
        max_answer_bytes: int = 256 * 1024,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`max_entries`: answers per agent. Answers larger than `max_answer_bytes` are not kept. `now`: Unix seconds."""
        self._redis = redis
        self._prefix = f"{redis.prefix}:a:"
        self._max_entries = max_entries
        self._max_answer_bytes = max_answer_bytes
        self._now = now

    async def get(self, agent: AgentKey, key: bytes) -> tuple[bytes | None, bytes]:
        """The cached answer, or None, and the generation to pass to `put`. In an outage that one matches no other."""
        name = self._name(agent)
        try:
            generation, entry = await self._redis.try_command("HMGET", name, _GENERATION, _field(key))
            if generation is None:
                new = secrets.token_bytes(GENERATION_BYTES)
                return None, await self._redis.try_script(_ENSURE_GENERATION, name, new, _ms(MAX_TTL_S))
        except Unavailable:
            return None, secrets.token_bytes(GENERATION_BYTES)
        if entry is None or len(entry) < _ENTRY_HEADER.size:
            return None, generation
        entry_generation, expires_at = _ENTRY_HEADER.unpack_from(entry)
        # More than the longest TTL ahead: written by a process whose clock is wrong.
        valid = entry_generation == generation and 0 < expires_at - self._now() <= MAX_TTL_S
        return entry[_ENTRY_HEADER.size :] if valid else None, generation

    async def put(self, agent: AgentKey, key: bytes, answer: bytes, generation: bytes, ttl_s: float) -> None:
        """Keep an answer for at most `ttl_s` seconds, unless the generation has changed. Does nothing in an outage."""
        if ttl_s <= 0 or len(answer) > self._max_answer_bytes or len(generation) != GENERATION_BYTES:
            return
        entry = _ENTRY_HEADER.pack(generation, self._now() + min(ttl_s, MAX_TTL_S)) + answer
        with contextlib.suppress(Unavailable):
            await self._redis.try_script(
                _STORE, self._name(agent), generation, _field(key), entry, self._max_entries, _ms(MAX_TTL_S)
            )

    async def invalidate(self, agents: Collection[AgentKey]) -> None:
        """Remove the generation and the answers of each agent. Raises Unavailable; then some may be removed."""
        names = [self._name(agent) for agent in agents]
        for first in range(0, len(names), _KEYS_PER_COMMAND):
            await self._redis.command("UNLINK", *names[first : first + _KEYS_PER_COMMAND])

    async def clear(self) -> None:
        """Remove all generations and answers with this prefix. Raises Unavailable; then some may be removed.

        SCAN returns every hash that exists from its beginning to its end. A hash that is made meanwhile may stay: its
        generation is new, so its answers were computed after this call began.
        """
        async with aclosing(
            self._redis.scan(f"{_escape_pattern(self._prefix)}*", count=_KEYS_PER_COMMAND)
        ) as pages:
            async for names in pages:
                await self._redis.command("UNLINK", *names)

    def _name(self, agent: AgentKey) -> str:
        """The key of the agent's hash: of a fixed length, and different for every agent."""
        return self._prefix + blake2b(agent_key(agent.tenant, agent.agent_id), digest_size=16).hexdigest()


def _field(key: bytes) -> bytes:
    return blake2b(key, digest_size=16).digest()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _escape_pattern(prefix: str) -> str:
    """The prefix as a pattern of Redis that matches it literally."""
    return "".join(f"\\{character}" if character in "*?[]^\\" else character for character in prefix)
