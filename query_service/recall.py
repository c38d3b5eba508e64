"""Search: embed, find, check again, rank; and the cache of answers in front of it."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from engram.memories import AgentKey, And, Filter, Hit, Memory, PageQuery, Position, Scope, VectorQuery
from engram.ports import Priority
from query_service.questions import get_arguments, get_question
from query_service.ranking import POOL, Ranked, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engram.http.access import Principal
    from engram.identity import Pseudonyms
    from engram.ports import Cache, Clock, Embedder, ErasureLedger, VectorStore, Watermarks
    from engram.telemetry import Metrics
    from query_service.questions import Question

LIFE_S = 60.0
"""How long an answer lives at most; one with recency in it 1 % of the half-life, if that is less."""

_FADING = 0.01
_DEATH = struct.Struct("<d")
_GROWTH = 4

Encode: TypeAlias = "Callable[[Question, Sequence[Ranked]], bytes]"
"""The memories of an answer, as the JSON that callers get."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`memories`: what Encode made of them."""

    memories: bytes
    cache: Literal["hit", "miss", "off"]
    fresh: bool


@dataclass(slots=True)
class Recall:
    """Answers searches. All methods raise Unavailable on an outage, never an empty answer instead."""

    store: VectorStore
    embedder: Embedder
    cache: Cache | None
    watermarks: Watermarks
    ledger: ErasureLedger
    pseudonyms: Pseudonyms
    metrics: Metrics
    clock: Clock
    _flights: dict[tuple[AgentKey, bytes, bytes], asyncio.Task[bytes]] = field(
        default_factory=dict[tuple[AgentKey, bytes, bytes], "asyncio.Task[bytes]"], init=False
    )
    """Searches under way, by agent, key and the generation that they began in."""

    async def search(self, question: Question, encode: Encode, *, api: str) -> Answer:
        """Answer a question, from the cache where it can. `api` is the label of the metrics."""
        started = time.perf_counter()
        fresh = await self._caught_up(question)
        answer = await self._answer(question, encode, fresh=fresh)
        self.metrics.query_duration.labels(api, answer.cache).observe(time.perf_counter() - started)
        return answer

    async def get(
        self, principal: Principal, agent_id: str, query: str, k: int, filters: Mapping[str, object] | None
    ) -> list[Ranked]:
        """The older form of a search for protocols other than HTTP, not cached. Raises InvalidRequest."""
        asked = get_arguments(agent_id, query, k, filters)
        return await self.rank(get_question(asked, principal, self.pseudonyms))

    async def rank(self, question: Question) -> list[Ranked]:
        """The best k of a question, the best first, ties by newer."""
        now = self.clock.now()
        blend = question.blend
        wanted = question.k if blend is None else POOL
        if question.query is None:
            found = await self.newest(question, wanted, now)
            # All that pass match alike: 1, as search engines score a query of conditions alone.
            hits = [Hit(memory, 1.0) for memory in found]
        else:
            hits = await self._nearest(question, question.query, wanted, now)
        if blend is not None:
            ranked = [blend.rank(hit.memory, _cosine(hit), now) for hit in hits]
        else:
            part = () if question.query is None else ("relevance",)
            ranked = [Ranked(hit.memory, _cosine(hit), dict.fromkeys(part, _cosine(hit))) for hit in hits]
        if question.min_score is not None:
            ranked = [one for one in ranked if one.score >= question.min_score]
        return in_order(ranked, question.k)

    def visible(self, memory: Memory, scope: Scope, now: float) -> bool:
        """Whether a reader of `scope` may see a memory, whatever the store and late writers did."""
        return (
            memory.tenant == scope.tenant
            and (scope.agents is None or memory.agent_id in scope.agents)
            and (memory.expires_at is None or memory.expires_at > now)
            and not self.ledger.covers(memory)
        )

    # --- the cache ------------------------------------------------------------------------------------------

    async def _caught_up(self, question: Question) -> bool:
        return question.after is None or await self.watermarks.reached(question.after, question.wait_s)

    async def _answer(self, question: Question, encode: Encode, *, fresh: bool) -> Answer:
        agent = question.agents.single
        if self.cache is None or agent is None:
            return Answer(encode(question, await self.rank(question)), "off", fresh)
        key = question.fingerprint + self.embedder.model_id.encode()
        entry, generation = await self.cache.get(agent, key)
        hit = entry is not None and self._lives(entry)
        self.metrics.cache_requests.labels("hit" if hit else "miss").inc()
        if hit and entry is not None:
            return Answer(entry[_DEATH.size :], "hit", fresh)
        flight = self._flights.get((agent, key, generation))
        if flight is None:
            flight = self._take_off(question, encode, agent, key, generation)
        return Answer(await asyncio.shield(flight), "miss", fresh)

    def _lives(self, entry: bytes) -> bool:
        """By the time of day as well: a cache counts in a clock that may stand still in a sleeping machine."""
        (death,) = _DEATH.unpack_from(entry)
        return 0 < death - self.clock.now() <= LIFE_S

    def _take_off(
        self, question: Question, encode: Encode, agent: AgentKey, key: bytes, generation: bytes
    ) -> asyncio.Task[bytes]:
        """Begin a search that equal questions may join.

        Whoever joins has read the same generation later than the search began: no write of the agent was
        finished in between. The search goes on when the one who began it has gone.
        """
        slot = (agent, key, generation)
        flight = asyncio.create_task(self._fly(question, encode, slot))
        self._flights[slot] = flight

        def landed(task: asyncio.Task[bytes]) -> None:
            del self._flights[slot]
            if not task.cancelled():
                task.exception()  # seen, even when nobody waits for it any more

        flight.add_done_callback(landed)
        return flight

    async def _fly(self, question: Question, encode: Encode, slot: tuple[AgentKey, bytes, bytes]) -> bytes:
        began = self.clock.now()
        ranked = await self.rank(question)
        memories = encode(question, ranked)
        life = LIFE_S
        if question.blend is not None and question.blend.fades:
            life = min(life, _FADING * question.blend.half_life_s)
        ends = [one.memory.expires_at for one in ranked if one.memory.expires_at is not None]
        death = min([began + life, *ends])
        left = death - self.clock.now()
        if left > 0 and self.cache is not None:
            agent, key, generation = slot
            await self.cache.put(agent, key, _DEATH.pack(death) + memories, generation, left)
        return memories

    # --- the store ------------------------------------------------------------------------------------------

    async def _nearest(self, question: Question, query: str, wanted: int, now: float) -> list[Hit]:
        """The most relevant that a reader may see, asking for more until there are enough or no more."""
        embedded = await self.embedder.embed([query], Priority.QUERY)
        vector: list[float] = embedded.vectors[0].tolist()
        scope, sphere = question.agents.scope, question.sphere
        least = question.min_score if question.blend is None else None
        limit = wanted if sphere is None else 2 * wanted  # a sphere fills half of the box around it
        while True:
            hits = await self.store.search(VectorQuery(scope, vector, limit, now, _wide(question), least))
            kept = [
                hit
                for hit in hits
                if self.visible(hit.memory, scope, now) and (sphere is None or sphere.holds(hit.memory))
            ]
            if len(kept) >= wanted or len(hits) < limit:
                return kept[:wanted]
            limit *= _GROWTH

    async def newest(self, question: Question, wanted: int, now: float) -> list[Memory]:
        """The newest that pass the question's filter and place."""
        kept: list[Memory] = []
        sphere = question.sphere
        page = PageQuery(question.agents.scope, wanted, now, _wide(question))
        async for memory in self.walk(page):
            if sphere is None or sphere.holds(memory):
                kept.append(memory)
                if len(kept) == wanted:
                    break
        return kept

    async def walk(self, query: PageQuery) -> AsyncIterator[Memory]:
        """All that a reader may see, in order from `query.after` on; `query.limit` are read at a time."""
        after: Position | None = query.after
        while True:
            page = await self.store.page(
                PageQuery(query.scope, query.limit, query.now, query.filter, query.oldest_first, after)
            )
            for memory in page:
                if self.visible(memory, query.scope, query.now):
                    yield memory
            if len(page) < query.limit:
                return
            after = page[-1].order


def _wide(question: Question) -> Filter:
    """The filter for the store: with a place, the box around it."""
    sphere = question.sphere
    return question.filter if sphere is None else And((sphere.box, question.filter))


def _cosine(hit: Hit) -> float:
    """Between -1 and 1, past any rounding."""
    return max(-1.0, min(1.0, hit.relevance))
