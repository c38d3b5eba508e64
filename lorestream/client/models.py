"""The types of the clients: events, and the results of calls. Those of documents and learning: `state_models`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import msgspec

from lorestream.client.state_models import Entity

Order: TypeAlias = Literal["recent", "oldest"]
Mode: TypeAlias = Literal["dense", "keyword", "hybrid"]


class Event(TypedDict, total=False):
    """An event in its JSON form. `agent_id`, and `text` or `type`, are required.

    `id` is the producer's and is never used for another event; `ttl` is in seconds, 0 = for ever; `time` is in
    Unix seconds; `importance` goes from 0 to 10. `about`: agent ids and player names. `sources`: ids of memories that it
    rests on. `supersedes`: the id of the memory that it replaces.
    """

    id: str
    agent_id: str
    type: str
    text: str
    data: Mapping[str, Any]
    player: str
    pos: Mapping[str, float]
    tick: float
    time: float
    importance: float
    ttl: float
    metadata: Mapping[str, Any]
    about: Sequence[str]
    sources: Sequence[str]
    supersedes: str


class Near(TypedDict, total=False):
    """A sphere, in nodes. `radius` is required; a coordinate that is left out is not compared."""

    x: float
    y: float
    z: float
    radius: float


class Weights(TypedDict, total=False):
    """The weights of the parts of the score. A part that is left out weighs 0, relevance 1.

    `normalise`: True stretches relevance to 0 to 1 over the memories that are ranked, as recency and importance are.
    """

    relevance: float
    recency: float
    importance: float
    half_life_s: float
    recency_of: Literal["time", "access"]
    normalise: bool


class Reject(msgspec.Struct, frozen=True):
    """Why the event at `index` was not accepted."""

    index: int
    code: str
    message: str


class Receipt(msgspec.Struct, frozen=True):
    """The result of a write. `ids` has one memory id per event, None for a rejected one."""

    accepted: int
    rejected: list[Reject]
    ids: list[str | None]
    token: str
    indexed: bool = False


class FoundMemory(msgspec.Struct, frozen=True):
    """A memory in a response. Times are Unix seconds."""

    id: str
    agent_id: str
    text: str
    timestamp: float
    type: str | None = None
    metadata: dict[str, Any] = {}
    pos: dict[str, float] | None = None
    tick: float | None = None
    importance: float = 5.0
    server: str = ""
    player: str | None = None
    accepted_at: float = 0.0
    expires_at: float | None = None
    truncated: bool = False
    score: float | None = None
    score_details: dict[str, float] | None = None
    about: list[str] = []
    """Agent ids, and pseudonyms of players."""
    sources: list[str] = []
    supersedes: str | None = None
    superseded_by: str | None = None
    """The newest memory that replaces it, where the read asked for superseded memories."""
    vector: bytes | None = None
    """Only in `get_many` with vectors: float32 numbers in little-endian order. Records have none."""


class SearchAnswer(msgspec.Struct, frozen=True):
    """The memories, best first. `took_ms` is the time in the server."""

    memories: list[FoundMemory]
    cache: str = "off"
    fresh: bool = True
    took_ms: float = 0.0


class Page(msgspec.Struct, frozen=True):
    """One page of memories in the order of time; `next_cursor` is for the next page, None on the last one."""

    memories: list[FoundMemory]
    total: int
    next_cursor: str | None = None


class Context(msgspec.Struct, frozen=True):
    """Memories for a prompt, each in one list. `text` has all of them, oldest first.

    `neighbours` stand next to the relevant ones. `state` is the agent's character, if it has one. `tokens` is the number of tokens of `text` for the embedding model.
    """

    recent: list[FoundMemory]
    relevant: list[FoundMemory]
    text: str
    tokens: int
    cache: str = "off"
    fresh: bool = True
    took_ms: float = 0.0
    neighbours: list[FoundMemory] = []
    state: Entity | None = None


class Memories(msgspec.Struct, frozen=True):
    """Memories in the order of the ids that were asked for."""

    memories: list[FoundMemory]


class Summary(msgspec.Struct, frozen=True):
    """What an agent has. `by_type`: memories without a type are under "". `first`, `last`: Unix seconds."""

    agent_id: str
    total: int
    by_type: dict[str, int]
    first: float | None = None
    last: float | None = None


class Reason(msgspec.Struct, frozen=True):
    """Why a memory is not among the best k: `path` is the field of the search that matters."""

    code: str
    path: str
    message: str


class Explanation(msgspec.Struct, frozen=True):
    """The place of a memory in a search.

    `found`: it is among the best k; then there are no `reasons`. `rank`: 1 is the best; None where it is not among the
    `ranked` memories. `last_score`: the score of the last of the best k. `memory` has its score and the parts of it.
    """

    memory: FoundMemory
    found: bool
    ranked: int
    k: int
    reasons: list[Reason]
    rank: int | None = None
    last_score: float | None = None


class ListedErasure(msgspec.Struct, frozen=True):
    """An erasure. `kind`: "agent" or "player"; `subjects`: the stored forms of its id or name. Times in Unix seconds.

    `state`: "running" or "done". From `log_gone_by` and `dead_letters_gone_by` on these hold nothing of what it covers.
    """

    erasure_id: str
    kind: str
    subjects: list[str]
    state: str
    accepted_at: float
    log_gone_by: float
    dead_letters_gone_by: float


class Erasures(msgspec.Struct, frozen=True):
    """The answer of `erasures`."""

    erasures: list[ListedErasure]


class LikenessPoint(msgspec.Struct, frozen=True):
    """A memory, the beginning of its text, and its place among the others. `timestamp`: Unix seconds."""

    id: str
    agent_id: str
    text: str
    timestamp: float
    x: float
    y: float
    type: str | None = None


class LikenessMap(msgspec.Struct, frozen=True):
    """The points, the newest first. `explained`: the share of the variance that x and y show; `total`: how many match."""

    points: list[LikenessPoint]
    explained: tuple[float, float]
    total: int


class Place(msgspec.Struct, frozen=True):
    """A cell: its least coordinates, how many memories it has, and the time of the newest (Unix seconds)."""

    x: float
    z: float
    count: int
    newest: float


class Places(msgspec.Struct, frozen=True):
    """The fullest cells first. `cells`, `total`: how many cells, and memories in them, there are in all.

    `bounds`: the least and the greatest coordinate of each axis; None without memories.
    """

    places: list[Place]
    cells: int
    total: int
    bounds: dict[str, tuple[float, float]] | None = None


class Relation(msgspec.Struct, frozen=True, rename={"other": "with"}):
    """What connects an agent with `other`: an agent id, or a player's pseudonym. `last`: Unix seconds.

    `valence`: the sum of that number of the metadata; None where no float can hold it.
    """

    other: str
    total: int
    last: float
    valence: float | None = 0.0


class Relations(msgspec.Struct, frozen=True):
    """Those with the most memories first."""

    relations: list[Relation]


class Superseded(msgspec.Struct, frozen=True):
    """A memory that replaces another one was accepted. `id` is its id."""

    id: str
    token: str
    indexed: bool = False


class AgentTotal(msgspec.Struct, frozen=True):
    """An agent and its number of memories."""

    agent_id: str
    total: int


class Erasure(msgspec.Struct, frozen=True):
    """A deletion that was accepted. A read with `after=token` does not show the deleted memories."""

    erasure_id: str
    token: str = ""


class Agents(msgspec.Struct, frozen=True):
    """The agents with the most memories, most first."""

    agents: list[AgentTotal]


class ErasureState(msgspec.Struct, frozen=True):
    """The state of an erasure: running or done."""

    state: str


class RewindReceipt(msgspec.Struct, frozen=True):
    """A rewind, or its undoing, that was accepted. A read with `after=token` shows what it leaves."""

    rewind_id: str
    token: str


class Rewind(msgspec.Struct, frozen=True):
    """It hides what `server` sent after `to` and up to `accepted_at`. Times are Unix seconds.

    `state`: running, then done; after its undoing undoing, then undone.
    """

    rewind_id: str
    server: str
    to: float
    accepted_at: float
    state: str
    undone_at: float | None = None


class Rewinds(msgspec.Struct, frozen=True):
    """Rewinds, the newest first."""

    rewinds: list[Rewind]


class RewindSize(msgspec.Struct, frozen=True):
    """How much a rewind would hide: memories, records included, and how many agents have them."""

    memories: int
    agents: int


class Health(msgspec.Struct, frozen=True):
    """Whether a service is alive."""

    status: str


class Readiness(msgspec.Struct, frozen=True):
    """Whether a service can do its job. `checks` has one entry for each part: "ok", or what is missing."""

    status: str
    checks: dict[str, str] = {}

    @property
    def ok(self) -> bool:
        """Whether the service can do its job."""
        return self.status == "ok"


class Document(msgspec.Struct, frozen=True):
    """An OpenAPI document; only the version is read."""

    class Info(msgspec.Struct, frozen=True):
        """The `info` object."""

        version: str

    info: Info
