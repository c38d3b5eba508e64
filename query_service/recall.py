"""Recall: answers searches, contexts and other reads from the cache, or by retrieval.

One read passes, in this order: wait for the write token, look up the cache, join or start the computation
(`answer_cache`), admission (at most MAX_CONCURRENT_SEARCHES), retrieval (`retrieval`), encoding, store in the cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from lorestream import supervision
from lorestream.errors import InvalidRequest, Overloaded
from lorestream.http.request import HttpError
from lorestream.ports import MemoryReader, RowReader
from lorestream.settings.backends import SearchSettings
from query_service.accesses import Accesses
from query_service.answer_cache import (
    MAX_TTL_S,
    AnswerCache,
    CacheState,
    ComputedAnswer,
    Lookup,
)
from query_service.budget import Capacity, RequestBudget
from query_service.context import ContextExcerpt, build_excerpt
from query_service.neighbours import SEEDS, SPAN
from query_service.ranking import Ranked
from query_service.records import with_records
from query_service.rerank import Reranking
from query_service.retrieval import ReadGuard, Retriever, Vector, embed_queries
from query_service.state.character import TYPE as CHARACTER
from query_service.state.character import character_lines
from query_service.state.documents import known_version
from query_service.state.rows import VisibleRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import Histogram

    from lorestream.identity import Pseudonyms
    from lorestream.memories import AgentKey, Filter, Memory, Scope
    from lorestream.ports import Cache, Clock, Embedder, ErasureLedger, WatermarkReader
    from lorestream.state.documents import Document
    from lorestream.telemetry import Metrics
    from lorestream.wiring import QueryParts
    from query_service.queries import ContextQuery, SearchQuery

MAX_CONCURRENT_SEARCHES = 512
"""Searches that one process computes at a time. Further ones are rejected at once: they would time out anyway."""
MAX_READS_OF_A_BATCH = 4
"""Reads of one batch that are computed at a time, so that a batch does not keep others waiting."""
_RECENCY_TTL_FRACTION = 0.01
"""An answer whose scores depend on recency is cached for at most 1 % of the half-life."""

EncodeHits: TypeAlias = "Callable[[SearchQuery, Sequence[Ranked]], bytes]"
EncodeContext: TypeAlias = "Callable[[ContextQuery, ContextExcerpt, Document | None], bytes]"
"""Encoders return the bytes that are sent to callers and stored in the cache: JSON, or a message of gRPC."""

ComputeRead: TypeAlias = "Callable[[Vector | None], Awaitable[ComputedAnswer]]"

Refusal: TypeAlias = "InvalidRequest | HttpError | Overloaded"
"""Why one read of a batch is not answered although others may be."""


@dataclass(frozen=True, slots=True)
class Read:
    """A read that may be answered from the cache, alone or in a batch."""

    api: str
    """The label of the duration metric."""
    agents: Sequence[AgentKey]
    """The stored forms of its one agent; none: it is not cached."""
    key: bytes
    """Equal for reads of the agent that have the same answer at the same time."""
    scope: Scope
    filter: Filter
    """With `scope`: what the read costs."""
    compute: ComputeRead
    """Computes the answer. The argument: the vector of `text`, None if it is still to be computed."""
    text: str | None = None
    """The text that needs a vector, if there is one."""
    after: Mapping[int, int] | None = None
    """The write to wait for: partition -> offset."""
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a read. `encoded`: what the encoder returned.

    `fresh`: the write token of the query was reached, so the answer contains that write.
    """

    encoded: bytes
    cache: CacheState
    fresh: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """A read after its cache look-up. `started`: `time.perf_counter()` when it arrived."""

    started: float
    fresh: bool
    lookup: Lookup


class Reader(MemoryReader, RowReader, Protocol):
    """What reads need of a store."""


@dataclass(slots=True)
class Recall:
    """Answers searches and contexts over one collection.

    All methods raise Unavailable on an outage (never an empty answer instead), and Overloaded when
    MAX_CONCURRENT_SEARCHES are in flight or the embedder is too slow.
    """

    store: Reader
    embedder: Embedder
    cache: Cache | None
    watermarks: WatermarkReader
    ledger: ErasureLedger
    pseudonyms: Pseudonyms
    metrics: Metrics
    clock: Clock
    collection: str = ""
    """Identifies the content of the store; part of every cache key."""
    settings: SearchSettings = field(default_factory=SearchSettings)
    accesses: Accesses | None = None
    """None: no accesses are kept, and recency is always that of the memory's time."""
    reranking: Reranking = field(default_factory=Reranking)
    answers: AnswerCache = field(init=False, repr=False)
    _active_searches: int = field(default=0, init=False, repr=False)
    _capacity: Capacity = field(default_factory=Capacity, init=False, repr=False)
    _durations: dict[tuple[str, str], Histogram] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_parts(cls, parts: QueryParts, accesses: Accesses) -> Self:
        """The Recall over the active collection of a process."""
        current = parts.collections.current
        return cls(
            store=current.store,
            embedder=current.embedder,
            cache=parts.cache,
            watermarks=current.watermarks,
            ledger=parts.ledger,
            pseudonyms=parts.pseudonyms,
            metrics=parts.metrics,
            clock=parts.clock,
            collection=f"{current.name} {current.collection.run}",
            settings=parts.settings.search,
            accesses=accesses,
            reranking=Reranking.from_parts(parts),
        )

    def __post_init__(self) -> None:
        self.answers = AnswerCache(self.cache, self.clock, self.metrics)

    # --- searches ------------------------------------------------------------------------------------------

    async def search(self, query: SearchQuery, encode: EncodeHits, *, api: str) -> Answer:
        """Answer a search. `api`: the label of the duration metric."""
        return await self.answer(self.search_read(query, encode, api=api))

    def search_read(self, query: SearchQuery, encode: EncodeHits, *, api: str) -> Read:
        """A search as a read."""
        compute = partial(self._compute_search, query, encode)
        return self._read(api, query, query.scope, compute, needs_vector=query.mode != "keyword")

    async def ranked(self, query: SearchQuery) -> list[Ranked]:
        """The memories of a search with their scores, neither from the cache nor counted as accesses."""
        async with self.working(query.scope, query.filter):
            return await self._retriever(query, then(query.as_of, self.clock.now())).top_k()

    def context_read(self, query: ContextQuery, encode: EncodeContext) -> Read:
        """A context as a read: the most relevant and the newest memories that fit in a token budget, each once."""
        search = query.search
        scope = with_records(search.agents.scope, search.filter)
        compute = partial(self._compute_context, query, encode)
        return self._read("context", search, scope, compute, needs_vector=search.k > 0)

    async def answer(self, read: Read) -> Answer:
        """Answer a read from the cache, or compute its answer."""
        started = time.perf_counter()
        fresh = await self.reached(read.after, read.wait_s)
        return await self._finish(read, await self._look_up(read, started, fresh=fresh))

    async def answer_all(self, reads: Sequence[Read]) -> list[Answer | Refusal]:
        """Answer or refuse each read as `answer` does; the texts that need a vector are embedded in one call."""
        started = time.perf_counter()
        # All writes first: what is found in the cache would be old when another read had waited for its write.
        fresh = await supervision.run_all(*(self.reached(read.after, read.wait_s) for read in reads))
        pending = await supervision.run_all(
            *(self._look_up(read, started, fresh=one) for read, one in zip(reads, fresh, strict=True))
        )
        budget = RequestBudget()
        vectors = await self._embed_all(
            read.text for read, one in zip(reads, pending, strict=True) if one.lookup.encoded is None
        )
        slots = asyncio.Semaphore(MAX_READS_OF_A_BATCH)

        async def answer(read: Read, one: Pending) -> Answer | Refusal:
            async with slots:
                return await self._finish_or_reject(read, one, vectors, budget)

        answers = await supervision.run_all(*map(answer, reads, pending))
        refusals = [one for one in answers if isinstance(one, Overloaded)]
        if refusals and len(refusals) == len(answers):
            raise refusals[0]  # nothing was answered: the request is refused, with its status and Retry-After
        return answers

    @contextlib.asynccontextmanager
    async def working(self, scope: Scope, filter_: Filter) -> AsyncGenerator[int]:
        """Do the work of one read in this block; yields its cost in checks (see `budget`).

        Raises OverBudget or Overloaded before the block where it costs too much, and Overloaded when the block is not
        done at the deadline of the read.
        """
        budget = RequestBudget()
        with self._admitted():
            async with budget.deadline():
                checks = await self.store.cost(scope, filter_)
                budget.spend(checks)
                with self._capacity.hold(checks):
                    yield checks

    @property
    def rows(self) -> VisibleRows:
        """The documents, Q-tables and policies of the collection."""
        return VisibleRows(self.store, self.ledger)

    def guard(self, scope: Scope, now: float) -> ReadGuard:
        """The check that every memory passes before it is returned."""
        return ReadGuard(scope, now, self.ledger)

    def _retriever(self, query: SearchQuery, now: float) -> Retriever:
        strength = query.neighbours
        if strength is None:  # scores of the other modes are the cosine and BM25
            strength = self.settings.neighbours if query.mode == "hybrid" else 0.0
        return Retriever(
            self.store.for_request(SEEDS if strength else 0, SPAN),
            self.embedder,
            query,
            self.guard(query.agents.scope, now),
            strength,
            self.settings.neighbour_gap_s,
            self.accesses if query.as_of is None else None,
            self.reranking.second_look() if query.rerank else None,
            stages=self.metrics.query_stages,
        )

    # --- one read: look up, then join or start the computation -----------------------------------------------

    async def reached(self, after: Mapping[int, int] | None, wait_s: float) -> bool:
        """Wait for a write, at most `wait_s`. Returns whether it is finished; True without one."""
        if after is None:
            return True
        with self.metrics.query_stages("wait"):
            return await self.watermarks.reached(after, wait_s)

    def observe(self, api: str, cache: CacheState, started: float) -> None:
        """Observe the duration of a read. `started`: `time.perf_counter()` when it arrived."""
        duration = self._durations.get((api, cache))
        if duration is None:
            duration = self._durations[api, cache] = self.metrics.query_duration.labels(api, cache)
        duration.observe(time.perf_counter() - started)

    def _read(
        self, api: str, query: SearchQuery, scope: Scope, compute: ComputeRead, *, needs_vector: bool
    ) -> Read:
        key = query.fingerprint + f" {self.embedder.model_id} ".encode()
        if query.rerank:
            key += self.reranking.identity
        return Read(
            api=api,
            agents=query.agents.single,
            key=key,
            scope=scope,
            filter=query.filter,
            compute=compute,
            text=query.text if needs_vector else None,
            after=query.after,
            wait_s=query.wait_s,
        )

    async def _look_up(self, read: Read, started: float, *, fresh: bool) -> Pending:
        with self.metrics.query_stages("cache"):
            lookup = await self.answers.look_up(read.agents, read.key + self.collection.encode())
        return Pending(started, fresh, lookup)

    async def _finish(self, read: Read, pending: Pending, vector: Vector | None = None) -> Answer:
        """The cached answer, or the computed one."""
        encoded, cache = await self.answers.get_or_compute(pending.lookup, partial(read.compute, vector))
        self.observe(read.api, cache, pending.started)
        return Answer(encoded, cache, pending.fresh)

    async def _finish_or_reject(
        self, read: Read, pending: Pending, vectors: Mapping[str, Vector | Overloaded], budget: RequestBudget
    ) -> Answer | Refusal:
        if pending.lookup.encoded is not None:
            return await self._finish(read, pending)
        vector = None if read.text is None else vectors.get(read.text)
        if isinstance(vector, Overloaded):
            return vector
        try:
            # The batch's budget limits only its own reads: other requests may join the computation.
            async with budget.deadline():
                budget.spend(await self.store.cost(read.scope, read.filter))
                return await self._finish(read, pending, vector)
        except (InvalidRequest, HttpError, Overloaded) as error:
            return error

    async def _embed_all(self, texts: Iterable[str | None]) -> Mapping[str, Vector | Overloaded]:
        """The vector of each text, or why there is none now."""
        wanted = [text for text in texts if text is not None]
        if not wanted:
            return {}
        try:
            with self._admitted(), self.metrics.query_stages("embed"):
                return await embed_queries(self.embedder, wanted)
        except Overloaded as error:
            return dict.fromkeys(wanted, error)
        except InvalidRequest:
            # A remote endpoint rejects one of the texts: each search embeds its own, and only that one is rejected.
            return {}

    # --- computing an answer -------------------------------------------------------------------------------

    async def _compute_search(
        self, query: SearchQuery, encode: EncodeHits, vector: Vector | None = None
    ) -> ComputedAnswer:
        now = self.clock.now()
        retriever = self._retriever(query, then(query.as_of, now))
        async with self.working(query.scope, query.filter):
            ranked = await retriever.top_k(vector)
        memories = [one.memory for one in ranked]
        if self.accesses is not None and query.as_of is None:
            self.accesses.note(memories, now)
        with self.metrics.query_stages("encode"):
            encoded = encode(query, ranked)
        computed = _computed(query, now, encoded, memories)
        if retriever.second_look is not None and retriever.second_look.missed:
            computed = replace(computed, expires_at=now)  # not cached: the next search tries again
        return computed

    async def _compute_context(
        self, query: ContextQuery, encode: EncodeContext, vector: Vector | None = None
    ) -> ComputedAnswer:
        search, now = query.search, self.clock.now()
        with_relevant = search.text is not None and search.k > 0
        async with self.working(with_records(search.agents.scope, search.filter), search.filter):
            retriever = self._retriever(search, then(search.as_of, now))
            newest = retriever.newest(query.recent) if query.recent else _empty()
            current = known_version(self.rows, query.owner.key, CHARACTER, search.as_of)
            async with (
                supervision.alongside(newest, "newest memories") as reading,
                supervision.alongside(current, "character") as reading_character,
            ):
                relevant = await retriever.top_k(vector) if with_relevant else []
                beside = await retriever.beside(relevant) if query.with_neighbours else []
                recent, state = await reading, await reading_character
            with self.metrics.query_stages("excerpt"):
                excerpt = await asyncio.to_thread(
                    build_excerpt,
                    relevant,
                    recent,
                    beside,
                    about=character_lines(state.data) if state is not None and query.with_state else (),
                    budget=query.token_budget,
                    count_tokens=self.embedder.count_tokens,
                    is_player=self._is_player,
                )
        shown = [*(one.memory for one in excerpt.relevant), *excerpt.recent, *excerpt.neighbours]
        if self.accesses is not None and search.as_of is None:
            self.accesses.note(shown, now)
        with self.metrics.query_stages("encode"):
            encoded = encode(query, excerpt, state)
        return _computed(search, now, encoded, shown)

    def _is_player(self, name: str, memory: Memory) -> bool:
        """Whether it is the plain name of the memory's player, or of the player that its agent is named after."""
        return bool({memory.player, memory.agent_player} & {*self.pseudonyms.players(memory.tenant, name)})

    @contextlib.contextmanager
    def _admitted(self) -> Generator[None]:
        """Count one search in flight. Raises Overloaded if there are MAX_CONCURRENT_SEARCHES already."""
        if self._active_searches >= MAX_CONCURRENT_SEARCHES:
            raise Overloaded(f"{self._active_searches} searches are in flight: try again")
        self._active_searches += 1
        try:
            yield
        finally:
            self._active_searches -= 1


def then(as_of: float | None, now: float) -> float:
    """The time that a read looks from: `as_of`, but none in the future; without one the present."""
    return now if as_of is None else min(as_of, now)


class CurrentRecall:
    """Returns the Recall over the active collection. A request keeps the one that it got until its end."""

    def __init__(self, parts: QueryParts) -> None:
        self._parts = parts
        self._current = parts.collections.current
        self._accesses = Accesses(parts.accesses, parts.ledger)
        self._recall = Recall.from_parts(parts, self._accesses)

    def __call__(self) -> Recall:
        """The Recall over the collection that is active now."""
        if self._parts.collections.current is not self._current:
            self._current = self._parts.collections.current
            self._recall = Recall.from_parts(self._parts, self._accesses)
        return self._recall


def _computed(query: SearchQuery, now: float, encoded: bytes, memories: Sequence[Memory]) -> ComputedAnswer:
    """The answer expires with the first of its memories, and sooner if its scores change with time."""
    ttl_s = MAX_TTL_S
    if query.blend is not None and query.blend.depends_on_time:
        ttl_s = min(ttl_s, _RECENCY_TTL_FRACTION * query.blend.half_life_s)
    expiries = [memory.expires_at for memory in memories if memory.expires_at is not None]
    return ComputedAnswer(encoded, min([now + ttl_s, *expiries]))


async def _empty() -> list[Any]:
    return []
