"""Response types of the query service's HTTP routes; the OpenAPI document is made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class RewindPreviewResponse(Struct):
    """How much a rewind would hide now: `memories`, records included, of `agents` different agents."""

    memories: int
    agents: int


class Links(Struct, kw_only=True):
    """What a memory is linked with; fields are missing where there is nothing.

    `about`: agent ids and pseudonyms of players. `sources`: the ids of memories that it rests on. `supersedes`: the id of
    the memory that it replaces. `superseded_by`: the id of the newest memory that replaces it.
    """

    about: Sequence[str] | UnsetType = UNSET
    sources: Sequence[str] | UnsetType = UNSET
    supersedes: str | UnsetType = UNSET
    superseded_by: str | UnsetType = UNSET


class StoredMemory(Links):
    """A memory. Times are Unix seconds, positions are nodes. The last four fields are missing where there is nothing."""

    id: str
    agent_id: str
    text: str
    type: str | None
    metadata: Mapping[str, Any]
    pos: Mapping[str, float] | None
    tick: float | None
    timestamp: float
    importance: float
    server: str
    player: str | None
    accepted_at: float
    expires_at: float | None
    truncated: bool


class FoundMemory(StoredMemory):
    """A memory found by a search.

    `score`: of mode `hybrid` the fused score, of `dense` the cosine, of `keyword` BM25; with weights their weighted
    mean; 1 without query and weights.
    `score_details`: with `explain`, the parts of the score.
    """

    score: float
    score_details: Mapping[str, float] | UnsetType = UNSET


class SearchResponse(Struct):
    """The best k by score; among equal scores the newer come first."""

    memories: Sequence[FoundMemory]
    cache: Literal["hit", "miss", "off"]
    fresh: bool
    took_ms: float


class GotMemory(Struct):
    """A memory in the older form."""

    agent_id: str
    text: str
    metadata: Mapping[str, Any]
    timestamp: float
    score: float


class GetResponse(Struct):
    """The best k by score; among equal scores the newer come first."""

    memories: Sequence[GotMemory]


class RecentResponse(Struct):
    """A page of memories. `next_cursor`: null on the last page. `total`: the number on all pages."""

    memories: Sequence[StoredMemory]
    next_cursor: str | None
    total: int


class Entity(Struct):
    """One version of a document. Times are Unix seconds: the first version's (since the last deletion), this one's."""

    type: str
    id: str
    version: int
    data: Mapping[str, Any]
    tick: float | None
    created_at: float
    updated_at: float


class ContextMemories(Struct):
    """The memories and the text of a context."""

    recent: Sequence[StoredMemory]
    relevant: Sequence[FoundMemory]
    neighbours: Sequence[StoredMemory]
    text: str
    tokens: int
    state: Entity | None


class ContextResponse(ContextMemories):
    """Memories for a prompt, each in one list. Those that do not fit into the budget are in none.

    `relevant` by score, `recent` from the newest. `neighbours`: memories next to the relevant ones, at most one before
    and two behind each, where the budget has room for them (none with `"neighbours": 0`). `text` holds all of them, the oldest first, one line each: the time
    in UTC (the date only where it changes) and the text. `tokens`: the tokens of `text`, as the embedding model
    counts them. `state`: the agent's document of the type `character`, or null; it counts as tokens only where
    `include_state` puts it into the text.
    """

    cache: Literal["hit", "miss", "off"]
    fresh: bool
    took_ms: float


class Relation(Struct, rename={"with_": "with"}):
    """What connects an agent with another agent or a player. `with`: its agent id, or the player's pseudonym.

    `total`: the number of memories. `last`: the latest timestamp. `valence`: the sum of the numbers in
    `metadata.valence`, 0 without any. A sum that no float can hold is null.
    """

    with_: str
    total: int
    last: float
    valence: float | None


class RelationsResponse(Struct):
    """Those with the most memories first."""

    relations: Sequence[Relation]


class AgentTotal(Struct):
    """An agent and its number of memories."""

    agent_id: str
    total: int


class AgentsResponse(Struct):
    """The agents with the most memories first; equal ones by id."""

    agents: Sequence[AgentTotal]


class SummaryResponse(Struct):
    """`by_type`: memories without a type are under "". `first`, `last`: timestamps of the oldest and newest memory."""

    agent_id: str
    total: int
    by_type: Mapping[str, int]
    first: float | None
    last: float | None
