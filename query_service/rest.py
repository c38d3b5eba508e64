"""The routes of the query service."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote_to_bytes

from engram.errors import InvalidRequest
from engram.http.access import Grant
from engram.http.call import MAX_AGENT_ID_CHARS, Call, Refused, decode, refusal, reply, reply_encoded
from engram.http.operations import Operation
from engram.memories import And, Condition, Field, Filter, Op
from engram.opaque import parse_cursor
from query_service import browse
from query_service.answers import encode_found, encode_got, stored
from query_service.questions import Named, filter_of, get_question, named, search_question
from query_service.wire import (
    AgentsAnswer,
    AgentsParams,
    BatchAnswer,
    Get,
    GetAnswer,
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
    from collections.abc import Generator

    from starlette.responses import Response

    from query_service.recall import Recall

T = TypeVar("T")


def operations(recall: Recall) -> list[Operation]:
    """What the query service offers, for `engram.http.operations.application`."""
    routes = _Routes(recall)
    read = Grant.QUERY
    agent = "/v1/agents/{agent_id}"
    return [
        Operation(
            "POST",
            "/v1/memories/search",
            routes.search,
            "The memories that answer best",
            read,
            SearchAnswer,
            Search,
        ),
        Operation(
            "POST",
            "/v1/memories/search/batch",
            routes.batch,
            "Up to 64 searches, each answered or refused on its own",
            read,
            BatchAnswer,
            SearchBatch,
        ),
        Operation(
            "GET",
            "/v1/memories/{id}",
            routes.one,
            "One memory of an agent",
            read,
            StoredMemory,
            params=OneParams,
        ),
        Operation(
            "GET",
            f"{agent}/memories",
            routes.recent,
            "An agent's memories in order, page by page",
            read,
            RecentAnswer,
            params=RecentParams,
        ),
        Operation(
            "GET",
            f"{agent}/summary",
            routes.summary,
            "What an agent has",
            read,
            SummaryAnswer,
            params=NoParams,
        ),
        Operation(
            "GET",
            "/v1/agents",
            routes.agents,
            "The agents with the most memories",
            Grant.ADMIN,
            AgentsAnswer,
            params=AgentsParams,
        ),
        Operation("POST", "/memory/get", routes.get, "A search in its older form", read, GetAnswer, Get),
    ]


class _Routes:
    def __init__(self, recall: Recall) -> None:
        self._recall = recall

    async def search(self, call: Call) -> Response:
        _params(call, NoParams)
        return reply_encoded(await self._search(call, await call.json(Search)))

    async def batch(self, call: Call) -> Response:
        _params(call, NoParams)
        batch = await call.json(RawBatch)
        results = await asyncio.gather(*(self._one_of_batch(call, bytes(raw)) for raw in batch.searches))
        return reply_encoded(b'{"results":[' + b",".join(results) + b"]}")

    async def get(self, call: Call) -> Response:
        _params(call, NoParams)
        asked = await call.json(Get)
        question = get_question(asked, call.principal, self._recall.pseudonyms)
        answer = await self._recall.search(question, encode_got, api="get")
        return reply_encoded(b'{"memories":' + answer.memories + b"}")

    async def one(self, call: Call) -> Response:
        params = _params(call, OneParams)
        with self._timed("one"):
            agents = named(self._recall.pseudonyms, call.tenant, [params.agent_id])
            memory = await browse.one(self._recall, agents, call.path("id"))
        if memory is None:
            raise Refused(404, "not_found", "this agent has no such memory")
        return reply(stored(memory, agents))

    async def recent(self, call: Call) -> Response:
        params = _params(call, RecentParams)
        agents, _ = self._agent(call)
        where = self._where(params, call.tenant)
        after = None if params.cursor is None else parse_cursor(params.cursor)
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

    async def summary(self, call: Call) -> Response:
        _params(call, NoParams)
        agents, name = self._agent(call)
        with self._timed("summary"):
            return reply(await browse.summary(self._recall, agents, name))

    async def agents(self, call: Call) -> Response:
        params = _params(call, AgentsParams)
        with self._timed("agents"):
            return reply(AgentsAnswer(await browse.largest(self._recall, call.tenant, params.limit)))

    async def _search(self, call: Call, search: Search) -> bytes:
        """The answer to one search, as JSON."""
        started = time.perf_counter()
        question = search_question(search, call.principal, self._recall.pseudonyms)
        answer = await self._recall.search(question, encode_found, api="search")
        fresh = b"true" if answer.fresh else b"false"
        head = b'{"memories":%b,"cache":"%b","fresh":%b' % (answer.memories, answer.cache.encode(), fresh)
        return head + b',"took_ms":%.3f}' % ((time.perf_counter() - started) * 1000)

    async def _one_of_batch(self, call: Call, raw: bytes) -> bytes:
        """An answer or a refusal. An outage is the whole batch's."""
        try:
            return await self._search(call, decode(raw, Search))
        except (InvalidRequest, Refused) as error:
            return bytes(refusal(error, call.request_id).body)

    def _agent(self, call: Call) -> tuple[Named, str]:
        name = call.path("agent_id")
        if len(name) > MAX_AGENT_ID_CHARS:
            raise InvalidRequest(f"an agent id has {MAX_AGENT_ID_CHARS} characters at most", path="agent_id")
        return named(self._recall.pseudonyms, call.tenant, [name]), name

    def _where(self, params: RecentParams, tenant: str) -> Filter:
        bounds = (
            ("tick", Op.GTE, params.tick_from, "tick_from"),
            ("tick", Op.LTE, params.tick_to, "tick_to"),
            ("timestamp", Op.GTE, params.since, "since"),
            ("timestamp", Op.LTE, params.until, "until"),
        )
        parts: list[Filter] = []
        if params.type is not None:
            parts.append(Condition(Field(("type",)), Op.EQ, params.type))
        for name, op, bound, param in bounds:
            if bound is None:
                continue
            if not math.isfinite(bound):
                raise InvalidRequest("a finite number is needed here", path=param)
            parts.append(Condition(Field((name,)), op, bound))
        if params.filters is not None:
            parts.append(filter_of(_filters(params.filters), self._recall.pseudonyms, tenant))
        return And(tuple(parts))

    @contextmanager
    def _timed(self, api: str) -> Generator[None]:
        started = time.perf_counter()
        yield
        self._recall.metrics.query_duration.labels(api, "off").observe(time.perf_counter() - started)


# --- the query string -------------------------------------------------------------------------------------


def _params(call: Call, kind: type[T]) -> T:
    """The query string. Raises InvalidRequest, also where a reader would guess: broken UTF-8, a name twice."""
    try:
        unquote_to_bytes(call.request.scope["query_string"]).decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest("the query string is not percent-encoded UTF-8") from error
    names = [name for name, _ in call.request.query_params.multi_items()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidRequest("given more than once", path=twice)
    return call.params(kind)


def _filters(text: str) -> object:
    try:
        return decode(text.encode(), dict)
    except (InvalidRequest, Refused) as error:
        raise InvalidRequest("filters is a JSON object, percent-encoded", path="filters") from error
