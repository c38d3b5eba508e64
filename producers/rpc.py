"""What gateways answer over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorestream.access.principals import Principal
from lorestream.access.rate_limits import NO_LIMITS, Limits
from lorestream.errors import InvalidRequest
from lorestream.http.request import MAX_AGENT_ID_CHARS
from producers.admission import Event
from producers.gateway import Gateway


class Writes:
    """PutMemory and DeleteMemory, as `lorestream.grpc.server.Handlers` takes them."""

    def __init__(self, gateway: Gateway, limits: Limits = NO_LIMITS) -> None:
        self._gateway = gateway
        self._limits = limits

    async def put(
        self,
        principal: Principal,
        agent_id: str,
        text: str,
        metadata: Mapping[str, Any] | None,
        ttl_s: float | None,
    ) -> str:
        """Accept a sentence; return its memory's id once it is durable.

        Raises InvalidEvent, RateLimited, Unavailable.
        """
        event = Event(agent_id=agent_id, text=text, metadata=dict(metadata) if metadata else None, ttl=ttl_s)
        await self._gateway.within(self._limits, principal, 1)
        return await self._gateway.put(principal.tenant, event)

    async def delete(self, principal: Principal, agent_id: str) -> None:
        """Erase an agent. Raises InvalidRequest, Unavailable."""
        if not 1 <= len(agent_id) <= MAX_AGENT_ID_CHARS:
            raise InvalidRequest(f"1 to {MAX_AGENT_ID_CHARS} characters", path="agent_id")
        await self._gateway.erasures.erase_agent(principal.tenant, agent_id, by=principal.key)
