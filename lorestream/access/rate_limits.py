"""How much a caller may ask for: token buckets per API key and per agent.

Each bucket fills up evenly and holds what comes in within `burst_s`: a rate of 50 a second with bursts of 2 s
lets 100 queries through at once and 50 a second from then on. What counts for more than a bucket holds (a batch)
is let through when the bucket is full, and the next ones wait until it is paid: the rate holds, and no size is
shut out for good. The algorithm is the generic cell rate algorithm (ITU-T I.371), which keeps one number a bucket:
when it will be full again.

All buckets of a call are drawn from together or not at all: who is refused has paid nothing.
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
    from lorestream.access.principals import Principal

BURST_S = 2.0
_SWEEP_AT = 1024


@dataclass(frozen=True, slots=True)
class Draw:
    """`amount` tokens from the bucket `name`, which gets `per_s` a second and holds `burst` of them."""

    name: str
    per_s: float
    burst: float
    amount: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """The draw that had to be refused (the one that waits longest), and when there will be enough."""

    draw: Draw
    wait_s: float


class Buckets(Protocol):
    """Buckets somewhere: a new one is full."""

    async def take(self, draws: Sequence[Draw]) -> Refusal | None:
        """Draw all of them, or none: then say which one is short. Each name once. Raises Unavailable."""
        ...


class LocalBuckets:
    """Buckets of this process. One that is full is forgotten."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._full_at: dict[str, float] = {}
        self._sweep_at = _SWEEP_AT

    async def take(self, draws: Sequence[Draw]) -> Refusal | None:
        """As `Buckets.take`; never blocks."""
        now = self._monotonic()
        paid: dict[str, float] = {}
        refusal: Refusal | None = None
        for draw in draws:
            full_at = max(now, self._full_at.get(draw.name, now))
            # It holds `burst` when full, and lacks what comes in until then.
            wait_s = full_at - now - (draw.burst - min(draw.amount, draw.burst)) / draw.per_s
            if wait_s > (0.0 if refusal is None else refusal.wait_s):
                refusal = Refusal(draw, wait_s)
            paid[draw.name] = full_at + draw.amount / draw.per_s
        if refusal is None:
            self._full_at |= paid
            self._sweep(now)
        return refusal

    def _sweep(self, now: float) -> None:
        if len(self._full_at) >= self._sweep_at:
            self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > now}
            self._sweep_at = max(_SWEEP_AT, 2 * len(self._full_at))


class Limits:
    """The rates of a service, 0 = no limit. A burst is `burst_s` seconds' worth, and at least 1.

    Queries and events count per API key (all callers without one share one), queries also per agent of a tenant.
    `shared`: buckets that several services draw from; while they are out of reach, and where there are none, each
    process has its own.
    """

    def __init__(
        self,
        *,
        queries_per_s: float = 0.0,
        agent_queries_per_s: float = 0.0,
        events_per_s: float = 0.0,
        burst_s: float = BURST_S,
        shared: Buckets | None = None,
    ) -> None:
        self._queries_per_s = queries_per_s
        self._agent_queries_per_s = agent_queries_per_s
        self._events_per_s = events_per_s
        self._burst_s = burst_s
        self._shared = shared
        self._own = LocalBuckets()

    async def queries(
        self, principal: Principal, agents: Collection[str] | None = (), count: int | None = None
    ) -> None:
        """Count queries: `count` of them for the key (default 1), and one for each entry of `agents`.

        `agents` are stored forms, None is the whole tenant. Raises RateLimited; then nothing was counted.
        """
        if not (self._queries_per_s or self._agent_queries_per_s):
            return
        draws: list[Draw] = []
        if self._queries_per_s:
            name = _name("query", principal.tenant, principal.key)
            draws.append(self._draw(name, self._queries_per_s, 1 if count is None else count))
        if self._agent_queries_per_s:
            draws += [
                self._draw(_name("agent", principal.tenant, agent), self._agent_queries_per_s, times)
                for agent, times in Counter(agents or ()).items()
            ]
        await self._take(draws, "queries")

    async def events(self, principal: Principal, count: int) -> None:
        """Count events of the key. Raises RateLimited; then nothing was counted."""
        if self._events_per_s:
            name = _name("event", principal.tenant, principal.key)
            await self._take([self._draw(name, self._events_per_s, count)], "events")

    def _draw(self, name: str, per_s: float, amount: int) -> Draw:
        return Draw(name, per_s, max(1.0, per_s * self._burst_s), amount)

    async def _take(self, draws: Sequence[Draw], what: str) -> None:
        draws = [draw for draw in draws if draw.amount]
        if not draws:
            return
        refusal = await self._refusal(draws)
        if refusal is not None:
            whose = "of this agent" if refusal.draw.name.startswith("agent") else "with this key"
            raise RateLimited(
                f"more than {refusal.draw.per_s:g} {what} per second {whose}",
                retry_after_ms=max(1, math.ceil(refusal.wait_s * 1000)),
            )

    async def _refusal(self, draws: Sequence[Draw]) -> Refusal | None:
        if self._shared is not None:
            with contextlib.suppress(Unavailable):
                return await self._shared.take(draws)
        return await self._own.take(draws)


NO_LIMITS = Limits()


def _name(kind: str, *parts: str) -> str:
    """Of one length, however long an agent's id is, and no two run into each other."""
    return f"{kind}:{blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()}"
