"""The msgspec types of the gateway's routes: events, parameters, bodies, responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from lorestream.limits import (
    MAX_ABOUT,
    MAX_EVENT_ID_CHARS,
    MAX_EVENTS,
    MAX_PLAYER_CHARS,
    MAX_SOURCES,
    MAX_TIME,
    MAX_TYPE_CHARS,
    MIN_TIME,
    AgentId,
    EmptyList,
    JsonObject,
    PlayerName,
    ServerName,
)

MAX_WAIT_MS = 60_000.0

Ttl: TypeAlias = Annotated[
    float, Meta(ge=0, description="Seconds from acceptance; absent = the default, 0 = for ever.")
]
EventId: TypeAlias = Annotated[
    str,
    Meta(
        max_length=MAX_EVENT_ID_CHARS,
        description="The producer's id of the event, unique within its server and agent. Without one, a retry makes"
        " a second memory.",
    ),
]

About: TypeAlias = Annotated[
    list[Annotated[str, Meta(min_length=1)]],
    Meta(
        max_length=MAX_ABOUT,
        description=(
            "Whom it is about: agent ids, which have a colon, and plain player names, which have none or are written"
            " `player:NAME`. Names of players are stored as pseudonyms. Filters find it by"
            ' `{"about": {"contains": …}}`.'
        ),
    ),
]
Sources: TypeAlias = Annotated[
    list[str],
    Meta(
        max_length=MAX_SOURCES,
        description="The ids of the memories that it rests on, such as those that a summary sums up.",
    ),
]
Supersedes: TypeAlias = Annotated[
    str,
    Meta(
        description=(
            "The id of a memory of the same agent, which this one replaces: reads leave that one out unless they ask"
            ' for it (`"superseded": true`). Deleting this one brings it back.'
        )
    ),
]

# --- events ----------------------------------------------------------------------------------------------


class Coordinates(Struct):
    """Where it happened, in nodes. Any coordinate may be missing."""

    x: float | None = None
    y: float | None = None
    z: float | None = None


class Event(Struct, omit_defaults=True):
    """One thing that happened. `agent_id`, and `text` or `type`, are required. Unknown fields are ignored.

    An empty text, type, id or player counts as missing: Luanti sends "" for what is not a player.
    """

    agent_id: AgentId
    id: EventId | None = None
    type: Annotated[str, Meta(max_length=MAX_TYPE_CHARS)] | None = None
    text: (
        Annotated[str, Meta(description="Without one, the text is generated from `type` and `data`.")] | None
    ) = None
    data: JsonObject = None
    metadata: JsonObject = None
    player: Annotated[str, Meta(max_length=MAX_PLAYER_CHARS)] | None = None
    pos: Coordinates | EmptyList | None = None
    tick: float | None = None
    time: (
        Annotated[
            float,
            Meta(
                # Checked by admission, which says more about it.
                extra_json_schema={"minimum": MIN_TIME, "maximum": MAX_TIME},
                description="Unix seconds, in the years 1 to 9999; default the time of acceptance.",
            ),
        ]
        | None
    ) = None
    importance: Annotated[float, Meta(ge=0, le=10)] | None = None
    ttl: Ttl | None = None
    about: About | None = None
    sources: Sources | None = None
    supersedes: Supersedes | None = None
    recall: (
        Annotated[
            bool,
            Meta(
                description=(
                    "False: a record, which is stored in order, but not found by searches by meaning or words, nor"
                    " shown where its type is not named. Default true; false for the types `tool`, `reward`,"
                    " `interaction` and `agent_state`."
                )
            ),
        ]
        | None
    ) = None


class SupersedeBody(Event, kw_only=True):
    """The event of the memory that supersedes. `server`: as for a batch of events. `agent_id` is in the query string."""

    agent_id: AgentId | None = None  # pyright: ignore[reportIncompatibleVariableOverride,reportGeneralTypeIssues]
    server: ServerName | None = None


class EventsBody(Struct):
    """At most 1,000 events of one game server, in their order."""

    events: Annotated[list[Event], Meta(max_length=MAX_EVENTS)] | None
    server: ServerName | None = None


# --- parameters and bodies -------------------------------------------------------------------------------


class WaitParams(Struct, forbid_unknown_fields=True):
    """Whether to wait until the events are indexed."""

    wait: Annotated[Literal["indexed"], Meta(description="Answer when they can be found.")] | UnsetType = (
        UNSET
    )
    timeout_ms: Annotated[float, Meta(ge=0, description="The longest wait: 60,000 at most.")] = 5000.0


class NoParams(Struct, forbid_unknown_fields=True):
    """No parameters. A misspelt parameter is refused, because it could delete something else."""


class SupersedeParams(WaitParams, kw_only=True):
    """The agent that both memories belong to, and whether to wait until the new one can be found."""

    agent_id: AgentId


class AgentParams(Struct, forbid_unknown_fields=True):
    """The agent that the memory belongs to."""

    agent_id: AgentId


class MemoryPath(Struct):
    """A memory's id. A text that is not a memory id matches no memory."""

    id: str


class AgentPath(Struct):
    """An agent."""

    agent_id: AgentId


class PlayerPath(Struct):
    """A player, by the plain name."""

    name: PlayerName


class ErasurePath(Struct):
    """The `erasure_id` in the response to a deletion."""

    erasure_id: str


class RewindPath(Struct):
    """The `rewind_id` in the response to a rewind."""

    id: str


class RewindListParams(Struct, forbid_unknown_fields=True):
    """`limit`: how many rewinds at most."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class RewindBody(Struct, forbid_unknown_fields=True):
    """Which server, and the time of the backup that its world was restored from."""

    server: ServerName
    to: Annotated[
        float,
        Meta(ge=MIN_TIME, le=MAX_TIME, description="Unix seconds, not in the future."),
    ]
    id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_EVENT_ID_CHARS,
                description="The caller's id of the rewind: a retry with the same one makes no second rewind.",
            ),
        ]
        | None
    ) = None


class PutBody(Struct):
    """One memory as text. `ttl` and `ttl_seconds` mean the same: absent = the default, 0 = for ever.

    `context` becomes the metadata field of that name. Unknown fields are ignored.
    """

    agent_id: AgentId
    text: Annotated[str, Meta(min_length=1)]
    metadata: JsonObject = None
    ttl: Ttl | None = None
    ttl_seconds: Ttl | None = None
    context: JsonObject = None


class ErasureBody(Struct, forbid_unknown_fields=True):
    """Exactly one of: `agent_id` with `memory_id`, `agent_id`, `player`. A null counts as missing.

    A null `memory_id` beside an `agent_id` is refused: if it is a mistake, the whole agent would be erased.
    """

    agent_id: AgentId | None = None
    memory_id: str | UnsetType | None = UNSET
    player: PlayerName | None = None


class DeleteBody(Struct):
    """Exactly one of: `agent_id`, `player`. Unknown fields are ignored.

    A `memory_id` is refused, because the whole agent would be erased: `/v1/erasures` deletes one memory.
    """

    agent_id: AgentId | None = None
    player: PlayerName | None = None
    memory_id: Any = UNSET


# --- responses -------------------------------------------------------------------------------------------


class RejectedEvent(Struct):
    """An event that can never become a memory. Sending it again changes nothing."""

    index: int
    code: str
    message: str


class EventsResponse(Struct):
    """Every accepted event is durable. `ids` are the memory ids, null where the event was rejected.

    `indexed` is set only with `wait`: whether the events can be found already.
    """

    accepted: int
    rejected: list[RejectedEvent]
    ids: list[str | None]
    token: str
    retry_after_ms: int = 0
    indexed: bool | UnsetType = UNSET


class SupersedeResponse(Struct):
    """The new memory is durable. `id` is its memory id; `indexed` is set only with `wait`."""

    id: str
    token: str
    indexed: bool | UnsetType = UNSET


class PutResponse(Struct):
    """The memory is durable. `id` is its memory id."""

    success: bool
    id: str


class ErasureReceipt(Struct):
    """The erasure is durable. `token` is used like the token of a write."""

    erasure_id: str
    token: str


class ErasureProgress(Struct):
    """`done`: no read shows the erased memories. The times, in Unix seconds, say when log and dead letters expire."""

    erasure_id: str
    state: Literal["running", "done"]
    log_gone_by: float
    dead_letters_gone_by: float


class RewindReceipt(Struct):
    """The rewind, or its undoing, is durable. `token` is used like the token of a write."""

    rewind_id: str
    token: str


class RewindView(Struct):
    """A rewind: it hides what `server` sent after `to` and up to `accepted_at`. Times are Unix seconds.

    `undone_at`: when its undoing was accepted. `state`: `running` until no read shows what it hides, then `done`; after
    its undoing `undoing`, until every read shows it again, then `undone`.
    """

    rewind_id: str
    server: str
    to: float
    accepted_at: float
    undone_at: float | None
    state: Literal["running", "done", "undoing", "undone"]


class RewindList(Struct):
    """The newest rewinds."""

    rewinds: list[RewindView]


class ErasuresParams(Struct, forbid_unknown_fields=True):
    """How many erasures."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="Default 100.")] = 100


class ListedErasure(ErasureProgress):
    """An erasure, its progress, and what it is for: the stored forms of one agent id or player name."""

    kind: str
    subjects: Sequence[str]
    accepted_at: float


class ErasuresResponse(Struct):
    """The erasures of agents and players, the newest first. Deletions of single memories are not listed."""

    erasures: Sequence[ListedErasure]


class DeleteResponse(Struct):
    """The erasure is durable."""

    success: bool = True
