"""The HTTP routes that explain a search, and that count memories by their place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lorestream.access.key_file import KeyScope
from lorestream.access.rate_limits import NO_RATE_LIMITS, RateLimits
from lorestream.errors import InvalidRequest
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest, ApiResponse, found_response, json_response
from query_service import examples
from query_service.explanation import explain
from query_service.insight_schemas import Explain, ExplainResponse, Places, PlacesResponse
from query_service.places import get_places, parse_places
from query_service.queries import parse_scope, parse_search
from query_service.routes import Routes
from query_service.schemas import NoParams

if TYPE_CHECKING:
    from collections.abc import Callable

    from query_service.recall import Recall


def operations(recall: Callable[[], Recall], limits: RateLimits = NO_RATE_LIMITS) -> list[Operation]:
    """The operations, for `query_service.rest`. `recall`: returns the Recall over the active collection."""
    routes = _Routes(recall, limits)
    read = partial(Operation, scope=KeyScope.QUERY, query_params=NoParams, tag="Reads", read_only=True)
    return [
        read(
            "POST",
            "/v1/memories/explain",
            routes.explain,
            "Why a search returns a memory, or does not",
            response=ExplainResponse,
            body=Explain,
            description=(
                "The fields are those of a search, and the `id` of a memory. The answer is not taken from the cache."
            ),
            other_statuses={404: "These agents have no such memory."},
            example=examples.EXPLAIN,
        ),
        read(
            "POST",
            "/v1/memories/places",
            routes.places,
            "How many memories are where: their number in each cell of a grid over x and z",
            response=PlacesResponse,
            body=Places,
            description="Over at most 100,000 memories, else 400 `too_many_records`.",
            other_statuses={403: "The key lacks the scope: `query`, for the whole tenant `admin` as well."},
            example=examples.PLACES,
        ),
    ]


class _Routes(Routes):
    """One method per operation."""

    async def explain(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        body = await request.json(Explain)
        query = parse_search(body, request.principal, self._recall.pseudonyms)
        if query.agents.scope.agents is None:
            raise InvalidRequest("name the agent of the memory in agent_id", path="scope")
        await self._limits.count_queries(request.principal, query.agents.scope.agents)
        recall = self._recall
        fresh = await recall.reached(query.after, query.wait_s)
        with self._timed("explain"):
            answer = await explain(recall, query, body, request.tenant, fresh=fresh)
        return found_response(answer, "these agents have no such memory")

    async def places(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        body = await request.json(Places)
        recall = self._recall
        agents = parse_scope(body, request.principal, recall.pseudonyms)
        query = parse_places(body, recall.pseudonyms, request.tenant)
        await self._limits.count_queries(request.principal, agents.scope.agents)
        with self._timed("places"):
            return json_response(await get_places(recall, agents, query))
