"""Token buckets in Redis, which all services of a deployment draw from. The time is Redis' own."""

from __future__ import annotations

from collections.abc import Sequence

from lorestream.access.rate_limits import BucketRequest, Shortfall
from lorestream.adapters.redis.client import RedisClient, Script

_TAKE = Script("""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local short, longest, paid = 0, 0, {}
for i, key in ipairs(KEYS) do
  local interval, burst, amount = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local full_at = math.max(now, tonumber(redis.call('GET', key) or now))
  local wait = full_at - now - (burst - math.min(amount, burst)) * interval
  if wait >= 1 and wait > longest then
    short, longest = i, wait
  end
  paid[i] = full_at + amount * interval
end
if short == 0 then
  for i, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', paid[i]), 'PX', math.ceil((paid[i] - now) / 1000) + 1)
  end
end
return {short, math.ceil(longest)}
""")
"""Of each key: microseconds a token, tokens that it holds, tokens to draw -> which is short (0: none), and how long."""


class RedisTokenBuckets:
    """`lorestream.access.rate_limits.TokenBuckets` in Redis: a number a bucket, which goes when the bucket is full."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._prefix = f"{redis.prefix}:l:"

    async def consume(self, requests: Sequence[BucketRequest]) -> Shortfall | None:
        """As `TokenBuckets.consume`, in one round trip. Raises Unavailable."""
        keys = [f"{self._prefix}{request.bucket}" for request in requests]
        numbers = [
            number
            for request in requests
            for number in (1e6 / request.per_s, request.capacity, request.tokens)
        ]
        short, wait_us = await self._redis.try_script(_TAKE, keys, *numbers)
        return Shortfall(requests[short - 1], wait_us / 1e6) if short else None
