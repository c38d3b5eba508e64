"""Request and response types of what explains a search, and of where memories are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from lorestream.limits import MAX_AGENTS, MAX_TYPE_CHARS, AgentId, EmptyList
from query_service.response_schemas import FoundMemory
from query_service.schemas import Bound, Filters, ReadRequest, Search, Time

MAX_PLACES = 10_000
DEFAULT_CELL = 16.0
"""The length of a mapblock of Luanti, in nodes."""


class Explain(Search, kw_only=True):
    """A search, and the memory that it is asked about. The search names its agent: `agent_id` or `agent_ids`."""

    id: str


class Reason(Struct):
    """Why a memory is not among the best k.

    `code`: `filters` (a condition does not hold), `near` (too far away, or without a position), `record` (searches find
    no records), `as_of` (accepted later), `superseded` (another memory supersedes it), `not_ranked` (not among the memories that are ranked), `min_score` (below the least score) or `rank`
    (others are better). `path`: the field of the request.
    """

    code: Literal["filters", "near", "record", "as_of", "superseded", "not_ranked", "min_score", "rank"]
    path: str
    message: str


class ExplainResponse(Struct):
    """The place of a memory in a search.

    `found`: it is among the best k; then `reasons` is empty. `rank`: 1 is the best; null where it is not ranked.
    `ranked`: how many memories are ranked. `last_score`: the score of the last of the best k, null without any.
    `fresh`: the write of `after` is in it.
    """

    memory: FoundMemory
    found: bool
    rank: int | None
    ranked: int
    k: int
    last_score: float | None
    reasons: Sequence[Reason]
    fresh: bool


class Places(ReadRequest):
    """Whose memories, and in which cells. Exactly one of `agent_id`, `agent_ids` and `scope` is required."""

    agent_id: AgentId | None = None
    agent_ids: Annotated[list[AgentId], Meta(min_length=1, max_length=MAX_AGENTS)] | None = None
    scope: Literal["tenant"] | None = None
    cell: (
        Annotated[float, Meta(ge=1, description="The length of a cell's side, in nodes; default 16.")] | None
    ) = None
    y_from: Bound | None = None
    y_to: Bound | None = None
    type: Annotated[str, Meta(max_length=MAX_TYPE_CHARS)] | None = None
    since: Time | None = None
    until: Time | None = None
    filters: Filters | EmptyList | None = None


class Place(Struct):
    """A cell. `x`, `z`: its least coordinates, multiples of its side. `newest`: the newest timestamp in it."""

    x: float
    z: float
    count: int
    newest: float


class PlacesResponse(Struct):
    """The cells with the most memories first, at most 10,000. `total`: the memories in all cells.

    `bounds`: the least and the greatest coordinate of each axis, null without memories.
    """

    places: Sequence[Place]
    cells: int
    total: int
    bounds: Mapping[str, Sequence[float]] | None
