"""The reads of the gRPC service: GetMemory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lorestream.access.authentication import Principal
from lorestream.access.rate_limits import NO_RATE_LIMITS, RateLimits
from lorestream.grpc.server import Hit, encode_hits
from query_service.queries import SearchQuery, get_request, parse_get
from query_service.ranking import Ranked
from query_service.recall import Recall


class Reads:
    """The handler of GetMemory, for `lorestream.grpc.server.Handlers`."""

    def __init__(self, recall: Callable[[], Recall], limits: RateLimits = NO_RATE_LIMITS) -> None:
        self._recall = recall
        self._limits = limits

    async def get(
        self, principal: Principal, agent_id: str, query: str, k: int, filters: Mapping[str, Any] | None
    ) -> bytes:
        """The best k, the best first, as an encoded response, from the answer cache or computed.

        Raises InvalidRequest, RateLimited, Overloaded, Unavailable.
        """
        recall = self._recall()
        search = parse_get(get_request(agent_id, query, k, filters), principal, recall.pseudonyms)
        # The same request over HTTP has another encoding, so its answer is cached separately.
        search = replace(search, fingerprint=b"grpc " + search.fingerprint)
        await self._limits.count_queries(principal, search.agents.scope.agents)
        return (await recall.search(search, _encode, api="grpc")).encoded


def _encode(query: SearchQuery, ranked: Sequence[Ranked]) -> bytes:
    return encode_hits([Hit(query.agents.name(one.memory.agent_id), one.memory, one.score) for one in ranked])
