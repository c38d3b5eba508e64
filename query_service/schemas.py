"""What callers send and get: the types behind the routes and their documentation.

Where a caller may leave a field out, null is the same as leaving it out: Luanti writes empty tables as null.
Whole numbers are floats here that are multiples of 1: Lua writes 5.0 where others write 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lorestream.http.errors import ErrorBody
from lorestream.http.request import MAX_AGENT_ID_CHARS

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
After = Annotated[
    str,
    Meta(description="The token of a write: the search waits until that was processed, at most `wait_ms`."),
]
WaitMs = Annotated[float, Meta(ge=0, le=60_000, description="Milliseconds; default 500.")]
Filters = Annotated[
    dict[str, Any],
    Meta(
        description=(
            "All entries must hold. A value asks for equality, a list for any of its values, an object for all of its"
            " operators: `eq ne in nin gt gte lt lte contains exists`. `AND` and `OR` take a list of filters, `NOT` a"
            " filter. At most 32 conditions, 4 deep. `type`, `tick`, `timestamp`, `importance`, `player`, `server`,"
            " `pos.x`, `pos.y` and `pos.z` are the memory's own, any other name is metadata."
        )
    ),
]
Bound = Annotated[float, Meta(description="Inclusive.")]
Time = Annotated[float, Meta(description="Unix seconds, inclusive.")]
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
    """A search. Exactly one of `agent_id`, `agent_ids` and `scope` is needed.

    `mode`: `dense` (default), `keyword` (BM25) or `hybrid`. Without a query there is none: newest first, or by the
    weights that remain.
    """

    agent_id: AgentId | None = None
    agent_ids: Annotated[list[AgentId], Meta(min_length=1, max_length=MAX_AGENTS)] | None = None
    scope: Literal["tenant"] | None = None
    query: Query | None = None
    k: TopK | None = None
    filters: Filters | None = None
    near: Near | None = None
    mode: Mode | None = None
    weights: Weights | None = None
    min_score: Annotated[float, Meta(description="Held against the final score.")] | None = None
    explain: Annotated[bool, Meta(description="Whether to give the parts of the score.")] | None = None
    after: After | None = None
    wait_ms: WaitMs | None = None


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
    after: After | None = None
    wait_ms: WaitMs | None = None


class AgentPlace(Struct):
    """An agent, known or not: one without memories has none to show."""

    agent_id: AgentId


class MemoryPlace(Struct):
    """A memory's id."""

    id: str


class OneParams(_Request):
    """Whose memory it is."""

    agent_id: AgentId


class RecentParams(_Request):
    """Which memories, and in which order. In an address there is no null: `until=null` is no number."""

    order: Literal["recent", "oldest"] = "recent"
    limit: Limit = 20
    cursor: Annotated[str, Meta(description="The `next_cursor` of the page before.")] | UnsetType = UNSET
    type: str | UnsetType = UNSET
    tick_from: Bound | UnsetType = UNSET
    tick_to: Bound | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET
    filters: Annotated[str, Meta(description="A JSON object: the filters of a search.")] | UnsetType = UNSET


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


class ContextMemories(Struct):
    """What a context holds, before it is said how it was come by."""

    recent: Sequence[StoredMemory]
    relevant: Sequence[FoundMemory]
    text: str
    tokens: int


class ContextAnswer(ContextMemories):
    """Memories for a prompt. None stands in both lists, and what did not fit whole stands in neither.

    `relevant` by score, `recent` from the newest; `text` holds them all, the oldest first, one line each: the time
    in UTC (the date only where it changes) and what was remembered. `tokens` are those of `text`, as the embedding
    model counts them.
    """

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
