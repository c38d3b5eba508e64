"""The ports of the vector store: one for readers, one for writers, one for maintenance."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorestream.memories import (
        AgentKey,
        Erasure,
        Hit,
        KeywordQuery,
        Memory,
        PageQuery,
        Scope,
        VectorQuery,
    )


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A deleted memory: the id stays taken, so that no late arrival brings it back."""

    tenant: str
    agent_id: str
    memory_id: str
    deleted_at: float


@dataclass(frozen=True, slots=True)
class Reclaimable:
    """What lies in the files of a store and can be found no more; a store that gives space back itself has none."""

    points: int = 0
    erased: bool = False
    """Some of it was erased for good, and should not be there any longer than needed."""


class MemoryReader(Protocol):
    """What query services need: searches and pages of memories.

    Never returns tombstones or memories whose `expires_at` is at or before the query's `now`.
    All methods raise Unavailable on an outage.
    """

    async def search(self, query: VectorQuery | KeywordQuery) -> Sequence[Hit]:
        """The best first, ties by newer: at most k hits; exact within one agent."""
        ...

    async def page(self, query: PageQuery) -> Sequence[Memory]:
        """In the order of memories, strictly after `query.after`."""
        ...

    async def count(self, query: PageQuery) -> int:
        """How many memories match, whatever `limit` and `after` say."""
        ...

    async def get(self, tenant: str, agent_id: str, memory_id: str, *, now: float) -> Memory | None:
        """One memory of that agent, or None."""
        ...

    async def agents(self, scope: Scope, *, limit: int, now: float) -> Sequence[tuple[str, int]]:
        """(agent_id, number of memories), the largest first, equal ones by id."""
        ...


class MemoryWriter(Protocol):
    """What the indexing pipeline needs: idempotent writes, and what lies in the place of a memory.

    All methods raise Unavailable on an outage.
    """

    async def insert(self, memories: Sequence[Memory], vectors: NDArray[np.float32]) -> None:
        """Add memories that are not there; what is there, tombstones too, stays as it is.

        `vectors` has the shape (len(memories), dim), each row of length 1. Returns once readers see them.
        """
        ...

    async def put_tombstones(self, tombstones: Sequence[Tombstone]) -> None:
        """Replace each memory, there or not, by a tombstone that keeps nothing but the id."""
        ...

    async def erase(self, erasure: Erasure) -> Collection[AgentKey]:
        """Remove every memory that the erasure covers; tombstones stay. Returns the agents that lost some."""
        ...

    async def reusable_vectors(
        self, memories: Sequence[Memory]
    ) -> Sequence[tuple[NDArray[np.float32], bool] | None]:
        """The vector (dim,) of each memory that lies there with the same text, and whether it was truncated for it.

        None for the others.
        """
        ...

    async def lookup(self, memories: Sequence[Memory]) -> Sequence[Memory | Tombstone | None]:
        """What lies in the place of each: a memory of its id (expired ones too), its tombstone, or nothing."""
        ...

    async def flush(self) -> None:
        """Make everything so far survive a power cut. Offsets are committed only behind this."""
        ...


class StoreMaintenance(Protocol):
    """What sweeping, compaction and rebuilding need: removal by age and number, and everything that is stored.

    All methods raise Unavailable on an outage.
    """

    async def sweep(self, *, expired_before: float, tombstones_before: float, limit: int) -> int:
        """Remove at most `limit` expired memories and overaged tombstones; return how many went."""
        ...

    async def agents_above(self, *, keep: int) -> Sequence[AgentKey]:
        """The agents of all tenants with more than `keep` memories, the largest first; perhaps some with fewer."""
        ...

    async def trim(self, agent: AgentKey, *, keep: int, limit: int, now: float) -> int:
        """Remove at most `limit` of the agent's oldest memories, none of its newest `keep`; return how many went.

        In the order of memories, what has expired at `now` not counted. No tombstone stays: what arrives once
        more is there once more.
        """
        ...

    async def scan(self, after: str | None, limit: int) -> tuple[Sequence[Memory | Tombstone], str | None]:
        """All that lies in the store, of every tenant, expired memories and tombstones too, page by page.

        At most `limit` (1 or more) from the cursor `after` on, None = from the beginning, and the cursor of
        the next page, None at the end; a page may be short, or empty, before it. In an order of the store's
        own that never changes: whatever else is written, nothing comes twice, and nothing that was there all
        the time is left out.
        """
        ...

    async def reclaimable(self) -> Reclaimable:
        """What was removed and still takes space."""
        ...

    async def size(self, *, now: float) -> int:
        """How many memories of all tenants there are that have not expired."""
        ...


class VectorStore(MemoryReader, MemoryWriter, StoreMaintenance, Protocol):
    """One collection of memories with their vectors: what an adapter implements, and the composition root opens."""
