"""The gateway's gRPC calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lorestream.access.authentication import Principal
from lorestream.access.rate_limits import NO_RATE_LIMITS, RateLimits
from producers.gateway import Gateway
from producers.schemas import Event


class Writes:
    """PutMemory and DeleteMemory, in the form of `lorestream.grpc.server.Handlers`."""

    def __init__(self, gateway: Gateway, limits: RateLimits = NO_RATE_LIMITS) -> None:
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
        """Accept one text; return its memory id once it is durable.

        Raises InvalidEvent, RateLimited, Unavailable.
        """
        event = Event(agent_id=agent_id, text=text, metadata=dict(metadata) if metadata else None, ttl=ttl_s)
        await self._gateway.intake.check_rate(self._limits, principal, 1)
        memory_id, _ = await self._gateway.put(principal.tenant, msgspec.json.encode(event))
        return memory_id

    async def delete(self, principal: Principal, agent_id: str) -> None:
        """Erase an agent. Raises InvalidRequest, Unavailable."""
        await self._gateway.erasures.erase_agent(principal.tenant, agent_id, by=principal.key)
