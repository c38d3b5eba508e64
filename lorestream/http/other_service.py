"""The routes of the other service of a distributed deployment, for the error of a request sent to the wrong one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeerService:
    """The other service's name, and its routes as (method, path)."""

    name: str
    routes: Sequence[tuple[str, str]]


WRITES = PeerService(
    "gateway",
    (
        ("POST", "/v1/events"),
        ("POST", "/memory/put"),
        ("DELETE", "/v1/memories/{id}"),
        ("DELETE", "/v1/agents/{agent_id}"),
        ("DELETE", "/v1/players/{name}"),
        ("POST", "/v1/memories/{id}/supersede"),
        ("POST", "/v1/erasures"),
        ("GET", "/v1/erasures"),
        ("GET", "/v1/erasures/{erasure_id}"),
        ("POST", "/v1/rewinds"),
        ("GET", "/v1/rewinds"),
        ("POST", "/v1/webhooks"),
        ("GET", "/v1/webhooks"),
        ("DELETE", "/v1/webhooks/{id}"),
        ("POST", "/v1/webhooks/{id}/resume"),
        ("POST", "/v1/webhooks/{id}/test"),
        ("GET", "/v1/rewinds/{id}"),
        ("DELETE", "/v1/rewinds/{id}"),
        ("POST", "/memory/delete"),
        ("POST", "/v1/entities/{type}/{id}"),
        ("PATCH", "/v1/entities/{type}/{id}"),
        ("DELETE", "/v1/entities/{type}/{id}"),
        ("POST", "/v1/entities/{type}/{id}/patch"),
        ("POST", "/v1/entities/{type}/{id}/rollback"),
        ("POST", "/v1/entities/{type}/{id}/delete"),
        ("POST", "/v1/q/{id}/update"),
        ("POST", "/v1/policies/{id}"),
        ("DELETE", "/v1/policies/{id}"),
        ("POST", "/v1/policies/{id}/rollback"),
        ("POST", "/v1/policies/{id}/delete"),
    ),
)
"""The gateway's routes, for the query service."""

READS = PeerService(
    "query",
    (
        ("POST", "/v1/memories/search"),
        ("POST", "/v1/memories/search/batch"),
        ("POST", "/v1/memories/get"),
        ("POST", "/v1/memories/explain"),
        ("POST", "/v1/memories/places"),
        ("POST", "/v1/memories/likeness"),
        ("GET", "/v1/memories/{id}"),
        ("GET", "/v1/agents/{agent_id}/memories"),
        ("GET", "/v1/agents/{agent_id}/summary"),
        ("POST", "/v1/agents/{agent_id}/context"),
        ("GET", "/v1/agents/{agent_id}/relations"),
        ("POST", "/v1/agents/{agent_id}/aggregate"),
        ("GET", "/v1/agents"),
        ("POST", "/v1/rewinds/preview"),
        ("GET", "/v1/stream"),
        ("POST", "/memory/get"),
        ("POST", "/mcp"),
        ("GET", "/v1/entities/{type}"),
        ("GET", "/v1/entities/{type}/{id}"),
        ("GET", "/v1/entities/{type}/{id}/versions"),
        ("GET", "/v1/entities/{type}/{id}/writes/{event_id}"),
        ("POST", "/v1/q/{id}/values"),
        ("GET", "/v1/q/{id}"),
        ("GET", "/v1/q/{id}/writes/{event_id}"),
        ("GET", "/v1/policies/{id}"),
        ("GET", "/v1/policies/{id}/versions"),
        ("GET", "/v1/policies/{id}/writes/{event_id}"),
    ),
)
"""The query service's routes, for the gateway."""
