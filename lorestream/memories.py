"""Memories, filters, queries to a store, and erasures: frozen values, independent of any backend.

Times are Unix seconds as floats, distances are nodes. `agent_id` and `player` are always in their stored form (player
names replaced, see `lorestream.identity`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

from msgspec import Struct, structs

from lorestream import identity

Scalar: TypeAlias = "str | int | float | bool"


@dataclass(frozen=True, slots=True, order=True)
class AgentKey:
    """An agent of a tenant: the unit of isolation, caching and partitioning."""

    tenant: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class Correction:
    """That a memory was superseded by the memory `id` of the same agent, accepted at `accepted_at`.

    The other fields are those of the memory `id`: they tell which erasures cover it after it has expired.
    """

    id: str
    accepted_at: float
    server: str = ""
    player: str | None = None
    agent_player: str | None = None
    rewound: bool = False
    """A rewind covers the memory `id`: while it does, the correction does not count."""


class Memory(Struct, frozen=True):
    """One remembered event, as it is stored and returned.

    A struct of msgspec: reads make tens of thousands, and a frozen dataclass sets its 23 fields by a call for each, which
    takes 5 microseconds. `structs.replace` makes a changed one.
    """

    id: str
    tenant: str
    agent_id: str
    text: str
    timestamp: float
    accepted_at: float
    server: str = ""
    type: str | None = None
    metadata: Mapping[str, Any] = {}
    pos: Mapping[str, float] | None = None
    tick: float | None = None
    importance: float = 5.0
    player: str | None = None
    agent_player: str | None = None
    """The player that the agent is named after (stored form), None if it is named after none."""
    expires_at: float | None = None
    truncated: bool = False
    lasting_agent: str | None = None
    """The agent id from which the store's id is computed, where it differs from `agent_id`.

    It does not change when a new player key is added, see `Pseudonyms.lasting_agent`.
    """
    recall: bool = True
    """False for a record: it has no vector, no search by meaning or words finds it, and reads show it only where their
    filter names its type (see `Scope.records`). Its text may be empty."""
    rewound: bool = False
    """A rewind covers it (see `lorestream.rewinds`): the store keeps it, and no read shows it."""
    about: tuple[str, ...] = ()
    """Whom it is about: agent ids and pseudonyms of players (stored forms), each once."""
    sources: tuple[str, ...] = ()
    """The ids of the memories that it rests on, each once."""
    supersedes: str | None = None
    """The id of the memory of the same agent that it is to replace."""
    superseded_by: tuple[Correction, ...] = ()
    """What names it in `supersedes`, as the store knows, in the order of acceptance. See `replaced_by`."""

    @property
    def replaced_by(self) -> tuple[Correction, ...]:
        """What replaces it, in the order of acceptance; reads leave out a memory with any (see `Scope.superseded`).

        A memory that supersedes another one itself is replaced only by what was accepted later. So no memories replace
        each other in a circle: of two that name each other, the later one counts, in whatever order they arrive.
        """
        own = None if self.supersedes is None else (self.accepted_at, self.id)
        return tuple(
            one
            for one in self.superseded_by
            if not one.rewound and (own is None or own < (one.accepted_at, one.id))
        )

    @property
    def superseded_at(self) -> float | None:
        """The time (Unix seconds) at which the first memory was accepted that replaces it; None if none does."""
        return next((one.accepted_at for one in self.replaced_by), None)

    def marked(self, rewound: Callable[[Memory], bool]) -> Memory:
        """The same memory, and its corrections, with the marks `rewound` as the function says."""
        by = [replace(one, rewound=rewound(self.by(one))) for one in self.superseded_by]
        marked, hidden = self.with_corrections(by), rewound(self)
        return marked if marked.rewound == hidden else structs.replace(marked, rewound=hidden)

    def with_corrections(self, corrections: Iterable[Correction]) -> Memory:
        """The same memory, superseded by these, each once, in the order of acceptance."""
        by_id = {one.id: one for one in corrections}
        ordered = sorted(by_id.values(), key=lambda one: (one.accepted_at, one.id))
        same = tuple(ordered) == self.superseded_by
        return self if same else structs.replace(self, superseded_by=tuple(ordered))

    def correction(self) -> Correction:
        """That another memory was superseded by this one."""
        return Correction(
            self.id, self.accepted_at, self.server, self.player, self.agent_player, self.rewound
        )

    def by(self, correction: Correction) -> Memory:
        """The memory that supersedes this one, as far as erasures need it: without text and metadata."""
        return Memory(
            correction.id,
            self.tenant,
            self.agent_id,
            "",
            correction.accepted_at,
            correction.accepted_at,
            correction.server,
            player=correction.player,
            agent_player=correction.agent_player,
        )

    @property
    def named_players(self) -> frozenset[str]:
        """The pseudonyms of players that it names beside its own: those in `about`, and those of its corrections."""
        named = {identity.pseudonym_in(one) for one in self.about}
        for one in self.superseded_by:
            named |= {one.player, one.agent_player}
        return frozenset(one for one in named if one is not None)

    @property
    def position(self) -> Position:
        """The memory's place in the total order: by timestamp, then time of acceptance, then id, then agent id."""
        return (self.timestamp, self.accepted_at, self.id, self.agent_id)

    @property
    def conversation(self) -> str | int | None:
        """The conversation that the memory is part of: `conversation` of its metadata, a string or a whole number."""
        named = self.metadata.get("conversation")
        if isinstance(named, float) and named.is_integer():
            return int(named)  # Lua writes 3.0 for 3
        return named if isinstance(named, str | int) and not isinstance(named, bool) else None


Position: TypeAlias = "tuple[float, float, str, str]"
"""(timestamp, accepted_at, id, agent_id): the total order of memories, and what a cursor holds."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory found by a search.

    `relevance`: the cosine in [-1, 1]; for a KeywordQuery BM25, above 0; for a HybridQuery the fused score in [0, 1].
    `shares`: of a fused score, its parts by name, whose sum it is.
    """

    memory: Memory
    relevance: float
    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    best_words: float | None = None
    """For a HybridQuery: the BM25 score that counts as 1 in its scores; None if the query has no words."""


# --- filters -------------------------------------------------------------------------------------------


class Op(StrEnum):
    """The operators of a condition. `ne` and `nin` are expressed as `Not` of `eq` and `in`."""

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
    """A field of a memory. `path`: one part for one of its own fields (`pos.x` too), or "metadata" and the keys."""

    path: tuple[str, ...]

    @property
    def is_metadata(self) -> bool:
        """True for a path in the metadata, False for one of the memory's own fields."""
        return self.path[0] == "metadata"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison. For a list value it holds if one element satisfies it.

    `value`: a scalar for eq and contains; a number for gt, gte, lt, lte; a tuple of scalars for in; a bool for
    exists. Numbers are compared by value, whether integer or float; a boolean equals only a boolean.
    """

    field: Field
    op: Op
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class And:
    """Holds if all parts hold. Without parts it always holds."""

    parts: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """Holds if at least one part holds. Without parts it never holds."""

    parts: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """Holds if its part does not."""

    part: Filter


Filter: TypeAlias = "Condition | And | Or | Not"

EVERYTHING = And()


# --- queries to a store -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose memories a query covers: some agents of a tenant, or the whole tenant (agents is None).

    `records`: also the memories with `recall` False. Searches by meaning or words never find them.
    `superseded`: also the memories that another one supersedes.
    """

    tenant: str
    agents: tuple[str, ...] | None = None
    records: bool = False
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Blend:
    """A score: the weighted mean of relevance (negative values count as 0), recency and importance / 10.

    Each part is in [0, 1]. Recency is 0.5 ^ (age / half-life), an exponential decay as in Park et al. 2023
    (Generative Agents).
    `weights`: part name -> weight, all above 0 and the largest 1, so that their sum is finite.
    `pool`: how many of the most relevant memories are ranked by the blend.
    `by_access`: the age is that of the last access, for memories that were accessed after their time.
    """

    weights: Mapping[str, float]
    half_life_s: float
    pool: int
    by_access: bool = False

    def parts(
        self, memory: Memory, relevance: float, now: float, accessed: float = -math.inf
    ) -> dict[str, float]:
        """The parts of a memory's score at the time `now` (Unix seconds), as far as they have a weight.

        `accessed`: the time of its last access, if there was one and it counts.
        """
        age_s = max(0.0, now - max(memory.timestamp, accessed))
        every = {
            "relevance": max(0.0, relevance),
            "recency": 0.5 ** (age_s / self.half_life_s),
            "importance": min(1.0, max(0.0, memory.importance / 10)),
        }
        return {name: every[name] for name in self.weights}

    def mean(self, parts: Mapping[str, float]) -> float:
        """The weighted mean of the parts: the score."""
        weighted = math.fsum(weight * parts[name] for name, weight in self.weights.items())
        return weighted / math.fsum(self.weights.values())

    @property
    def depends_on_time(self) -> bool:
        """True if the same memory's score changes with time."""
        return "recency" in self.weights


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """The `k` memories of `scope` with the highest cosine to `vector`, none below `min_relevance`.

    Among equal ones the newer come first. With `blend`: the `k` best by blend among the `blend.pool` nearest.
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
    """The `k` memories of `scope` with the highest BM25 score for `text`; among equal ones the newer come first.

    The document frequency of a word is that of the whole store, so scores are comparable within one result only.
    """

    scope: Scope
    text: str
    k: int
    now: float
    filter: Filter = EVERYTHING


@dataclass(frozen=True, slots=True)
class HybridQuery:
    """The `k` memories of `scope` with the highest fused score (see `lorestream.fusion`); among equals the newer first.

    Candidates are the first 200, or k if that is more, by cosine to `vector` and by BM25 for `text`.
    """

    scope: Scope
    vector: Sequence[float]
    text: str
    k: int
    now: float
    filter: Filter = EVERYTHING


@dataclass(frozen=True, slots=True)
class PageQuery:
    """At most `limit` memories of `scope`, newest first unless `oldest_first`, strictly after the position `after`."""

    scope: Scope
    limit: int
    now: float
    filter: Filter = EVERYTHING
    oldest_first: bool = False
    after: Position | None = None


@dataclass(frozen=True, slots=True)
class AroundQuery:
    """The `span` memories before and the `span` behind each of `anchors`, of the same agent and occasion.

    For a memory with a conversation these are the ones of the same conversation; for another one, those without a
    conversation that are at most `gap_s` seconds from it. `filter` does not change which memories are next to each
    other: one that does not match it is left out. Superseded ones are next to others only with `superseded`.
    """

    anchors: Sequence[Memory]
    span: int
    gap_s: float
    now: float
    filter: Filter = EVERYTHING
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Around:
    """The memories next to one memory, the nearest first."""

    before: Sequence[Memory]
    behind: Sequence[Memory]


class SubjectKind(StrEnum):
    """What an erasure is for."""

    AGENT = "agent"
    PLAYER = "player"


@dataclass(frozen=True, slots=True)
class Erasure:
    """Removes all memories of `subjects` that were accepted at or before `accepted_at`.

    `subjects` are all stored forms of one agent id or player name (one per live player key).
    """

    id: str
    tenant: str
    kind: SubjectKind
    subjects: tuple[str, ...]
    accepted_at: float

    def covers(self, memory: Memory) -> bool:
        """True if this erasure removes the memory."""
        if memory.tenant != self.tenant or memory.accepted_at > self.accepted_at:
            return False
        if self.kind is SubjectKind.AGENT:
            return memory.agent_id in self.subjects
        return memory.player in self.subjects or memory.agent_player in self.subjects

    def strip(self, memory: Memory) -> Memory:
        """What stays of a memory that it does not cover: without its subjects in `about`, and without their corrections."""
        if memory.tenant != self.tenant or not (memory.about or memory.superseded_by):
            return memory
        about = memory.about
        if self.kind is SubjectKind.PLAYER and memory.accepted_at <= self.accepted_at:
            about = tuple(one for one in about if identity.pseudonym_in(one) not in self.subjects)
        kept = [one for one in memory.superseded_by if not self.covers(memory.by(one))]
        return without(memory, about, kept)


def without(memory: Memory, about: tuple[str, ...], corrections: Iterable[Correction]) -> Memory:
    """The memory with these of its `about` and its corrections; the same object if nothing is left out."""
    kept = memory.with_corrections(corrections)
    return kept if about == memory.about else structs.replace(kept, about=about)
