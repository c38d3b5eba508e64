"""The routes of the query service."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar

from msgspec import UNSET

from lorestream.access.key_file import KeyScope
from lorestream.access.rate_limits import NO_RATE_LIMITS, RateLimits
from lorestream.errors import InvalidRequest
from lorestream.http.errors import error_response
from lorestream.http.operation import OLDER_NAMES, Operation
from lorestream.http.request import (
    ApiRequest,
    ApiResponse,
    HttpError,
    decode,
    encoded_json_response,
    json_response,
)
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

    from lorestream.access.authentication import Principal
    from query_service.recall import Recall

T = TypeVar("T")

KNOWN_QUESTIONS = 4096
"""Questions that need not be read and checked again when they are asked in the same words."""
KNOWN_BYTES = 512
"""What is longer is read each time: it would fill the memory, and is seldom asked twice."""


def operations(recall: Callable[[], Recall], limits: RateLimits = NO_RATE_LIMITS) -> list[Operation]:
    """What the query service offers, for `lorestream.http.application.application`."""
    routes = _Routes(recall, limits)
    read = partial(Operation, scope=KeyScope.QUERY, query_params=NoParams, tag="Reads")
    agent = "/v1/agents/{agent_id}"
    return [
        read(
            "POST",
            "/v1/memories/search",
            routes.search,
            "The memories that answer best",
            response=SearchAnswer,
            body=Search,
            other_statuses={403: "The key lacks the scope: `query`, for the whole tenant `admin` as well."},
            example=examples.SEARCH,
        ),
        read(
            "POST",
            "/v1/memories/search/batch",
            routes.batch,
            "Up to 64 searches, each answered or refused on its own",
            response=BatchAnswer,
            body=SearchBatch,
            example=examples.BATCH,
        ),
        read(
            "GET",
            "/v1/memories/{id}",
            routes.one,
            "One memory of an agent",
            response=StoredMemory,
            path_params=MemoryPlace,
            query_params=OneParams,
            other_statuses={404: "This agent has no such memory."},
            example=examples.ONE,
        ),
        read(
            "GET",
            f"{agent}/memories",
            routes.recent,
            "An agent's memories in order, page by page",
            response=RecentAnswer,
            path_params=AgentPlace,
            query_params=RecentParams,
            example=examples.RECENT,
        ),
        read(
            "GET",
            f"{agent}/summary",
            routes.summary,
            "What an agent has",
            response=SummaryAnswer,
            path_params=AgentPlace,
            example=examples.SUMMARY,
        ),
        read(
            "GET",
            "/v1/agents",
            routes.agents,
            "The agents with the most memories",
            scope=KeyScope.ADMIN,
            response=AgentsAnswer,
            query_params=AgentsParams,
            example=examples.AGENTS,
        ),
        read(
            "POST",
            f"{agent}/context",
            routes.context,
            "The most relevant and the newest memories within a budget of tokens, as text for a prompt",
            response=ContextAnswer,
            path_params=AgentPlace,
            body=Context,
            example=examples.CONTEXT,
        ),
        read(
            "POST",
            "/memory/get",
            routes.get,
            "A search in its older form",
            response=GetAnswer,
            body=Get,
            tag=OLDER_NAMES,
            example=examples.GET,
        ),
    ]


class _Routes:
    def __init__(self, recall: Callable[[], Recall], limits: RateLimits) -> None:
        self._current = recall
        self._limits = limits
        self._known = lru_cache(KNOWN_QUESTIONS)(self._read)

    @property
    def _recall(self) -> Recall:
        """That of this moment: a request asks for it once, where it begins to look things up."""
        return self._current()

    async def search(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        raw, started = await request.body(), time.perf_counter()
        read = self._known if len(raw) <= KNOWN_BYTES else self._read
        question = read(request.principal, raw)
        await self._limits.count_queries(request.principal, question.agents.scope.agents)
        answer = await self._recall.search(question, encode_found, api="search")
        return encoded_json_response(_with_memories(answer, started))

    async def batch(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        batch, started = await request.json(RawBatch), time.perf_counter()
        read = [self._read_or_refuse(request.principal, bytes(raw)) for raw in batch.searches]
        questions = [one for one in read if isinstance(one, Question)]
        named = [agent for one in questions for agent in one.agents.scope.agents or ()]
        await self._limits.count_queries(request.principal, named, len(read))
        answers = iter(await self._recall.search_all(questions, encode_found, api="search"))
        results = [next(answers) if isinstance(one, Question) else one for one in read]
        encoded = (
            _with_memories(one, started)
            if isinstance(one, Answer)
            else error_response(one, request.request_id).body
            for one in results
        )
        return encoded_json_response(b'{"results":[' + b",".join(encoded) + b"]}")

    async def context(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        _, name = self._agent(request)
        context, started = await request.json(Context), time.perf_counter()
        asked = context_question(name, context, request.principal, self._recall.pseudonyms)
        await self._limits.count_queries(request.principal, asked.question.agents.scope.agents)
        answer = await self._recall.context(asked, encode_context)
        return encoded_json_response(answer.encoded[:-1] + _tail(answer, started))

    async def get(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        asked = await request.json(Get)
        question = get_question(asked, request.principal, self._recall.pseudonyms)
        await self._limits.count_queries(request.principal, question.agents.scope.agents)
        answer = await self._recall.search(question, encode_got, api="get")
        return encoded_json_response(b'{"memories":' + answer.encoded + b"}")

    async def one(self, request: ApiRequest) -> ApiResponse:
        params = request.query_params(OneParams)
        agents = named(self._recall.pseudonyms, request.tenant, [params.agent_id])
        await self._limits.count_queries(request.principal, agents.scope.agents)
        with self._timed("one"):
            memory = await browse.one(self._recall, agents, request.path_params(MemoryPlace).id)
        if memory is None:
            raise HttpError(404, "not_found", "this agent has no such memory")
        return json_response(stored(memory, agents))

    async def recent(self, request: ApiRequest) -> ApiResponse:
        params = request.query_params(RecentParams)
        agents, _ = self._agent(request)
        where = self._where(params, request.tenant)
        after = None if params.cursor is UNSET else parse_cursor(params.cursor)
        await self._limits.count_queries(request.principal, agents.scope.agents)
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
        return json_response(RecentAnswer(memories, page.next_cursor, page.total))

    async def summary(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        agents, name = self._agent(request)
        await self._limits.count_queries(request.principal, agents.scope.agents)
        with self._timed("summary"):
            return json_response(await browse.summary(self._recall, agents, name))

    async def agents(self, request: ApiRequest) -> ApiResponse:
        params = request.query_params(AgentsParams)
        await self._limits.count_queries(request.principal)
        with self._timed("agents"):
            return json_response(
                AgentsAnswer(await browse.largest(self._recall, request.tenant, params.limit))
            )

    def _read(self, principal: Principal, raw: bytes) -> Question:
        """A search as it was sent. Raises InvalidRequest and HttpError."""
        return search_question(decode(raw, Search), principal, self._recall.pseudonyms)

    def _read_or_refuse(self, principal: Principal, raw: bytes) -> Question | InvalidRequest | HttpError:
        """One search of a batch, or why it is none."""
        try:
            return self._read(principal, raw)
        except (InvalidRequest, HttpError) as error:
            return error

    def _agent(self, request: ApiRequest) -> tuple[Named, str]:
        name = request.path_params(AgentPlace).agent_id
        return named(self._recall.pseudonyms, request.tenant, [name]), name

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
    except (InvalidRequest, HttpError) as error:
        raise InvalidRequest("filters is a JSON object, percent-encoded", path="filters") from error
