"""The reads of the gRPC service: GetMemory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorestream.access.authentication import Principal
from lorestream.access.rate_limits import NO_RATE_LIMITS, RateLimits
from lorestream.grpc.server import Hit
from query_service.recall import Recall


class Reads:
    """The handler of GetMemory, for `lorestream.grpc.server.Handlers`."""

    def __init__(self, recall: Callable[[], Recall], limits: RateLimits = NO_RATE_LIMITS) -> None:
        self._recall = recall
        self._limits = limits

    async def get(
        self, principal: Principal, agent_id: str, query: str, k: int, filters: Mapping[str, Any] | None
    ) -> Sequence[Hit]:
        """The best k, the best first. Raises InvalidRequest, RateLimited, Overloaded, Unavailable."""
        agents = self._recall().pseudonyms.agents(principal.tenant, agent_id)
        await self._limits.count_queries(principal, agents)
        ranked = await self._recall().get(principal, agent_id, query, k, filters)
        return [Hit(agent_id, one.memory, one.score) for one in ranked]
