"""The ports of the vector store: MemoryReader for queries, MemoryWriter for indexing, StoreMaintenance.

An adapter implements all three, and the ports of rows (rows.py), as one `VectorStore`; each caller is typed against the
port that it needs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lorestream.ports.rows import RowWriter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorestream.memories import (
        AgentKey,
        Around,
        AroundQuery,
        Erasure,
        Filter,
        Hit,
        HybridQuery,
        KeywordQuery,
        Memory,
        PageQuery,
        Scope,
        VectorQuery,
    )
    from lorestream.rewinds import Rewind
    from lorestream.state.rows import Row


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The marker of a deleted memory: it keeps the id, so that a late or repeated insert does not restore it."""

    tenant: str
    agent_id: str
    memory_id: str
    deleted_at: float


@dataclass(frozen=True, slots=True)
class Reclaimable:
    """Removed data that still takes space in the store's files, until they are compacted.

    Zero for a store that gives the space back by itself.
    """

    points: int = 0
    erased: bool = False
    """Some of it was removed by an erasure: compact soon, because its text can still be read in the files."""


class MemoryReader(Protocol):
    """Searches and pages of memories, for query services.

    Never returns tombstones, memories that are rewound, or memories whose `expires_at` is at or before the query's `now`.
    All methods raise Unavailable on an outage.
    """

    def for_request(self, anchors: int, span: int) -> MemoryReader:
        """A reader for the reads of one request, which does not read again what it has read.

        For the first `anchors` hits of a search, `around` will be asked for with this `span`.
        """
        ...

    async def search(self, query: VectorQuery | KeywordQuery | HybridQuery) -> Sequence[Hit]:
        """At most k hits, the best first; among equal ones the newer come first. Exact within one agent."""
        ...

    async def relevance(
        self, query: VectorQuery | KeywordQuery | HybridQuery, memories: Sequence[Memory], like: Hit
    ) -> Sequence[Hit]:
        """These memories as hits of the query, in no defined order, whether or not they are in its scope.

        `like`: a hit of the same query; fused scores have its scale. Memories that were deleted meanwhile are missing,
        and for a KeywordQuery those that share no word with it.
        """
        ...

    async def page(self, query: PageQuery) -> Sequence[Memory]:
        """At most `query.limit` memories in their total order, strictly after `query.after`."""
        ...

    def each(self, query: PageQuery) -> AsyncGenerator[Sequence[Memory]]:
        """All memories that match, some at a time, in no defined order; `limit`, `oldest_first` and `after` are ignored.

        Much faster than page by page. Other tasks run in between.
        """
        ...

    async def around(self, query: AroundQuery) -> Sequence[Around]:
        """The memories before and behind each anchor, in the order of the anchors.

        Where more than 256 memories of the agent have the same time, none of them is next to another.
        """
        ...

    async def count(self, query: PageQuery) -> int:
        """The exact number of memories that match; `limit` and `after` are ignored."""
        ...

    async def get(self, tenant: str, agent_id: str, memory_id: str, *, now: float) -> Memory | None:
        """One memory of that agent, or None."""
        ...

    async def get_many(
        self, tenant: str, agent_id: str, memory_ids: Sequence[str], *, vectors: bool
    ) -> Sequence[tuple[Memory, NDArray[np.float32] | None]]:
        """The memories of that agent among these ids, expired ones too, each once, in no defined order.

        With `vectors` also the vector (dim,) of each, as it was inserted; None for a record.
        """
        ...

    async def vectors(self, memories: Sequence[Memory]) -> Sequence[NDArray[np.float32] | None]:
        """The vector (dim,) of each of these memories, in their order; None for a record, and for one that is gone."""
        ...

    async def cost(self, scope: Scope, filter_: Filter) -> int:
        """About how many checks the filter takes: memories of the scope, times conditions that need each of them.

        0 for a filter whose conditions all have an index. Takes almost no time itself.
        """
        ...

    async def count_by_type(self, scope: Scope, *, limit: int, now: float) -> Sequence[tuple[str, int]]:
        """(type, number of memories) of the `limit` most frequent types, the most frequent first, equal ones by name.

        Memories without a type are not among them, nor are records.
        """
        ...

    async def agents(self, scope: Scope, *, limit: int, now: float) -> Sequence[tuple[str, int]]:
        """(agent_id, number of memories), the largest first, equal ones by id. Records are not counted."""
        ...


class MemoryWriter(Protocol):
    """Idempotent writes and look-ups by id, for the indexing pipeline.

    All methods raise Unavailable on an outage.
    """

    async def insert(
        self,
        memories: Sequence[Memory],
        vectors: NDArray[np.float32],
        *,
        replaces: Callable[[Memory, Memory], bool] | None = None,
    ) -> None:
        """Add the memories whose ids do not exist yet. Existing memories and tombstones are not changed.

        With `replaces`, a memory takes the place of the stored one of its id if `replaces(stored, memory)`: a world that
        goes on after a rewind may give an id again. What the stored one superseded is then no longer superseded by it,
        and what supersedes that id stays.

        `vectors` has the shape (len(memories), dim), each row of length 1. The rows of memories with `recall` False are
        not used: these are stored without a vector. Returns once readers see the memories.
        Raises InvalidEvent for a memory that cannot be stored, ModelMismatch for another shape.
        """
        ...

    async def put_tombstones(self, tombstones: Sequence[Tombstone]) -> None:
        """Replace each memory, whether it exists or not, by a tombstone that keeps only the id."""
        ...

    async def erase(self, erasure: Erasure) -> Collection[AgentKey]:
        """Remove every memory and row that the erasure covers, no tombstones. Returns the agents that lost some."""
        ...

    async def set_aside(self, rewind: Rewind, covered: Callable[[Memory], bool]) -> Collection[AgentKey]:
        """Of the memories and records that a rewind is about, mark exactly those as rewound for which `covered` is true.

        These are the ones of its server that were accepted after `to` and up to its own acceptance, whether it was undone
        or not; and for memories that one of them supersedes, that mark is kept as well. They keep their vectors, and no
        read shows what is rewound; expiry and erasures apply to it as to others. Returns the agents for which something
        changed. After an interruption, call it again.
        """
        ...

    async def reusable_vectors(
        self, memories: Sequence[Memory]
    ) -> Sequence[tuple[NDArray[np.float32], bool] | None]:
        """For each memory that is stored with the same text: its vector (dim,), and whether the text was truncated.

        None for the others.
        """
        ...

    async def text_vectors(self, texts: Sequence[str]) -> Sequence[tuple[NDArray[np.float32], bool] | None]:
        """For each text that a memory of any tenant has: its vector (dim,), and whether the text was truncated.

        None for the others. Memories that were stored before this method existed are not found.
        """
        ...

    async def lookup(self, memories: Sequence[Memory]) -> Sequence[Memory | Tombstone | None]:
        """What is stored under each memory's id: a memory (expired and rewound ones too), a tombstone, or None."""
        ...

    async def flush(self) -> None:
        """Make all writes so far survive a power cut. Offsets are committed only after this."""
        ...

    @property
    def paused(self) -> bool:
        """Whether writes wait at present because a snapshot copies the store, which may take minutes."""
        ...


class StoreMaintenance(Protocol):
    """Removal by age and number, and scans of everything that is stored: for sweeping, compaction and rebuilds.

    All methods raise Unavailable on an outage.
    """

    async def sweep(self, *, expired_before: float, tombstones_before: float, limit: int) -> int:
        """Remove at most `limit` memories and rows that expired, and tombstones made, before these times.

        Returns how many.
        """
        ...

    async def agents_above(self, *, keep: int) -> Sequence[AgentKey]:
        """The agents of all tenants with more than `keep` memories, records not counted, the largest first.

        May include agents with fewer, because expired memories may be counted.
        """
        ...

    async def trim(self, agent: AgentKey, *, keep: int, limit: int, now: float) -> int:
        """Remove at most `limit` of the agent's oldest memories, none of its newest `keep`, no records; return how many.

        Memories that have expired at `now` are not counted. No tombstones are made: a memory that arrives again is
        stored again.
        """
        ...

    async def scan(
        self, after: str | None, limit: int
    ) -> tuple[Sequence[Memory | Tombstone | Row], str | None]:
        """One page of everything in the store: all tenants, also what has expired, and tombstones.

        Returns at most `limit` (>= 1) entries from the cursor `after` on (None: from the start), and the cursor of the
        next page (None at the end). A page before the end may be short or empty. The order is the store's own and
        stable: with concurrent writes, no entry comes twice, and every entry that exists throughout is returned.
        """
        ...

    async def reclaimable(self) -> Reclaimable:
        """Removed data that still takes space."""
        ...

    async def row_space(self, enough: int) -> int:
        """About how many memories take as much space as all rows. Need not be exact from `enough` on."""
        ...

    async def size(self, *, now: float) -> int:
        """The number of memories of all tenants that have not expired at `now`, records included."""
        ...

    async def documents(self) -> int:
        """The number of documents of all tenants, without deleted ones and policies."""
        ...

    async def disk_bytes(self) -> int | None:
        """The bytes of the store's files. None for a store of another process, which has its own metrics."""
        ...


class VectorStore(MemoryReader, MemoryWriter, RowWriter, StoreMaintenance, Protocol):
    """One collection of memories with their vectors, and of rows: all ports, as an adapter implements them."""
