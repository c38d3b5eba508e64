"""The routes of the query service."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar

from msgspec import UNSET

from lorestream.access.principals import Grant
from lorestream.access.rate_limits import NO_LIMITS, Limits
from lorestream.errors import InvalidRequest
from lorestream.http.application import Operation
from lorestream.http.openapi import OLDER
from lorestream.http.request import Call, Refused, decode, refusal
from lorestream.http.response import Reply, reply, reply_encoded
from lorestream.memories import And, Condition, Field, Filter, Op
from lorestream.tokens import parse_cursor
from query_service import browse, examples
from query_service.encoding import encode_context, encode_found, encode_got, stored
from query_service.queries import (
    Named,
    Question,
    context_question,
    filter_of,
    get_question,
    named,
    search_question,
)
from query_service.recall import Answer
from query_service.schemas import (
    AgentPlace,
    AgentsAnswer,
    AgentsParams,
    BatchAnswer,
    Context,
    ContextAnswer,
    Get,
    GetAnswer,
    MemoryPlace,
    NoParams,
    OneParams,
    RawBatch,
    RecentAnswer,
    RecentParams,
    Search,
    SearchAnswer,
    SearchBatch,
    StoredMemory,
    SummaryAnswer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from lorestream.access.principals import Principal
    from query_service.recall import Recall

T = TypeVar("T")

KNOWN_QUESTIONS = 4096
"""Questions that need not be read and checked again when they are asked in the same words."""
KNOWN_BYTES = 512
"""What is longer is read each time: it would fill the memory, and is seldom asked twice."""


def operations(recall: Callable[[], Recall], limits: Limits = NO_LIMITS) -> list[Operation]:
    """What the query service offers, for `lorestream.http.application.application`."""
    routes = _Routes(recall, limits)
    read = partial(Operation, needs=Grant.QUERY, params=NoParams, topic="Reads")
    agent = "/v1/agents/{agent_id}"
    return [
        read(
            "POST",
            "/v1/memories/search",
            routes.search,
            "The memories that answer best",
            answer=SearchAnswer,
            body=Search,
            also={403: "The key lacks the scope: `query`, for the whole tenant `admin` as well."},
            example=examples.SEARCH,
        ),
        read(
            "POST",
            "/v1/memories/search/batch",
            routes.batch,
            "Up to 64 searches, each answered or refused on its own",
            answer=BatchAnswer,
            body=SearchBatch,
            example=examples.BATCH,
        ),
        read(
            "GET",
            "/v1/memories/{id}",
            routes.one,
            "One memory of an agent",
            answer=StoredMemory,
            place=MemoryPlace,
            params=OneParams,
            also={404: "This agent has no such memory."},
            example=examples.ONE,
        ),
        read(
            "GET",
            f"{agent}/memories",
            routes.recent,
            "An agent's memories in order, page by page",
            answer=RecentAnswer,
            place=AgentPlace,
            params=RecentParams,
            example=examples.RECENT,
        ),
        read(
            "GET",
            f"{agent}/summary",
            routes.summary,
            "What an agent has",
            answer=SummaryAnswer,
            place=AgentPlace,
            example=examples.SUMMARY,
        ),
        read(
            "GET",
            "/v1/agents",
            routes.agents,
            "The agents with the most memories",
            needs=Grant.ADMIN,
            answer=AgentsAnswer,
            params=AgentsParams,
            example=examples.AGENTS,
        ),
        read(
            "POST",
            f"{agent}/context",
            routes.context,
            "The most relevant and the newest memories within a budget of tokens, as text for a prompt",
            answer=ContextAnswer,
            place=AgentPlace,
            body=Context,
            example=examples.CONTEXT,
        ),
        read(
            "POST",
            "/memory/get",
            routes.get,
            "A search in its older form",
            answer=GetAnswer,
            body=Get,
            topic=OLDER,
            example=examples.GET,
        ),
    ]


class _Routes:
    def __init__(self, recall: Callable[[], Recall], limits: Limits) -> None:
        self._current = recall
        self._limits = limits
        self._known = lru_cache(KNOWN_QUESTIONS)(self._read)

    @property
    def _recall(self) -> Recall:
        """That of this moment: a request asks for it once, where it begins to look things up."""
        return self._current()

    async def search(self, call: Call) -> Reply:
        call.params(NoParams)
        raw, started = await call.body(), time.perf_counter()
        read = self._known if len(raw) <= KNOWN_BYTES else self._read
        question = read(call.principal, raw)
        await self._limits.queries(call.principal, question.agents.scope.agents)
        answer = await self._recall.search(question, encode_found, api="search")
        return reply_encoded(_with_memories(answer, started))

    async def batch(self, call: Call) -> Reply:
        call.params(NoParams)
        batch, started = await call.json(RawBatch), time.perf_counter()
        read = [self._read_or_refuse(call.principal, bytes(raw)) for raw in batch.searches]
        questions = [one for one in read if isinstance(one, Question)]
        named = [agent for one in questions for agent in one.agents.scope.agents or ()]
        await self._limits.queries(call.principal, named, len(read))
        answers = iter(await self._recall.search_all(questions, encode_found, api="search"))
        results = [next(answers) if isinstance(one, Question) else one for one in read]
        encoded = (
            _with_memories(one, started) if isinstance(one, Answer) else refusal(one, call.request_id).body
            for one in results
        )
        return reply_encoded(b'{"results":[' + b",".join(encoded) + b"]}")

    async def context(self, call: Call) -> Reply:
        call.params(NoParams)
        _, name = self._agent(call)
        context, started = await call.json(Context), time.perf_counter()
        asked = context_question(name, context, call.principal, self._recall.pseudonyms)
        await self._limits.queries(call.principal, asked.question.agents.scope.agents)
        answer = await self._recall.context(asked, encode_context)
        return reply_encoded(answer.encoded[:-1] + _tail(answer, started))

    async def get(self, call: Call) -> Reply:
        call.params(NoParams)
        asked = await call.json(Get)
        question = get_question(asked, call.principal, self._recall.pseudonyms)
        await self._limits.queries(call.principal, question.agents.scope.agents)
        answer = await self._recall.search(question, encode_got, api="get")
        return reply_encoded(b'{"memories":' + answer.encoded + b"}")

    async def one(self, call: Call) -> Reply:
        params = call.params(OneParams)
        agents = named(self._recall.pseudonyms, call.tenant, [params.agent_id])
        await self._limits.queries(call.principal, agents.scope.agents)
        with self._timed("one"):
            memory = await browse.one(self._recall, agents, call.place(MemoryPlace).id)
        if memory is None:
            raise Refused(404, "not_found", "this agent has no such memory")
        return reply(stored(memory, agents))

    async def recent(self, call: Call) -> Reply:
        params = call.params(RecentParams)
        agents, _ = self._agent(call)
        where = self._where(params, call.tenant)
        after = None if params.cursor is UNSET else parse_cursor(params.cursor)
        await self._limits.queries(call.principal, agents.scope.agents)
        with self._timed("recent"):
            page = await browse.page(
                self._recall,
                agents,
                params.limit,
                where=where,
                oldest_first=params.order == "oldest",
                after=after,
            )
        memories = [stored(memory, agents) for memory in page.memories]
        return reply(RecentAnswer(memories, page.next_cursor, page.total))

    async def summary(self, call: Call) -> Reply:
        call.params(NoParams)
        agents, name = self._agent(call)
        await self._limits.queries(call.principal, agents.scope.agents)
        with self._timed("summary"):
            return reply(await browse.summary(self._recall, agents, name))

    async def agents(self, call: Call) -> Reply:
        params = call.params(AgentsParams)
        await self._limits.queries(call.principal)
        with self._timed("agents"):
            return reply(AgentsAnswer(await browse.largest(self._recall, call.tenant, params.limit)))

    def _read(self, principal: Principal, raw: bytes) -> Question:
        """A search as it was sent. Raises InvalidRequest and Refused."""
        return search_question(decode(raw, Search), principal, self._recall.pseudonyms)

    def _read_or_refuse(self, principal: Principal, raw: bytes) -> Question | InvalidRequest | Refused:
        """One search of a batch, or why it is none."""
        try:
            return self._read(principal, raw)
        except (InvalidRequest, Refused) as error:
            return error

    def _agent(self, call: Call) -> tuple[Named, str]:
        name = call.place(AgentPlace).agent_id
        return named(self._recall.pseudonyms, call.tenant, [name]), name

    def _where(self, params: RecentParams, tenant: str) -> Filter:
        bounds = (
            ("tick", Op.GTE, params.tick_from, "tick_from"),
            ("tick", Op.LTE, params.tick_to, "tick_to"),
            ("timestamp", Op.GTE, params.since, "since"),
            ("timestamp", Op.LTE, params.until, "until"),
        )
        parts: list[Filter] = []
        if params.type is not UNSET:
            parts.append(Condition(Field(("type",)), Op.EQ, params.type))
        for name, op, bound, param in bounds:
            if bound is UNSET:
                continue
            if not math.isfinite(bound):
                raise InvalidRequest("a finite number is needed here", path=param)
            parts.append(Condition(Field((name,)), op, bound))
        if params.filters is not UNSET:
            parts.append(filter_of(_filters(params.filters), self._recall.pseudonyms, tenant))
        return And(tuple(parts))

    @contextmanager
    def _timed(self, api: str) -> Generator[None]:
        started = time.perf_counter()
        yield
        self._recall.metrics.query_duration.labels(api, "off").observe(time.perf_counter() - started)


# --- answers ----------------------------------------------------------------------------------------------


def _with_memories(answer: Answer, started: float) -> bytes:
    """The answer to a search, as JSON. `started`: by the performance counter."""
    return b'{"memories":' + answer.encoded + _tail(answer, started)


def _tail(answer: Answer, started: float) -> bytes:
    took_ms = (time.perf_counter() - started) * 1000
    fresh = b"true" if answer.fresh else b"false"
    return b',"cache":"%b","fresh":%b,"took_ms":%.3f}' % (answer.cache.encode(), fresh, took_ms)


# --- the query string -------------------------------------------------------------------------------------


def _filters(text: str) -> object:
    try:
        return decode(text.encode(), dict)
    except (InvalidRequest, Refused) as error:
        raise InvalidRequest("filters is a JSON object, percent-encoded", path="filters") from error
