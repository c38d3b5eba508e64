"""Rate limits: token buckets per API key and per agent.

A bucket refills at a constant rate and holds at most `burst_s` seconds' worth of tokens: with 50 tokens a second and
bursts of 2 s, 100 queries pass at once, then 50 a second. A request for more tokens than a bucket holds (a batch)
passes when the bucket is full, and later requests wait until its debt is refilled. So the rate holds for every
size of request, and no size is refused for ever.

The algorithm is the generic cell rate algorithm (ITU-T I.371). It stores one number per bucket: the time when the
bucket will be full again. All buckets of a call are charged together, or none of them is.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

import msgspec

from lorestream.errors import RateLimited, Unavailable

if TYPE_CHECKING:
    from lorestream.access.authentication import Principal

BURST_S = 2.0
_SWEEP_THRESHOLD = 1024
"""Number of buckets in memory from which full ones are removed."""


@dataclass(frozen=True, slots=True)
class BucketRequest:
    """A request for `tokens` tokens of one bucket, which gets `per_s` tokens a second and holds `capacity`."""

    bucket: str
    per_s: float
    capacity: float
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The request with the longest wait among those that lack tokens; it can be granted in `wait_s` seconds."""

    request: BucketRequest
    wait_s: float


class TokenBuckets(Protocol):
    """Stores token buckets. A bucket that was never used is full."""

    async def consume(self, requests: Sequence[BucketRequest]) -> Shortfall | None:
        """Take the tokens of all requests (one per bucket) and return None, or take none. Raises Unavailable."""
        ...


class LocalTokenBuckets:
    """Token buckets in the memory of this process. Full buckets are removed."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._full_at: dict[str, float] = {}
        self._sweep_threshold = _SWEEP_THRESHOLD

    async def consume(self, requests: Sequence[BucketRequest]) -> Shortfall | None:
        """As `TokenBuckets.consume`; never blocks."""
        now = self._monotonic()
        charged: dict[str, float] = {}
        shortfall: Shortfall | None = None
        for request in requests:
            full_at = max(now, self._full_at.get(request.bucket, now))
            # A full bucket holds `capacity` tokens; it lacks those that come in between now and full_at.
            wait_s = (
                full_at - now - (request.capacity - min(request.tokens, request.capacity)) / request.per_s
            )
            if wait_s > (0.0 if shortfall is None else shortfall.wait_s):
                shortfall = Shortfall(request, wait_s)
            charged[request.bucket] = full_at + request.tokens / request.per_s
        if shortfall is None:
            self._full_at |= charged
            self._remove_full(now)
        return shortfall

    def _remove_full(self, now: float) -> None:
        if len(self._full_at) >= self._sweep_threshold:
            self._full_at = {bucket: full_at for bucket, full_at in self._full_at.items() if full_at > now}
            self._sweep_threshold = max(_SWEEP_THRESHOLD, 2 * len(self._full_at))


class RateLimits:
    """The rate limits of a service; 0 = no limit. A bucket holds `burst_s` seconds' worth of tokens, at least 1.

    Queries and events count per API key (all callers without a key share one bucket), queries also per agent of a
    tenant. `shared`: buckets that several services use together. While they are unavailable, and where there are
    none, each process counts in its own memory.
    """

    def __init__(
        self,
        *,
        queries_per_s: float = 0.0,
        agent_queries_per_s: float = 0.0,
        events_per_s: float = 0.0,
        burst_s: float = BURST_S,
        shared: TokenBuckets | None = None,
    ) -> None:
        self._queries_per_s = queries_per_s
        self._agent_queries_per_s = agent_queries_per_s
        self._events_per_s = events_per_s
        self._burst_s = burst_s
        self._shared = shared
        self._local = LocalTokenBuckets()

    async def count_queries(
        self, principal: Principal, agents: Collection[str] | None = (), count: int | None = None
    ) -> None:
        """Count `count` queries for the key (default 1), and one query for each entry of `agents`.

        `agents` are stored agent ids; None is the whole tenant. Raises RateLimited; then nothing was counted.
        """
        if not (self._queries_per_s or self._agent_queries_per_s):
            return
        requests: list[BucketRequest] = []
        if self._queries_per_s:
            bucket = _bucket("query", principal.tenant, principal.key)
            requests.append(self._request(bucket, self._queries_per_s, 1 if count is None else count))
        if self._agent_queries_per_s:
            requests += [
                self._request(_bucket("agent", principal.tenant, agent), self._agent_queries_per_s, times)
                for agent, times in Counter(agents or ()).items()
            ]
        await self._charge(requests, "queries")

    async def count_events(self, principal: Principal, count: int) -> None:
        """Count `count` events for the key. Raises RateLimited; then nothing was counted."""
        if self._events_per_s:
            bucket = _bucket("event", principal.tenant, principal.key)
            await self._charge([self._request(bucket, self._events_per_s, count)], "events")

    def _request(self, bucket: str, per_s: float, tokens: int) -> BucketRequest:
        return BucketRequest(bucket, per_s, max(1.0, per_s * self._burst_s), tokens)

    async def _charge(self, requests: Sequence[BucketRequest], unit: str) -> None:
        requests = [request for request in requests if request.tokens]
        if not requests:
            return
        shortfall = await self._consume(requests)
        if shortfall is not None:
            subject = "of this agent" if shortfall.request.bucket.startswith("agent") else "with this key"
            raise RateLimited(
                f"more than {shortfall.request.per_s:g} {unit} per second {subject}",
                retry_after_ms=max(1, math.ceil(shortfall.wait_s * 1000)),
            )

    async def _consume(self, requests: Sequence[BucketRequest]) -> Shortfall | None:
        if self._shared is not None:
            with contextlib.suppress(Unavailable):
                return await self._shared.consume(requests)
        return await self._local.consume(requests)


NO_RATE_LIMITS = RateLimits()


def _bucket(kind: str, *parts: str) -> str:
    """The name of a bucket, of constant length; different parts never give the same name."""
    return f"{kind}:{blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()}"
