"""The arguments of the tools. Their JSON schemas, with these descriptions, are what a language model reads."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from lorestream.limits import (
    MAX_ABOUT,
    MAX_AGENT_ID_CHARS,
    MAX_DOCUMENT_BYTES,
    MAX_EVENT_BYTES,
    MAX_EVENT_ID_CHARS,
    MAX_K,
    MAX_PAGE_SIZE,
    MAX_PLAYER_CHARS,
    MAX_SOURCES,
    MAX_TOKEN_BUDGET,
    MAX_TYPE_CHARS,
    AgentId,
    DocumentType,
    Query,
)

WAIT_S = 5.0
"""How long a tool that writes waits until reads show what it wrote."""

_AgentId = Annotated[
    AgentId, Meta(description="Whose memory: the id of an agent, such as `npc:smith` or `player:ann`.")
]
_Filters = Annotated[
    dict[str, Any],
    Meta(
        description=(
            "Conditions that all must hold: a value means equality, a list any of its values, an object operators"
            " (`eq ne in nin gt gte lt lte contains exists`); `AND`, `OR`, `NOT` combine. Fields: `type`, `tick`,"
            " `timestamp`, `importance`, `player`, `server`, `about`, `pos.x`, `pos.y`, `pos.z`; any other name is a"
            ' metadata key. Example: {"type": "trade", "price": {"gte": 10}}'
        ),
        examples=[{"type": "trade", "price": {"gte": 10}}],
    ),
]
_Time = Annotated[float, Meta(description="Unix seconds, inclusive.")]
_AsOf = Annotated[float, Meta(description="Unix seconds: answer with what the agent knew at this time.")]
_Superseded = Annotated[
    bool, Meta(description="true: also show memories that newer ones replace, with `superseded_by`.")
]
_K = Annotated[int, Meta(ge=1, le=MAX_K, description=f"The most memories to return, 1 to {MAX_K}.")]
_Type = Annotated[str, Meta(min_length=1, description="Only memories of this type, such as `chat`.")]


class Remember(Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of `remember`."""

    agent_id: _AgentId
    text: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_EVENT_BYTES,
            description="What to remember, as one self-contained sentence or a few."
            f" At most {MAX_EVENT_BYTES // 1024} KiB with metadata.",
        ),
    ]
    type: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_TYPE_CHARS,
                description="The kind of memory, such as `chat`, `trade` or `plan`.",
            ),
        ]
        | None
    ) = None
    importance: (
        Annotated[float, Meta(ge=0, le=10, description="0 (trivial) to 10 (vital); 5 if left out.")] | None
    ) = None
    player: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_PLAYER_CHARS,
                description="The plain name of the player that it concerns. Stored under a pseudonym.",
            ),
        ]
        | None
    ) = None
    about: (
        Annotated[
            list[Annotated[str, Meta(min_length=1)]],
            Meta(max_length=MAX_ABOUT, description="Whom it is about: ids of agents or names of players."),
        ]
        | None
    ) = None
    sources: (
        Annotated[
            list[str], Meta(max_length=MAX_SOURCES, description="The ids of the memories that it rests on.")
        ]
        | None
    ) = None
    supersedes: (
        Annotated[
            str,
            Meta(
                min_length=1,
                description="The id of the agent's memory that this one replaces: reads leave that one out from now on.",
            ),
        ]
        | None
    ) = None
    metadata: (
        Annotated[
            dict[str, Any], Meta(description="Further fields as a JSON object; filters can ask for them.")
        ]
        | None
    ) = None
    ttl: (
        Annotated[
            float,
            Meta(
                ge=0,
                description="Seconds until it is forgotten; 0 = never. If left out: the server's default.",
            ),
        ]
        | None
    ) = None
    id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_EVENT_ID_CHARS,
                description="An id of your own. The same id again adds no second memory: safe to retry.",
            ),
        ]
        | None
    ) = None


class Recall(Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of `recall`."""

    agent_id: _AgentId
    query: (
        Annotated[
            Query,
            Meta(
                description="What to look for, in plain words, such as `where did I see pine trees`."
                " If left out: the newest memories that pass the filters.",
            ),
        ]
        | None
    ) = None
    k: _K = 5
    mode: Annotated[
        Literal["hybrid", "dense", "keyword"],
        Meta(description="`hybrid`: by meaning and words; `dense`: by meaning; `keyword`: by words."),
    ] = "hybrid"
    filters: _Filters | None = None
    recency: (
        Annotated[
            float,
            Meta(
                ge=0,
                description="How much newer memories are preferred: 0 = not at all, 1 = as much as relevance counts.",
            ),
        ]
        | None
    ) = None
    min_score: Annotated[float, Meta(description="Leave out memories whose score is lower.")] | None = None
    as_of: _AsOf | None = None
    superseded: _Superseded = False


class Context(Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of `context`."""

    agent_id: _AgentId
    query: (
        Annotated[
            Query,
            Meta(
                description="The situation or question at hand. If left out: only the newest memories.",
            ),
        ]
        | None
    ) = None
    relevant: Annotated[int, Meta(ge=0, le=MAX_K, description="The most relevant memories: how many.")] = 5
    recent: Annotated[int, Meta(ge=0, le=MAX_K, description="The newest memories: how many.")] = 10
    token_budget: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_TOKEN_BUDGET,
            description="The most tokens of the text, counted by the embedding model.",
        ),
    ] = 1000
    as_of: _AsOf | None = None
    include_state: Annotated[
        bool, Meta(description="Whether the agent's character (name, personality, goals) stands first.")
    ] = False


class Recent(Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of `recent`."""

    agent_id: _AgentId
    limit: Annotated[
        int, Meta(ge=1, le=MAX_PAGE_SIZE, description=f"How many memories, 1 to {MAX_PAGE_SIZE}.")
    ] = 20
    order: Annotated[
        Literal["recent", "oldest"], Meta(description="`recent`: newest first; `oldest`: oldest first.")
    ] = "recent"
    type: _Type | None = None
    conversation: (
        Annotated[str, Meta(min_length=1, description="Only messages of this conversation.")] | None
    ) = None
    since: _Time | None = None
    until: _Time | None = None
    as_of: _AsOf | None = None
    superseded: _Superseded = False
    cursor: (
        Annotated[str, Meta(min_length=1, description="`next_cursor` of the page before, for the next page.")]
        | None
    ) = None


class About(Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of `about`."""

    agent_id: _AgentId
    who: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=max(MAX_AGENT_ID_CHARS, MAX_PLAYER_CHARS),
            description="Somebody: the id of an agent, or the plain name of a player.",
        ),
    ]
    query: (
        Annotated[
            Query,
            Meta(
                description="What about them, such as `promises and debts`. If left out: anything.",
            ),
        ]
        | None
    ) = None
    k: _K = 10


class Forget(Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of `forget`."""

    agent_id: _AgentId
    memory_id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                description="The `id` of the one memory to delete. If left out, EVERYTHING that the agent remembers"
                " is erased.",
            ),
        ]
        | None
    ) = None


_StateType = Annotated[
    DocumentType,
    Meta(
        description="Which document: `character` (name, personality, beliefs, goals) or a type of your own.",
    ),
]


class GetState(Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of `get_state`."""

    agent_id: _AgentId
    type: _StateType = "character"
    version: (
        Annotated[int, Meta(ge=1, description="An earlier version; the present one if left out.")] | None
    ) = None


class PutState(Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of `put_state`."""

    agent_id: _AgentId
    data: Annotated[
        dict[str, Any],
        Meta(description=f"The document: a JSON object of at most {MAX_DOCUMENT_BYTES // 1024} KiB."),
    ]
    type: _StateType = "character"
    merge: Annotated[
        bool,
        Meta(
            description="true: change only the given fields, null removes one (JSON Merge Patch)."
            " false: replace the whole document."
        ),
    ] = False
    if_version: (
        Annotated[
            int,
            Meta(
                ge=0,
                description="Write only if this is the present version (0: if there is none), so that no change of"
                " another is lost.",
            ),
        ]
        | None
    ) = None
