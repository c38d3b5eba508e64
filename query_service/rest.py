"""The HTTP routes of the query service."""

from __future__ import annotations

import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from lorestream.access.key_file import KeyScope
from lorestream.access.rate_limits import NO_RATE_LIMITS, RateLimits
from lorestream.http.operation import OLDER_NAMES, Operation
from lorestream.http.request import (
    ApiRequest,
    ApiResponse,
    decode,
    encoded_json_response,
    found_response,
    json_response,
)
from query_service import browse, examples, insight_routes, likeness, record_routes
from query_service.batch import BatchRoutes
from query_service.batch_schemas import Batch, BatchResponse
from query_service.encoding import (
    context_response,
    encode_context,
    encode_get,
    encode_hits,
    search_response,
    stored_memory,
)
from query_service.queries import (
    SearchQuery,
    parse_context,
    parse_get,
    parse_search,
    resolve_agents,
)
from query_service.relations import relations_read
from query_service.response_schemas import (
    AgentsResponse,
    ContextResponse,
    GetResponse,
    RelationsResponse,
    RewindPreviewResponse,
    SearchResponse,
    StoredMemory,
    SummaryResponse,
)
from query_service.routes import Routes
from query_service.schemas import (
    AgentPath,
    AgentsParams,
    Context,
    Get,
    MemoryPath,
    NoParams,
    OneParams,
    RelationsParams,
    RewindPreview,
    Search,
)
from query_service.state_rest.routes import operations as state_operations

if TYPE_CHECKING:
    from collections.abc import Callable

    from lorestream.access.authentication import Principal
    from query_service.recall import Recall

PARSED_SEARCHES_CACHED = 4096
"""How many parsed search bodies are kept: the same bytes of the same caller are not parsed again."""
MAX_CACHED_BODY_BYTES = 512
"""Longer bodies are not kept: they would take much memory, and seldom repeat."""


def operations(recall: Callable[[], Recall], limits: RateLimits = NO_RATE_LIMITS) -> list[Operation]:
    """The operations of the query service, for `lorestream.http.application.application`.

    `recall`: returns the Recall over the active collection.
    """
    routes, batch = _Routes(recall, limits), BatchRoutes(recall, limits)
    read = partial(Operation, scope=KeyScope.QUERY, query_params=NoParams, tag="Reads", read_only=True)
    agent = "/v1/agents/{agent_id}"
    return [
        read(
            "POST",
            "/v1/memories/search",
            routes.search,
            "Search memories",
            response=SearchResponse,
            body=Search,
            other_statuses={403: "The key lacks the scope: `query`, for the whole tenant `admin` as well."},
            example=examples.SEARCH,
        ),
        read(
            "POST",
            "/v1/memories/search/batch",
            batch.batch,
            "Up to 64 searches, contexts and reads of documents, each answered or rejected on its own",
            response=BatchResponse,
            body=Batch,
            example=examples.BATCH,
        ),
        read(
            "GET",
            "/v1/memories/{id}",
            routes.one,
            "One memory of an agent",
            response=StoredMemory,
            path_params=MemoryPath,
            query_params=OneParams,
            other_statuses={404: "This agent has no such memory."},
            example=examples.ONE,
        ),
        *record_routes.operations(recall, limits),
        *insight_routes.operations(recall, limits),
        *likeness.operations(recall, limits),
        read(
            "GET",
            f"{agent}/summary",
            routes.summary,
            "Number, types and time range of an agent's memories",
            response=SummaryResponse,
            path_params=AgentPath,
            example=examples.SUMMARY,
        ),
        read(
            "GET",
            f"{agent}/relations",
            routes.relations,
            "With whom an agent has to do: how often, when last, and the sums of `metadata.valence`",
            response=RelationsResponse,
            path_params=AgentPath,
            query_params=RelationsParams,
            description=(
                "Over `about` and `player` of the agent's memories, exact, over at most 100,000 memories, else 400"
                " `too_many_records`. Superseded memories do not count."
            ),
            example=examples.RELATIONS,
        ),
        read(
            "GET",
            "/v1/agents",
            routes.agents,
            "The agents with the most memories",
            scope=KeyScope.ADMIN,
            response=AgentsResponse,
            query_params=AgentsParams,
            example=examples.AGENTS,
        ),
        read(
            "POST",
            "/v1/rewinds/preview",
            routes.rewind_preview,
            "How many memories a rewind would hide",
            scope=KeyScope.ERASE,
            tag="Rewinds",
            response=RewindPreviewResponse,
            body=RewindPreview,
            description="Changes nothing. Reads all memories of the server once: some seconds for a million, and 503 if it takes ten.",
            example=examples.REWIND_PREVIEW,
        ),
        read(
            "POST",
            f"{agent}/context",
            routes.context,
            "The most relevant and the newest memories within a token budget, as text for a prompt",
            response=ContextResponse,
            path_params=AgentPath,
            body=Context,
            example=examples.CONTEXT,
        ),
        read(
            "POST",
            "/memory/get",
            routes.get,
            "A search in its older form",
            response=GetResponse,
            body=Get,
            tag=OLDER_NAMES,
            example=examples.GET,
        ),
        *state_operations(recall, limits),
    ]


class _Routes(Routes):
    """One method per operation."""

    def __init__(self, recall: Callable[[], Recall], limits: RateLimits) -> None:
        super().__init__(recall, limits)
        self._parse_cached = lru_cache(PARSED_SEARCHES_CACHED)(self._parse)

    async def search(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        raw, started = await request.body(), time.perf_counter()
        parse = self._parse_cached if len(raw) <= MAX_CACHED_BODY_BYTES else self._parse
        query = parse(request.principal, raw)
        await self._limits.count_queries(request.principal, query.agents.scope.agents)
        answer = await self._recall.search(query, encode_hits, api="search")
        return encoded_json_response(search_response(answer, started))

    async def context(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        _, name = self._agent(request)
        context, started = await request.json(Context), time.perf_counter()
        query = parse_context(name, context, request.principal, self._recall.pseudonyms)
        await self._limits.count_queries(request.principal, query.search.agents.scope.agents)
        recall = self._recall
        answer = await recall.answer(recall.context_read(query, encode_context))
        return encoded_json_response(context_response(answer, started))

    async def get(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        query = parse_get(await request.json(Get), request.principal, self._recall.pseudonyms)
        await self._limits.count_queries(request.principal, query.agents.scope.agents)
        answer = await self._recall.search(query, encode_get, api="get")
        return encoded_json_response(b'{"memories":' + answer.encoded + b"}")

    async def one(self, request: ApiRequest) -> ApiResponse:
        params = request.query_params(OneParams)
        agents = resolve_agents(self._recall.pseudonyms, request.tenant, [params.agent_id])
        await self._limits.count_queries(request.principal, agents.scope.agents)
        with self._timed("one"):
            memory = await browse.get_memory(self._recall, agents, request.path_params(MemoryPath).id)
        found = memory and stored_memory(memory, agents)
        return found_response(found, "this agent has no such memory")

    async def summary(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        agents, name = self._agent(request)
        await self._limits.count_queries(request.principal, agents.scope.agents)
        with self._timed("summary"):
            return json_response(await browse.get_summary(self._recall, agents, name))

    async def relations(self, request: ApiRequest) -> ApiResponse:
        params = request.query_params(RelationsParams)
        agents, _ = self._agent(request)
        await self._limits.count_queries(request.principal, agents.scope.agents)
        answer = await self._recall.answer(relations_read(self._recall, agents, params.limit))
        return encoded_json_response(answer.encoded)

    async def agents(self, request: ApiRequest) -> ApiResponse:
        params = request.query_params(AgentsParams)
        await self._limits.count_queries(request.principal)
        with self._timed("agents"):
            agents = await browse.get_largest_agents(
                self._recall, request.tenant, params.limit, params.prefix
            )
        return json_response(AgentsResponse(agents))

    async def rewind_preview(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        body = await request.json(RewindPreview)
        await self._limits.count_queries(request.principal)
        with self._timed("rewind_preview"):
            found = await browse.count_rewound(self._recall, request.tenant, body.server, body.to)
        return json_response(found)

    def _parse(self, principal: Principal, raw: bytes) -> SearchQuery:
        """A search from its body. Raises InvalidRequest and HttpError."""
        return parse_search(decode(raw, Search), principal, self._recall.pseudonyms)
