"""The HTTP routes that read many memories or records of an agent: pages and streams, by id, aggregates."""

from __future__ import annotations

import contextlib
import re
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from lorestream.access.key_file import KeyScope
from lorestream.access.rate_limits import NO_RATE_LIMITS, RateLimits
from lorestream.errors import InvalidRequest
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest, ApiResponse, encoded_json_response, json_response
from lorestream.http.streaming import LineStream
from lorestream.limits import MAX_PAGE_SIZE
from lorestream.tokens import parse_cursor
from lorestream.turns import Turns
from query_service import browse, examples
from query_service.aggregates import aggregate, parse_aggregate
from query_service.encoding import read_memory, stored_memory
from query_service.queries import parse_recent_filter, resolve_agents, with_superseded
from query_service.record_schemas import Aggregate, AggregateResponse, GetMany, GetManyResponse
from query_service.response_schemas import RecentResponse
from query_service.routes import Routes
from query_service.schemas import DEFAULT_PAGE_SIZE, MAX_LINES, AgentPath, NoParams, RecentParams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from lorestream.memories import Memory
    from query_service.queries import ResolvedAgents
    from query_service.recall import Recall

_NDJSON = re.compile(
    rb"(?:^|,)\s*application/x-ndjson(?![^,]*;\s*q=0(?:\.0*)?\s*(?:[;,]|$))\s*(?:[;,]|$)", re.IGNORECASE
)
"""An Accept with it; with q=0 it is refused."""

_encoder = msgspec.json.Encoder()


def operations(recall: Callable[[], Recall], limits: RateLimits = NO_RATE_LIMITS) -> list[Operation]:
    """The operations, for `query_service.rest`. `recall`: returns the Recall over the active collection."""
    routes = _Routes(recall, limits)
    read = partial(Operation, scope=KeyScope.QUERY, query_params=NoParams, tag="Reads", read_only=True)
    agent = "/v1/agents/{agent_id}"
    return [
        read(
            "GET",
            f"{agent}/memories",
            routes.recent,
            "An agent's memories in order, page by page",
            response=RecentResponse,
            path_params=AgentPath,
            query_params=RecentParams,
            description=(
                "With `type`, or a filter for types, also the records of these types. With `Accept:"
                " application/x-ndjson` one line for each memory, up to 10,000, without `next_cursor` and `total`."
            ),
            example=examples.RECENT,
        ),
        read(
            "POST",
            "/v1/memories/get",
            routes.many,
            "Up to 256 memories or records of an agent by id, with their vectors on demand",
            response=GetManyResponse,
            body=GetMany,
            example=examples.GET_MANY,
        ),
        read(
            "POST",
            f"{agent}/aggregate",
            routes.aggregate,
            "Sums, means and extremes of a number of an agent's records or memories",
            response=AggregateResponse,
            path_params=AgentPath,
            body=Aggregate,
            description="Over at most 100,000 of them, else 400 `too_many_records`.",
            example=examples.AGGREGATE,
        ),
    ]


class _Routes(Routes):
    """One method per operation."""

    async def recent(self, request: ApiRequest) -> ApiResponse | LineStream:
        params = request.query_params(RecentParams)
        agents, _ = self._agent(request)
        as_lines = _NDJSON.search(request.headers.get(b"accept", b"")) is not None
        limit = params.limit
        if limit is UNSET:
            limit = MAX_LINES if as_lines else DEFAULT_PAGE_SIZE
        if limit > (MAX_LINES if as_lines else MAX_PAGE_SIZE):
            raise InvalidRequest(
                f"at most {MAX_PAGE_SIZE:,}, and {MAX_LINES:,} with `Accept: application/x-ndjson`",
                path="limit",
            )
        as_of = None if params.as_of is UNSET else params.as_of
        agents = with_superseded(agents, as_of, superseded=params.superseded)
        query = browse.page_query(
            self._recall,
            agents,
            limit,
            parse_recent_filter(params, self._recall.pseudonyms, request.tenant),
            oldest_first=params.order == "oldest",
            after=None if params.cursor is UNSET else parse_cursor(params.cursor),
            as_of=as_of,
        )
        await self._limits.count_queries(request.principal, agents.scope.agents)
        if as_lines:
            return await self._stream(agents, browse.get_lines(self._recall, query, as_of))
        with self._timed("recent"):
            page = await browse.get_page(self._recall, query)
        memories = [stored_memory(memory, agents) for memory in page.memories]
        return json_response(RecentResponse(memories, page.next_cursor, page.total))

    async def _stream(self, agents: ResolvedAgents, parts: AsyncGenerator[Sequence[Memory]]) -> LineStream:
        """A stream of the memories. Its first part is read before, so that a fault of the request has its status."""
        with self._timed("recent"):
            first = await anext(parts)

        async def lines() -> AsyncGenerator[bytes]:
            async with contextlib.aclosing(parts):
                yield await _lines(stored_memory(memory, agents) for memory in first)
                async for part in parts:
                    yield await _lines(stored_memory(memory, agents) for memory in part)

        return LineStream(lines())

    async def many(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        body = await request.json(GetMany)
        agents = resolve_agents(self._recall.pseudonyms, request.tenant, [body.agent_id])
        await self._limits.count_queries(request.principal, agents.scope.agents)
        with self._timed("many"):
            vectors = bool(body.vectors)
            found = await browse.get_many(self._recall, agents, body.ids, vectors=vectors)
            memories = (read_memory(memory, agents, vector, vectors=vectors) for memory, vector in found)
            return await _list_response("memories", memories)

    async def aggregate(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        agents, _ = self._agent(request)
        query = parse_aggregate(await request.json(Aggregate), self._recall.pseudonyms, request.tenant)
        await self._limits.count_queries(request.principal, agents.scope.agents)
        with self._timed("aggregate"):
            return await _list_response("buckets", await aggregate(self._recall, agents, query))


async def _lines(values: Iterable[object]) -> bytes:
    return b"".join([one + b"\n" for one in await _encoded(values)])


async def _list_response(name: str, values: Iterable[object]) -> ApiResponse:
    """An object with one list, which may be long."""
    return encoded_json_response(b'{"%b":[%b]}' % (name.encode(), b",".join(await _encoded(values))))


async def _encoded(values: Iterable[object]) -> list[bytes]:
    """Each value as JSON; other tasks run in between."""
    turns = Turns()
    encoded: list[bytes] = []
    for value in values:
        encoded.append(_encoder.encode(value))
        await turns.next()
    return encoded
