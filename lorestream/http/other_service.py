"""Routes that another service of the same deployment answers, so that a caller at the wrong door is told where to go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The service's name, and its routes as (method, path)."""

    service: str
    routes: Sequence[tuple[str, str]]


WRITES = Elsewhere(
    "gateway",
    (
        ("POST", "/v1/events"),
        ("POST", "/memory/put"),
        ("DELETE", "/v1/memories/{id}"),
        ("DELETE", "/v1/agents/{agent_id}"),
        ("DELETE", "/v1/players/{name}"),
        ("POST", "/v1/erasures"),
        ("GET", "/v1/erasures/{erasure_id}"),
        ("POST", "/memory/delete"),
    ),
)
"""For the query service: what gateways answer."""

READS = Elsewhere(
    "query",
    (
        ("POST", "/v1/memories/search"),
        ("POST", "/v1/memories/search/batch"),
        ("GET", "/v1/memories/{id}"),
        ("GET", "/v1/agents/{agent_id}/memories"),
        ("GET", "/v1/agents/{agent_id}/summary"),
        ("POST", "/v1/agents/{agent_id}/context"),
        ("GET", "/v1/agents"),
        ("POST", "/memory/get"),
    ),
)
"""For gateways: what the query service answers."""
