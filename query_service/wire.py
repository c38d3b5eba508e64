"""What callers send and get: the types behind the routes and their documentation.

Where a caller may leave a field out, null is the same as leaving it out: Luanti writes empty tables as null.
Whole numbers are floats here that are multiples of 1: Lua writes 5.0 where others write 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from engram.http.call import MAX_AGENT_ID_CHARS
from engram.http.openapi import ErrorBody

MAX_SEARCHES = 64
MAX_AGENTS = 64
MAX_K = 100
DEFAULT_K = 5
MAX_PAGE = 1000
DEFAULT_RECENT = 10
DEFAULT_RELEVANT = 5
DEFAULT_TOKEN_BUDGET = 1000
MAX_TOKEN_BUDGET = 100_000

AgentId = Annotated[str, Meta(min_length=1, max_length=MAX_AGENT_ID_CHARS)]
Query = Annotated[str, Meta(min_length=1, max_length=8192)]
TopK = Annotated[float, Meta(ge=1, le=MAX_K, multiple_of=1, description="A whole number; default 5.")]
Filters = Annotated[
    dict[str, Any],
    Meta(
        description="Equality, a list for any of, operators eq ne in nin gt gte lt lte contains exists, AND OR NOT."
    ),
]
Mode = Literal["dense", "keyword", "hybrid"]
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE)]


class _Request(Struct, forbid_unknown_fields=True):
    """A read: what it does not know is refused, so that a misspelt field does not look like an answer."""


# --- requests --------------------------------------------------------------------------------------------


class Near(_Request):
    """A sphere, in nodes; a coordinate left out is not compared."""

    radius: Annotated[float, Meta(ge=0)]
    x: float | None = None
    y: float | None = None
    z: float | None = None


class Weights(_Request):
    """The score becomes the weighted mean; a part not named weighs 0, except relevance 1."""

    relevance: Annotated[float, Meta(ge=0)] | None = None
    recency: Annotated[float, Meta(ge=0)] | None = None
    importance: Annotated[float, Meta(ge=0)] | None = None
    half_life_s: Annotated[float, Meta(gt=0)] | None = None


class Search(_Request):
    """A search. Exactly one of agent_id, agent_ids and scope. Without a query: newest first."""

    agent_id: AgentId | None = None
    agent_ids: Annotated[list[AgentId], Meta(min_length=1, max_length=MAX_AGENTS)] | None = None
    scope: Literal["tenant"] | None = None
    query: Query | None = None
    k: TopK | None = None
    filters: Filters | None = None
    near: Near | None = None
    mode: Mode | None = None
    weights: Weights | None = None
    min_score: float | None = None
    explain: bool | None = None
    after: str | None = None
    wait_ms: Annotated[float, Meta(ge=0, le=60_000)] | None = None


class SearchBatch(_Request):
    """Several searches, each answered or refused on its own."""

    searches: Annotated[list[Search], Meta(max_length=MAX_SEARCHES)]


class RawBatch(_Request):
    """The same before its searches are read."""

    searches: Annotated[list[Raw], Meta(max_length=MAX_SEARCHES)]


class Get(_Request):
    """The older form of a search: the question in `query` or `query_text`."""

    agent_id: AgentId
    query: Query | None = None
    query_text: Query | None = None
    k: TopK | None = None
    filters: Filters | None = None


class Context(_Request):
    """What a context is made of. Without a query, or with `relevant` 0, of the newest memories alone."""

    query: Query | None = None
    recent: (
        Annotated[
            float, Meta(ge=0, le=MAX_K, multiple_of=1, description="How many of the newest; default 10.")
        ]
        | None
    ) = None
    relevant: (
        Annotated[float, Meta(ge=0, le=MAX_K, multiple_of=1, description="How many of the best; default 5.")]
        | None
    ) = None
    token_budget: (
        Annotated[
            float, Meta(ge=1, le=MAX_TOKEN_BUDGET, multiple_of=1, description="Tokens at most; default 1000.")
        ]
        | None
    ) = None
    filters: Filters | None = None
    after: str | None = None
    wait_ms: Annotated[float, Meta(ge=0, le=60_000)] | None = None


class OneParams(_Request):
    """Whose memory it is."""

    agent_id: AgentId


class RecentParams(_Request):
    """Bounds are inclusive, times Unix seconds; `filters` is percent-encoded JSON."""

    order: Literal["recent", "oldest"] = "recent"
    limit: Limit = 20
    cursor: str | None = None
    type: str | None = None
    tick_from: float | None = None
    tick_to: float | None = None
    since: float | None = None
    until: float | None = None
    filters: str | None = None


class AgentsParams(_Request):
    """How many agents at most."""

    limit: Limit = 100


class NoParams(_Request):
    """Nothing can be chosen here."""


# --- answers ---------------------------------------------------------------------------------------------


class StoredMemory(Struct):
    """A memory. Times are Unix seconds, the place in nodes."""

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
    """A memory that answers a search.

    `score`: the cosine, BM25, the fused rank, or the weighted mean; without query and weights all match alike: 1.
    `score_details`, with `explain`: the parts that weigh in it.
    """

    score: float
    score_details: Mapping[str, float] | UnsetType = UNSET


class SearchAnswer(Struct):
    """By score, ties by newer."""

    memories: Sequence[FoundMemory]
    cache: Literal["hit", "miss", "off"]
    fresh: bool
    took_ms: float


class BatchResult(Struct):
    """The answer to one search of a batch; `error` alone where it was refused."""

    memories: Sequence[FoundMemory] | UnsetType = UNSET
    cache: Literal["hit", "miss", "off"] | UnsetType = UNSET
    fresh: bool | UnsetType = UNSET
    took_ms: float | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class BatchAnswer(Struct):
    """In the order of the searches, each answered or refused as by a call of its own."""

    results: Sequence[BatchResult]


class GotMemory(Struct):
    """A memory in the older form."""

    agent_id: str
    text: str
    metadata: Mapping[str, Any]
    timestamp: float
    score: float


class GetAnswer(Struct):
    """By score, ties by newer."""

    memories: Sequence[GotMemory]


class RecentAnswer(Struct):
    """A page, and how many there are in all. No `next_cursor`: this was the last one."""

    memories: Sequence[StoredMemory]
    next_cursor: str | None
    total: int


class ContextAnswer(Struct):
    """Memories for a prompt. None stands in both lists, and what did not fit whole stands in neither.

    `relevant` by score, `recent` from the newest; `text` holds them all, the oldest first, one line each: the time
    in UTC (the date only where it changes) and what was remembered. `tokens` are those of `text`, as the embedding
    model counts them.
    """

    recent: Sequence[StoredMemory]
    relevant: Sequence[FoundMemory]
    text: str
    tokens: int
    cache: Literal["hit", "miss", "off"]
    fresh: bool
    took_ms: float


class AgentTotal(Struct):
    """An agent and how many memories it has."""

    agent_id: str
    total: int


class AgentsAnswer(Struct):
    """The largest first, equal ones by id."""

    agents: Sequence[AgentTotal]


class SummaryAnswer(Struct):
    """`by_type`: memories without a type stand under ""; `first` and `last`: timestamps of the oldest and newest."""

    agent_id: str
    total: int
    by_type: Mapping[str, int]
    first: float | None
    last: float | None
