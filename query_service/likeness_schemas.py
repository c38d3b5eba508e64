"""Request and response types of the map of memories by their likeness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from lorestream.limits import MAX_AGENTS, MAX_TYPE_CHARS, AgentId, EmptyList
from query_service.schemas import Bound, Filters, ReadRequest

DEFAULT_POINTS = 1000
MAX_POINTS = 5000


class Likeness(ReadRequest):
    """Which memories to map. Exactly one of `agent_id`, `agent_ids` and `scope` is required."""

    agent_id: AgentId | None = None
    agent_ids: Annotated[list[AgentId], Meta(min_length=1, max_length=MAX_AGENTS)] | None = None
    scope: Literal["tenant"] | None = None
    type: Annotated[str, Meta(max_length=MAX_TYPE_CHARS)] | None = None
    since: Bound | None = None
    until: Bound | None = None
    filters: Filters | EmptyList | None = None
    limit: (
        Annotated[
            float, Meta(ge=1, le=MAX_POINTS, multiple_of=1, description="The newest so many; default 1,000.")
        ]
        | None
    ) = None


class LikenessPoint(Struct):
    """A memory, the beginning of its text, and its place."""

    id: str
    agent_id: str
    type: str | None
    timestamp: float
    text: str
    x: float
    y: float


class LikenessResponse(Struct):
    """The points, the newest first. `explained`: the share of the variance that x and y show; `total`: how many match."""

    points: Sequence[LikenessPoint]
    explained: tuple[float, float]
    total: int
