"""Search: embed, find, check again, rank."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from lorestream.errors import InvalidRequest, Overloaded
from lorestream.memories import Hit, Memory, PageQuery, Position, Scope
from query_service.answer_cache import LIFE_S, Answers, CacheState, LookedUp, Made, Make
from query_service.context import Excerpt, excerpt
from query_service.queries import get_arguments, get_question
from query_service.query_embedding import Vector, vectors_of
from query_service.ranking import POOL, Ranked, blended, in_order
from query_service.retrieval import Relevant, wide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import Histogram

    from lorestream.access.authentication import Principal
    from lorestream.identity import Pseudonyms
    from lorestream.ports import Cache, Clock, Embedder, ErasureLedger, VectorStore, WatermarkReader
    from lorestream.telemetry import Metrics
    from lorestream.wiring import QueryParts
    from query_service.queries import ContextQuestion, Question

MAX_SEARCHES = 512
"""Searches under way in one process. What is beyond that is refused at once: it would be answered too late."""
_FADING = 0.01
"""An answer with recency in it lives 1 % of the half-life."""

Encode: TypeAlias = "Callable[[Question, Sequence[Ranked]], bytes]"
"""The memories of an answer, as the JSON that callers get."""


@dataclass(slots=True)
class Answer:
    """`encoded`: what callers get, as JSON."""

    encoded: bytes
    cache: CacheState
    fresh: bool


@dataclass(slots=True)
class _Asked:
    """A question whose answer was looked for. `started`: by the performance counter."""

    question: Question
    started: float
    fresh: bool
    found: LookedUp


@dataclass(slots=True)
class Recall:
    """Answers questions. All methods raise Unavailable on an outage, never an empty answer instead.

    All that search raise Overloaded where too much is under way already.
    """

    store: VectorStore
    embedder: Embedder
    cache: Cache | None
    watermarks: WatermarkReader
    ledger: ErasureLedger
    pseudonyms: Pseudonyms
    metrics: Metrics
    clock: Clock
    collection: str = ""
    """What the store holds, as a name: an answer belongs to it."""
    answers: Answers = field(init=False, repr=False)
    _searches: int = field(default=0, init=False, repr=False)
    _durations: dict[tuple[str, str], Histogram] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def over(cls, parts: QueryParts) -> Self:
        """On the parts of a process, and the collection that is searched at the moment."""
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
        )

    def __post_init__(self) -> None:
        self.answers = Answers(self.cache, self.clock, self.metrics)

    async def search(self, question: Question, encode: Encode, *, api: str) -> Answer:
        """Answer a question, from the cache where it can. `api` is the label of the metrics."""
        return await self._answer(await self._ask(question), partial(self._search, question, encode), api)

    async def search_all(
        self, questions: Sequence[Question], encode: Encode, *, api: str
    ) -> list[Answer | InvalidRequest]:
        """Answer each as `search` does, or refuse it; the queries that need a vector are embedded together."""
        asked = await asyncio.gather(*(self._ask(question) for question in questions))
        vectors = await self._vectors(
            one.question.query
            for one in asked
            if one.found.encoded is None and one.question.mode != "keyword"
        )
        answers = (self._answer_or_refuse(one, encode, vectors, api) for one in asked)
        return await asyncio.gather(*answers)

    async def context(
        self, asked: ContextQuestion, encode: Callable[[ContextQuestion, Excerpt], bytes]
    ) -> Answer:
        """The most relevant and the newest memories that fit in a budget of tokens, each once."""
        return await self._answer(
            await self._ask(asked.question), partial(self._context, asked, encode), "context"
        )

    async def get(
        self, principal: Principal, agent_id: str, query: str, k: int, filters: Mapping[str, object] | None
    ) -> list[Ranked]:
        """The older form of a search for protocols other than HTTP, not cached. Raises InvalidRequest."""
        asked = get_arguments(agent_id, query, k, filters)
        return await self.rank(get_question(asked, principal, self.pseudonyms))

    async def rank(self, question: Question, vector: Vector | None = None) -> list[Ranked]:
        """The best k of a question, the best first, ties by newer. `vector`: of its query, where it is known."""
        with self._place():
            return await self._rank(question, vector)

    async def _rank(self, question: Question, vector: Vector | None) -> list[Ranked]:
        now = self.clock.now()
        if question.query is None:
            ranked = await self._unasked(question, now)
        else:
            ranked = await self._relevant(question, question.query, vector, now)
        if question.min_score is not None:
            ranked = [one for one in ranked if one.score >= question.min_score]
        return in_order(ranked, question.k)

    async def _unasked(self, question: Question, now: float) -> list[Ranked]:
        """The newest; all that pass match alike: 1, as search engines score a query of conditions alone."""
        blend = question.blend
        found = await self.newest(question, question.k if blend is None else POOL, now)
        if blend is None:
            return [Ranked(memory, 1.0, {}) for memory in found]
        return [blended(blend, Hit(memory, 1.0), now) for memory in found]

    async def _relevant(
        self, question: Question, query: str, vector: Vector | None, now: float
    ) -> list[Ranked]:
        visible = partial(self.visible, scope=question.agents.scope, now=now)
        relevant = Relevant(self.store, question, now, visible)
        if question.mode == "keyword":
            return await relevant.by_words()
        if vector is None:
            vector = (await vectors_of(self.embedder, [query]))[query]
        near: list[float] = vector.tolist()
        return await (relevant.by_both(near) if question.mode == "hybrid" else relevant.by_meaning(near))

    def visible(self, memory: Memory, scope: Scope, now: float) -> bool:
        """Whether a reader of `scope` may see a memory, whatever the store and late writers did."""
        return (
            memory.tenant == scope.tenant
            and (scope.agents is None or memory.agent_id in scope.agents)
            and (memory.expires_at is None or memory.expires_at > now)
            and not self.ledger.covers(memory)
        )

    # --- answers --------------------------------------------------------------------------------------------

    async def _ask(self, question: Question) -> _Asked:
        started = time.perf_counter()
        fresh = question.after is None or await self.watermarks.reached(question.after, question.wait_s)
        key = question.fingerprint + f"{self.collection} {self.embedder.model_id}".encode()
        return _Asked(question, started, fresh, await self.answers.look_up(question.agents.single, key))

    async def _answer(self, asked: _Asked, make: Make, api: str) -> Answer:
        encoded, cache = await self.answers.answer(asked.found, make)
        duration = self._durations.get((api, cache))
        if duration is None:
            duration = self._durations[api, cache] = self.metrics.query_duration.labels(api, cache)
        duration.observe(time.perf_counter() - asked.started)
        return Answer(encoded, cache, asked.fresh)

    async def _answer_or_refuse(
        self, asked: _Asked, encode: Encode, vectors: Mapping[str, Vector], api: str
    ) -> Answer | InvalidRequest:
        question = asked.question
        vector = None if question.query is None else vectors.get(question.query)
        try:
            return await self._answer(asked, partial(self._search, question, encode, vector), api)
        except InvalidRequest as error:
            return error

    async def _vectors(self, queries: Iterable[str | None]) -> dict[str, Vector]:
        wanted = [query for query in queries if query is not None]
        if not wanted:
            return {}
        try:
            with self._place():
                return await vectors_of(self.embedder, wanted)
        except InvalidRequest:
            return {}  # an endpoint takes one of them ill: each search finds out on its own

    async def _search(self, question: Question, encode: Encode, vector: Vector | None = None) -> Made:
        began = self.clock.now()
        ranked = await self.rank(question, vector)
        return self._made(question, began, encode(question, ranked), [one.memory for one in ranked])

    async def _context(
        self, asked: ContextQuestion, encode: Callable[[ContextQuestion, Excerpt], bytes]
    ) -> Made:
        question, began = asked.question, self.clock.now()
        searched = question.query is not None and question.k > 0
        with self._place():
            relevant, recent = await asyncio.gather(
                self._rank(question, None) if searched else _nothing(),
                self.newest(question, asked.recent, began) if asked.recent else _nothing(),
            )
            found = await asyncio.to_thread(
                excerpt, relevant, recent, budget=asked.token_budget, count=self.embedder.count_tokens
            )
        shown = [*(one.memory for one in found.relevant), *found.recent]
        return self._made(question, began, encode(asked, found), shown)

    def _made(self, question: Question, began: float, encoded: bytes, memories: Sequence[Memory]) -> Made:
        life = LIFE_S
        if question.blend is not None and question.blend.fades:
            life = min(life, _FADING * question.blend.half_life_s)
        ends = [memory.expires_at for memory in memories if memory.expires_at is not None]
        return Made(encoded, min([began + life, *ends]))

    @contextlib.contextmanager
    def _place(self) -> Generator[None]:
        """One of the places for searches under way. Raises Overloaded where all are taken."""
        if self._searches >= MAX_SEARCHES:
            raise Overloaded(f"{self._searches} searches are under way already")
        self._searches += 1
        try:
            yield
        finally:
            self._searches -= 1

    # --- the store ------------------------------------------------------------------------------------------

    async def newest(self, question: Question, wanted: int, now: float) -> list[Memory]:
        """The newest that pass the question's filter and place."""
        kept: list[Memory] = []
        sphere = question.sphere
        page = PageQuery(question.agents.scope, wanted, now, wide(question))
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
            after = page[-1].position


class CurrentRecall:
    """The recall over the collection that is searched: a question ends in the one it began in."""

    def __init__(self, parts: QueryParts) -> None:
        self._parts = parts
        self._current = parts.collections.current
        self._recall = Recall.over(parts)

    def __call__(self) -> Recall:
        """That of this moment."""
        if self._parts.collections.current is not self._current:
            self._current = self._parts.collections.current
            self._recall = Recall.over(self._parts)
        return self._recall


async def _nothing() -> list[Any]:
    return []
