"""Token buckets in Redis, shared by all services of a deployment. They use the clock of Redis."""

from __future__ import annotations

from collections.abc import Sequence

from lorestream.access.rate_limits import BucketRequest, Shortfall
from lorestream.adapters.redis.client import RedisClient, Script

_CONSUME = Script("""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local lacking, longest, paid = 0, 0, {}
for i, key in ipairs(KEYS) do
  local interval, burst, amount = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local full_at = math.max(now, tonumber(redis.call('GET', key) or now))
  local wait = full_at - now - (burst - math.min(amount, burst)) * interval
  if wait >= 1 and wait > longest then
    lacking, longest = i, wait
  end
  paid[i] = full_at + amount * interval
end
if lacking == 0 then
  for i, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', paid[i]), 'PX', math.ceil((paid[i] - now) / 1000) + 1)
  end
end
return {lacking, math.ceil(longest)}
""")
"""Arguments per key: microseconds per token, capacity in tokens, tokens to take.

Takes from all buckets or from none. Returns the number of the key (from 1) with the longest wait, 0 if the tokens were
taken, and the wait in microseconds. The value of a key is the time at which its bucket is full again.
"""


class RedisTokenBuckets:
    """`lorestream.access.rate_limits.TokenBuckets` in Redis: one number per bucket, which expires when it is full."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        # The braces keep all buckets in one slot of a cluster: a script has all its keys on one node.
        self._prefix = f"{redis.prefix}:l:{{l}}:"

    async def consume(self, requests: Sequence[BucketRequest]) -> Shortfall | None:
        """Take the tokens of all requests and return None, or take none; one round trip. Raises Unavailable."""
        keys = [f"{self._prefix}{request.bucket}" for request in requests]
        numbers = [
            number
            for request in requests
            for number in (1e6 / request.per_s, request.capacity, request.tokens)
        ]
        lacking, wait_us = await self._redis.try_script(_CONSUME, keys, *numbers)
        return Shortfall(requests[lacking - 1], wait_us / 1e6) if lacking else None
