"""The answer cache with single flight: concurrent equal queries share one computation.

An answer is looked up in the cache first. On a miss, the first caller starts a task that computes the answer, and
every caller with the same slot that comes while the task runs awaits the same task (single flight). The result is
stored in the cache by another task, so that no caller waits for the write.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from lorestream import supervision

if TYPE_CHECKING:
    from lorestream.memories import AgentKey
    from lorestream.ports import Cache, Clock
    from lorestream.telemetry import Metrics

MAX_TTL_S = 60.0
"""The longest time for which an answer is served from the cache."""

_EXPIRY = struct.Struct("<d")
"""The prefix of a cache entry: the Unix time at which it expires."""

_GENERATION_ONLY = b""
"""A key without answers: only the generation is read."""

CacheState: TypeAlias = Literal["hit", "miss", "off"]


@dataclass(frozen=True, slots=True)
class ComputedAnswer:
    """An encoded answer; the cache does not serve it from `expires_at` (Unix seconds) on."""

    encoded: bytes
    expires_at: float


Compute: TypeAlias = "Callable[[], Awaitable[ComputedAnswer]]"


@dataclass(frozen=True, slots=True)
class CacheSlot:
    """Where an answer is stored: the agent, the key, and the agent's generation at the look-up.

    `key`: that of the query, followed by the generations of the agent's other stored forms. So an invalidation of any
    form makes the answer unreachable.
    """

    agent: AgentKey
    key: bytes
    generation: bytes


@dataclass(frozen=True, slots=True)
class Lookup:
    """The result of a look-up. `encoded`: the cached answer, None on a miss.

    `slot`: where a computed answer is to be stored; None if it cannot be cached.
    """

    slot: CacheSlot | None
    encoded: bytes | None = None


@dataclass(slots=True, eq=False)
class _Computation:
    """A computation in flight. `callers`: how many wait for it."""

    task: asyncio.Task[bytes]
    callers: int = 0


class AnswerCache:
    """A cache of answers (None: no cache), and the computations in flight."""

    def __init__(self, cache: Cache | None, clock: Clock, metrics: Metrics) -> None:
        self._cache = cache
        self._clock = clock
        # Finding a counter by its label takes longer than incrementing it.
        self._hits, self._misses = (metrics.cache_requests.labels(result) for result in ("hit", "miss"))
        self._in_flight: dict[CacheSlot, _Computation] = {}

    @property
    def in_flight(self) -> int:
        """The number of computations that other callers can join."""
        return len(self._in_flight)

    async def look_up(self, agent: Sequence[AgentKey], key: bytes) -> Lookup:
        """Look up the answer to the query `key` of one agent, given by its stored forms.

        Queries over several agents (an empty sequence) are not cached.
        """
        if self._cache is None or not agent:
            return Lookup(None)
        first, *others = agent
        for other in others:
            key += (await self._cache.get(other, _GENERATION_ONLY))[1]
        entry, generation = await self._cache.get(first, key)
        if entry is not None and self._is_alive(entry):
            self._hits.inc()
            return Lookup(None, entry[_EXPIRY.size :])
        self._misses.inc()
        return Lookup(CacheSlot(first, key, generation))

    async def get_or_compute(self, lookup: Lookup, compute: Compute) -> tuple[bytes, CacheState]:
        """The cached answer, or the result of `compute`, called once for all concurrent callers of a slot.

        Raises what `compute` raises, to every caller that waits for it. Cancelling one caller does not affect the
        others; when all callers were cancelled, the computation is cancelled too.
        """
        if lookup.encoded is not None:
            return lookup.encoded, "hit"
        if lookup.slot is None:
            return (await compute()).encoded, "off"
        computation = self._in_flight.get(lookup.slot) or self._start(lookup.slot, compute)
        computation.callers += 1
        try:
            return await asyncio.shield(computation.task), "miss"
        finally:
            computation.callers -= 1
            if not computation.callers:
                self._forget(lookup.slot, computation)
                computation.task.cancel()

    def _is_alive(self, entry: bytes) -> bool:
        """Check the expiry by wall-clock time: the cache's own clock may stop while a machine sleeps."""
        (expires_at,) = _EXPIRY.unpack_from(entry)
        return 0 < expires_at - self._clock.now() <= MAX_TTL_S

    def _start(self, slot: CacheSlot, compute: Compute) -> _Computation:
        """Start the computation for a slot, which callers with the same slot join.

        They have read the same generation, so no write of the agent was completed between their look-up and the
        start of the computation.
        """
        computation = _Computation(supervision.start_shared(self._compute(slot, compute), "answer"))
        self._in_flight[slot] = computation
        computation.task.add_done_callback(lambda _: self._forget(slot, computation))
        return computation

    def _forget(self, slot: CacheSlot, computation: _Computation) -> None:
        """Let no further caller join a computation. Another one of the same slot may have begun."""
        if self._in_flight.get(slot) is computation:
            del self._in_flight[slot]

    async def _compute(self, slot: CacheSlot, compute: Compute) -> bytes:
        answer = await compute()
        supervision.start_detached(self._store(slot, answer), "store of an answer")
        return answer.encoded

    async def _store(self, slot: CacheSlot, answer: ComputedAnswer) -> None:
        ttl_s = answer.expires_at - self._clock.now()
        if ttl_s > 0 and self._cache is not None:
            entry = _EXPIRY.pack(answer.expires_at) + answer.encoded
            await self._cache.put(slot.agent, slot.key, entry, slot.generation, ttl_s)
