"""What is remembered and how it is asked for: frozen values, no behaviour of any backend.

Times are Unix seconds as floats, distances are nodes. `agent_id` and `player` are always in their stored
form here (player names replaced, see `lorestream.identity`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Scalar: TypeAlias = "str | int | float | bool"


@dataclass(frozen=True, slots=True, order=True)
class AgentKey:
    """An agent within its tenant: the unit of isolation, of caching and of Kafka's partitioning."""

    tenant: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class Memory:
    """One remembered event, as the store keeps it and as readers get it."""

    id: str
    tenant: str
    agent_id: str
    text: str
    timestamp: float
    accepted_at: float
    server: str = ""
    type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pos: Mapping[str, float] | None = None
    tick: float | None = None
    importance: float = 5.0
    player: str | None = None
    agent_player: str | None = None
    """The player that the agent is named after (stored form), if it is."""
    expires_at: float | None = None
    truncated: bool = False
    lasting_agent: str | None = None
    """What the store's own id is made of in place of `agent_id`."""

    @property
    def position(self) -> Position:
        """Where the memory stands in time: by timestamp, then acceptance, then id."""
        return (self.timestamp, self.accepted_at, self.id)


Position: TypeAlias = "tuple[float, float, str]"
"""(timestamp, accepted_at, id): the total order of memories, and what a cursor holds."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that answers a search. `relevance`: the cosine, in [-1, 1]; of a KeywordQuery BM25, above 0."""

    memory: Memory
    relevance: float


# --- filters -------------------------------------------------------------------------------------------


class Op(StrEnum):
    """The conditions on one field. `ne` and `nin` are parsed into `Not` of `eq` and `in`."""

    EQ = "eq"
    IN = "in"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    CONTAINS = "contains"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a memory. `path` has one part for an own field, or starts with "metadata"."""

    path: tuple[str, ...]

    @property
    def is_metadata(self) -> bool:
        """True for a path in the metadata, False for one of the memory's own fields."""
        return self.path[0] == "metadata"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison. On a list it holds when one element satisfies it.

    `value` is a scalar for eq, contains; a number for gt, gte, lt, lte; a tuple of scalars for in; a bool
    for exists. Numbers compare as numbers, booleans equal only booleans.
    """

    field: Field
    op: Op
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class And:
    """Holds when all parts hold; empty holds always."""

    parts: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """Holds when one part holds; empty holds never."""

    parts: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """Holds when its part does not."""

    part: Filter


Filter: TypeAlias = "Condition | And | Or | Not"

EVERYTHING = And()


# --- questions to a store --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose memories are asked for: some agents of a tenant, or (agents is None) the whole tenant."""

    tenant: str
    agents: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Blend:
    """The weighted mean of relevance (not below 0), recency and importance / 10, each in [0, 1].

    Recency is 0.5 ^ (age / half-life), an exponential decay as in Park et al. 2023 (Generative Agents).
    `weights`: of the parts that weigh, all above 0 and the largest 1, so that their sum stays finite.
    `pool`: how many of the most relevant memories it ranks.
    """

    weights: Mapping[str, float]
    half_life_s: float
    pool: int

    def parts(self, memory: Memory, relevance: float, now: float) -> dict[str, float]:
        """The parts that weigh, of a memory at the time `now`."""
        every = {
            "relevance": max(0.0, relevance),
            "recency": 0.5 ** (max(0.0, now - memory.timestamp) / self.half_life_s),
            "importance": min(1.0, max(0.0, memory.importance / 10)),
        }
        return {name: every[name] for name in self.weights}

    def mean(self, parts: Mapping[str, float]) -> float:
        """The score."""
        weighted = math.fsum(weight * parts[name] for name, weight in self.weights.items())
        return weighted / math.fsum(self.weights.values())

    @property
    def fades(self) -> bool:
        """Whether the scores change by themselves as time goes."""
        return "recency" in self.weights


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """The `k` memories of `scope` nearest to `vector` by cosine, ties by newer, none below `min_relevance`.

    With `blend`: of its pool of those nearest, the `k` best by their blend.
    """

    scope: Scope
    vector: Sequence[float]
    k: int
    now: float
    filter: Filter = EVERYTHING
    min_relevance: float | None = None
    blend: Blend | None = None


@dataclass(frozen=True, slots=True)
class KeywordQuery:
    """The `k` memories of `scope` that share most words with `text`, by BM25, ties by newer.

    How rare a word is counts in the whole store, so scores compare within one answer only.
    """

    scope: Scope
    text: str
    k: int
    now: float
    filter: Filter = EVERYTHING


@dataclass(frozen=True, slots=True)
class PageQuery:
    """`limit` memories of `scope` in their order, newest first unless `oldest_first`, strictly after `after`."""

    scope: Scope
    limit: int
    now: float
    filter: Filter = EVERYTHING
    oldest_first: bool = False
    after: Position | None = None


class SubjectKind(StrEnum):
    """What an erasure takes."""

    AGENT = "agent"
    PLAYER = "player"


@dataclass(frozen=True, slots=True)
class Erasure:
    """Takes everything of `subjects` that was accepted up to `accepted_at`.

    `subjects` are all stored forms of one agent id or player name (one per live player key).
    """

    id: str
    tenant: str
    kind: SubjectKind
    subjects: tuple[str, ...]
    accepted_at: float

    def covers(self, memory: Memory) -> bool:
        """Whether this erasure takes the memory."""
        if memory.tenant != self.tenant or memory.accepted_at > self.accepted_at:
            return False
        if self.kind is SubjectKind.AGENT:
            return memory.agent_id in self.subjects
        return memory.player in self.subjects or memory.agent_player in self.subjects
