"""Answers that are kept, and made once where equal questions come at the same time."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from lorestream.memories import AgentKey
    from lorestream.ports import Cache, Clock
    from lorestream.telemetry import Metrics

LIFE_S = 60.0
"""How long an answer lives at most."""

_DEATH = struct.Struct("<d")

CacheState: TypeAlias = Literal["hit", "miss", "off"]


@dataclass(frozen=True, slots=True)
class Made:
    """An answer as callers get it, in JSON, and its end in Unix seconds: nobody else gets it from then on."""

    encoded: bytes
    death: float


Make: TypeAlias = "Callable[[], Awaitable[Made]]"


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an answer belongs: the agent, the question, and the agent's generation when it was asked."""

    agent: AgentKey
    key: bytes
    generation: bytes


@dataclass(slots=True)
class LookedUp:
    """`encoded`: the answer that was kept. `slot`: where one that has to be made will be, None for nowhere."""

    slot: Slot | None
    encoded: bytes | None = None


class Answers:
    """A cache of answers, None where none is wanted, and the searches under way."""

    def __init__(self, cache: Cache | None, clock: Clock, metrics: Metrics) -> None:
        self._cache = cache
        self._clock = clock
        # To look a counter up by its label costs more than to count.
        self._hit, self._miss = (metrics.cache_requests.labels(result) for result in ("hit", "miss"))
        self._flights: dict[Slot, asyncio.Task[bytes]] = {}
        self._keeping: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> int:
        """How many searches that others may join are under way."""
        return len(self._flights)

    async def look_up(self, agent: AgentKey | None, key: bytes) -> LookedUp:
        """The answer to the question `key` of one agent; what asks for several agents is never kept."""
        if self._cache is None or agent is None:
            return LookedUp(None)
        entry, generation = await self._cache.get(agent, key)
        if entry is not None and self._lives(entry):
            self._hit.inc()
            return LookedUp(None, entry[_DEATH.size :])
        self._miss.inc()
        return LookedUp(Slot(agent, key, generation))

    async def answer(self, found: LookedUp, make: Make) -> tuple[bytes, CacheState]:
        """What was found, or else what `make` makes; whoever asks the same meanwhile gets that as well."""
        if found.encoded is not None:
            return found.encoded, "hit"
        if found.slot is None:
            return (await make()).encoded, "off"
        flight = self._flights.get(found.slot) or self._take_off(found.slot, make)
        return await asyncio.shield(flight), "miss"

    def _lives(self, entry: bytes) -> bool:
        """By the time of day as well: a cache counts in a clock that may stand still in a sleeping machine."""
        (death,) = _DEATH.unpack_from(entry)
        return 0 < death - self._clock.now() <= LIFE_S

    def _take_off(self, slot: Slot, make: Make) -> asyncio.Task[bytes]:
        """Begin a search that equal questions may join.

        Whoever joins has read the same generation: between that and the beginning of the search no write of the
        agent was finished. The search goes on when the one who began it has gone.
        """
        flight = asyncio.create_task(self._fly(slot, make))
        self._flights[slot] = flight

        def landed(task: asyncio.Task[bytes]) -> None:
            del self._flights[slot]
            if not task.cancelled():
                task.exception()  # seen, even when nobody waits for it any more

        flight.add_done_callback(landed)
        return flight

    async def _fly(self, slot: Slot, make: Make) -> bytes:
        made = await make()
        # Nobody waits until it is kept.
        keeping = asyncio.create_task(self._keep(slot, made))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        return made.encoded

    async def _keep(self, slot: Slot, made: Made) -> None:
        left = made.death - self._clock.now()
        if left > 0 and self._cache is not None:
            entry = _DEATH.pack(made.death) + made.encoded
            await self._cache.put(slot.agent, slot.key, entry, slot.generation, left)
