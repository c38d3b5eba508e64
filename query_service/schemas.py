"""Request types of the query service's HTTP routes; the OpenAPI document is made from them.

An optional field may also be null or, for an object, an empty list: Luanti writes empty tables so. Whole numbers are
declared as floats that are multiples of 1, because Lua writes 5.0 for 5.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lorestream.limits import (
    MAX_AGENT_ID_CHARS,
    MAX_AGENTS,
    MAX_K,
    MAX_PAGE_SIZE,
    MAX_TIME,
    MAX_TOKEN_BUDGET,
    MIN_TIME,
    AgentId,
    EmptyList,
    Query,
    ServerName,
)

DEFAULT_K = 5
DEFAULT_MODE = "hybrid"
DEFAULT_PAGE_SIZE = 20
MAX_LINES = 10_000
"""The most lines of a page that is streamed as NDJSON."""
DEFAULT_RECENT = 10
DEFAULT_RELEVANT = 5
DEFAULT_TOKEN_BUDGET = 1000

TopK = Annotated[float, Meta(ge=1, le=MAX_K, multiple_of=1, description="A whole number; default 5.")]
After = Annotated[
    str,
    Meta(
        description="The token of a write: the search waits until that write is indexed, at most `wait_ms`."
    ),
]
WaitMs = Annotated[float, Meta(ge=0, le=60_000, description="Milliseconds; default 500.")]
Filters = Annotated[
    dict[str, Any],
    Meta(
        description=(
            "All entries must hold. A value means equality, a list any of its values, an object all of its operators:"
            " `eq ne in nin gt gte lt lte contains exists`. `AND` and `OR` take a list of filters, `NOT` a filter."
            " At most 32 conditions, nested at most 4 deep. `exists`, comparisons and `contains` with a string on"
            " metadata, and conditions on `tick`, read each memory of the agents: their number times the number of"
            " memories may be at most 500,000 in a request, else 400 `over_budget`. `type`, `tick`, `timestamp`, `importance`, `player`,"
            " `server`, `pos.x`, `pos.y`, `pos.z`, and the lists `about` and `sources`, are fields of the memory; any other"
            " name is a metadata key."
        )
    ),
]
Bound = Annotated[float, Meta(description="Inclusive.")]
Time = Annotated[float, Meta(description="Unix seconds, inclusive.")]
AsOf = Annotated[
    float,
    Meta(
        description=(
            "Unix seconds: the answer has what was known then. That is what had been accepted, had not expired and was not"
            " superseded, as far as it is still stored; deleted memories are gone. A time in the future is the present."
        )
    ),
]
Superseded = Annotated[
    bool, Meta(description="Also show memories that another one supersedes; `superseded_by` says which one.")
]
Mode = Literal["dense", "keyword", "hybrid"]
Lift = Annotated[
    float,
    Meta(
        ge=0,
        le=1,
        description=(
            "How much the memories before and behind a memory lift its score: the best score among them, times this,"
            " times what the score lacks to 1. Memories are next to each other in the same `metadata.conversation`, or"
            " without one, within the time that the service's settings give. Default in mode `hybrid` and for a"
            " context: by the service's settings; else 0."
        ),
    ),
]
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE_SIZE)]


class ReadRequest(Struct, forbid_unknown_fields=True):
    """A read. Unknown fields are rejected, so that a misspelt filter does not return a wrong answer."""


class Near(ReadRequest):
    """A sphere. Coordinates and radius in nodes; a coordinate that is left out is not compared."""

    radius: Annotated[float, Meta(ge=0)]
    x: float | None = None
    y: float | None = None
    z: float | None = None


class Weights(ReadRequest):
    """The score is the weighted mean of the parts. Default weights: relevance 1, the others 0.

    `normalise`: relevance is stretched to 0 to 1 over the 1,000 memories that are ranked: the most relevant of them
    has 1, the least relevant 0. Otherwise relevances lie close together, and a small weight of another part decides.
    """

    relevance: Annotated[float, Meta(ge=0)] | None = None
    recency: Annotated[float, Meta(ge=0)] | None = None
    importance: Annotated[float, Meta(ge=0)] | None = None
    half_life_s: Annotated[float, Meta(gt=0)] | None = None
    recency_of: (
        Annotated[
            Literal["time", "access"],
            Meta(
                description=(
                    "What recency is counted from: the memory's time (default), or its last access, which is when a"
                    " search or a context returned it, to within five minutes. A memory without one counts by its time."
                )
            ),
        ]
        | None
    ) = None
    normalise: bool | None = None


class Search(ReadRequest):
    """A search. Exactly one of `agent_id`, `agent_ids` and `scope` is required.

    `mode`: `hybrid` (default; by meaning and words), `dense` (by meaning) or `keyword` (BM25). Without a query, `mode` is not allowed: the result is
    ordered by time, newest first, or by the other weights.
    """

    agent_id: AgentId | None = None
    agent_ids: Annotated[list[AgentId], Meta(min_length=1, max_length=MAX_AGENTS)] | None = None
    scope: Literal["tenant"] | None = None
    query: Query | None = None
    k: TopK | None = None
    filters: Filters | EmptyList | None = None
    near: Near | EmptyList | None = None
    mode: Mode | None = None
    weights: Weights | EmptyList | None = None
    neighbours: Lift | None = None
    time_words: (
        Annotated[
            bool,
            Meta(
                description=(
                    'Time words of the query, in English ("yesterday", "last spring", "two days ago", "in May"), lift'
                    " the memories of that time, reckoned in UTC from the service's clock. None is left out."
                )
            ),
        ]
        | None
    ) = None
    min_score: Annotated[float, Meta(description="The least final score.")] | None = None
    rerank: (
        Annotated[
            bool,
            Meta(
                description=(
                    "Compare the best memories with the query again, by a model that reads both together: slower, and"
                    " more exact. After `LORESTREAM_RERANKER__TIMEOUT_MS` the first order stands."
                )
            ),
        ]
        | None
    ) = None
    explain: Annotated[bool, Meta(description="Return the parts of each score.")] | None = None
    as_of: AsOf | None = None
    superseded: Superseded | None = None
    after: After | None = None
    wait_ms: WaitMs | None = None


class Get(Struct):
    """The older form of a search: the text is in `query` or `query_text`. Unknown fields are ignored."""

    agent_id: AgentId
    query: Query | None = None
    query_text: Query | None = None
    k: TopK | None = None
    filters: Filters | EmptyList | None = None


class Context(ReadRequest):
    """A context. Without a query, or with `relevant` 0, it holds the newest memories only."""

    query: Query | None = None
    recent: (
        Annotated[
            float,
            Meta(ge=0, le=MAX_K, multiple_of=1, description="How many of the newest memories; default 10."),
        ]
        | None
    ) = None
    relevant: (
        Annotated[
            float,
            Meta(
                ge=0,
                le=MAX_K,
                multiple_of=1,
                description="How many of the most relevant memories; default 5.",
            ),
        ]
        | None
    ) = None
    token_budget: (
        Annotated[
            float,
            Meta(
                ge=1,
                le=MAX_TOKEN_BUDGET,
                multiple_of=1,
                description="The most tokens of the text; default 1000.",
            ),
        ]
        | None
    ) = None
    filters: Filters | EmptyList | None = None
    neighbours: Lift | None = None
    include_state: (
        Annotated[
            bool, Meta(description="The agent's `character` stands first in `text`, and counts as tokens.")
        ]
        | None
    ) = None
    as_of: AsOf | None = None
    superseded: Superseded | None = None
    after: After | None = None
    wait_ms: WaitMs | None = None


class AgentPath(Struct):
    """An agent. An unknown one is treated as an agent without memories."""

    agent_id: AgentId


class MemoryPath(Struct):
    """A memory's id."""

    id: str


class OneParams(ReadRequest):
    """The agent that the memory belongs to."""

    agent_id: AgentId


class RecentParams(ReadRequest):
    """Which memories, and in which order. A query string has no null: `until=null` is an invalid number."""

    order: Literal["recent", "oldest"] = "recent"
    limit: (
        Annotated[
            int,
            Meta(
                ge=1,
                # More is checked by the route, because it depends on the form of the answer.
                extra_json_schema={"maximum": MAX_PAGE_SIZE},
                description=f"At most {MAX_PAGE_SIZE:,}, default 20; as NDJSON at most {MAX_LINES:,}, the default.",
            ),
        ]
        | UnsetType
    ) = UNSET
    cursor: Annotated[str, Meta(description="The `next_cursor` of the previous page.")] | UnsetType = UNSET
    type: Annotated[str, Meta(description="Also shows the records of this type.")] | UnsetType = UNSET
    conversation: (
        Annotated[str, Meta(description="The `conversation` of the metadata: a string, or a number.")]
        | UnsetType
    ) = UNSET
    tick_from: Bound | UnsetType = UNSET
    tick_to: Bound | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET
    filters: Annotated[str, Meta(description="A JSON object, as the filters of a search.")] | UnsetType = (
        UNSET
    )
    as_of: AsOf | UnsetType = UNSET
    superseded: Superseded = False


class RewindPreview(ReadRequest):
    """A rewind as in `POST /v1/rewinds`, of which only the size is asked for. `to`: Unix seconds."""

    server: ServerName
    to: Annotated[float, Meta(ge=MIN_TIME, le=MAX_TIME)]


class AgentsParams(ReadRequest):
    """`limit`: how many agents at most."""

    limit: Limit = 100
    prefix: Annotated[
        str,
        Meta(
            max_length=MAX_AGENT_ID_CHARS,
            description="Only agents whose ids begin so. Agents named after players have ids with pseudonyms.",
        ),
    ] = ""


class StreamParams(ReadRequest):
    """Which memories a stream sends. All that is given must hold."""

    agent_id: str | UnsetType = UNSET
    player: Annotated[str, Meta(min_length=1, description="The player's plain name.")] | UnsetType = UNSET
    type: Annotated[str, Meta(description="Also sends the records of this type.")] | UnsetType = UNSET


class RelationsParams(ReadRequest):
    """`limit`: how many relations at most."""

    limit: Limit = 100


class NoParams(ReadRequest):
    """No query parameters."""
