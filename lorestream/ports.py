"""The five things that Lorestream needs from the outside, and what each must promise.

Adapters live in `lorestream.adapters`; tests/contracts holds one suite per port that runs over all of them.
Adapters raise only the errors of `lorestream.errors`: `Unavailable` for an outage (the caller may try again),
`Misconfigured` for what somebody has to mend.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

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


class Clock(Protocol):
    """The time of day."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...


# --- the log ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the log, as bytes: decoding is the reader's, so that a broken one can be set aside."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Mapping[str, bytes]
    appended_at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class NewRecord:
    """What a gateway appends: the key decides the partition."""

    key: bytes
    value: bytes
    headers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that cannot be processed, and why."""

    record: Record
    reason: str
    """A short snake_case word: the metric's label."""
    error: str
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter and the Unix time at which it was first set aside."""

    letter: DeadLetter
    failed_at: float

    @property
    def place(self) -> Place:
        """Where its record stands in the log: what the letter is known by."""
        return (self.letter.record.partition, self.letter.record.offset)


Place: TypeAlias = "tuple[int, int]"
"""(partition, offset) of a record."""


class Settlement(StrEnum):
    """What became of a dead letter."""

    RETRIED = "retried"
    DROPPED = "dropped"
    ERASED = "erased"


class RebalanceListener(Protocol):
    """Told which partitions a member of a group is to read."""

    async def assigned(self, positions: Mapping[int, int]) -> None:
        """These partitions are the member's own from now on; reading goes on at these offsets."""
        ...

    async def revoked(self, partitions: Collection[int]) -> None:
        """They go to another member when this returns: finish what is in hand, and commit it.

        `read` yields nothing of them any more. What takes too long is cut off, and read again by the other.
        """
        ...


class Subscription(Protocol):
    """The share of one member in a group: the partitions that are its own at present."""

    async def read(self, *, limit: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """The next records of its partitions, in order within each; waits up to `wait_s` for the first.

        At most `limit` and, behind the first, at most `max_bytes` of values. Raises Unavailable.
        """
        ...

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store, durably, the next offset to read of each partition. Never lowers one.

        Partitions that are no longer its own are left out. Raises Unavailable.
        """
        ...

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record of each of its partitions will get. Raises Unavailable."""
        ...


class EventLog(Protocol):
    """A durable, partitioned, append-only log with one committed position per group and partition."""

    @property
    def retention_s(self) -> float:
        """How long a record is kept, in seconds."""
        ...

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Append in order; return once all are durable: for every partition touched, its highest offset.

        Raises Unavailable when the log cannot take writes (then a part may still have been written),
        Overloaded when too much is waiting already, and EventTooLarge for a record past the log's own limit
        (then nothing was written).
        """
        ...

    def subscribe(self, group: str, listener: RebalanceListener) -> AbstractAsyncContextManager[Subscription]:
        """Become a member of the group, which shares the partitions out among its members.

        A group that is new begins at the oldest record; another goes on behind its commit. Raises Unavailable.
        """
        ...

    async def committed(self, group: str) -> Mapping[int, int]:
        """The next offset to read of each partition that the group has committed. Raises Unavailable."""
        ...

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record of each partition will get. Raises Unavailable."""
        ...

    async def since(self, at: float) -> Mapping[int, tuple[int, float]]:
        """The first record of each partition that was appended at or after `at`: its offset, and when it was.

        Unix seconds. A partition without such a record is left out; since 0 the log begins. Raises Unavailable.
        """
        ...

    async def begin(self, group: str, positions: Mapping[int, int]) -> None:
        """Let a group that nobody is a member of begin at these offsets. Raises Unavailable."""
        ...

    async def forget(self, group: str) -> None:
        """Nobody will be a member of the group again: it holds nothing back any more. Raises Unavailable."""
        ...

    async def groups(self) -> Collection[str]:
        """The groups whose positions hold records back from their retention; none where it waits for nobody."""
        ...

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Set records aside durably, raw, with the reason. Idempotent per partition and offset."""
        ...

    def dead_letters(self) -> AsyncGenerator[StoredLetter]:
        """The records set aside and not settled, each once, the earliest first; none that comes later.

        Raises Unavailable.
        """
        ...

    async def settle(self, places: Collection[Place], how: Settlement) -> None:
        """Hide the letters of these records, there or not, for as long as letters are kept. Raises Unavailable."""
        ...


class Watermarks(Protocol):
    """How far the finished work has come: what `wait=indexed` and `after` look at."""

    async def publish(self, positions: Mapping[int, int]) -> None:
        """Everything below these offsets is finished. Never lowered."""
        ...

    async def reached(self, positions: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is finished, waiting at most `timeout_s`."""
        ...


@dataclass(frozen=True, slots=True)
class ErasureState:
    """An erasure as it was asked for, and whether everything that it takes has gone."""

    erasure: Erasure
    done: bool


class ErasureLedger(Protocol):
    """Every erasure that was ever asked for, newest per subject; kept when the log has forgotten."""

    async def add(self, erasure: Erasure) -> None:
        """Remember it durably, as running.

        Adding it again changes nothing; an older one of the same subject takes nothing more. Raises Unavailable.
        """
        ...

    def covers(self, memory: Memory) -> bool:
        """Whether any erasure takes this memory. In memory; never blocks."""
        ...

    def learned(self, since: int) -> Sequence[Erasure]:
        """Erasures that this process has come to know of, in that order, without the first `since`.

        Each once; of those from before it was opened, perhaps some. In memory; never blocks.
        """
        ...

    async def mark_done(self, erasure_id: str) -> None:
        """Note, durably, that what it takes has gone. Nothing happens for an unknown id. Raises Unavailable."""
        ...

    async def state(self, erasure_id: str) -> ErasureState | None:
        """The erasure of that id, for at least a year after it was asked for. Raises Unavailable."""
        ...


# --- the store -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A deleted memory: the id stays taken, so that no late arrival brings it back."""

    tenant: str
    agent_id: str
    memory_id: str
    deleted_at: float


@dataclass(frozen=True, slots=True)
class Dead:
    """What lies in the files of a store and can be found no more; a store that gives space back itself has none."""

    points: int = 0
    erased: bool = False
    """Some of it was erased for good, and should not be there any longer than needed."""


class VectorStore(Protocol):
    """Memories with their vectors.

    Reads never return tombstones or memories whose `expires_at` is at or before the query's `now`.
    All methods raise Unavailable on an outage.
    """

    async def insert(self, memories: Sequence[Memory], vectors: NDArray[np.float32]) -> None:
        """Add memories that are not there; what is there, tombstones too, stays as it is.

        `vectors` has the shape (len(memories), dim), each row of length 1. Returns once readers see them.
        """
        ...

    async def bury(self, tombstones: Sequence[Tombstone]) -> None:
        """Replace each memory, there or not, by a tombstone that keeps nothing but the id."""
        ...

    async def erase(self, erasure: Erasure) -> Collection[AgentKey]:
        """Remove every memory that the erasure covers; tombstones stay. Returns the agents that lost some."""
        ...

    async def sweep(self, *, expired_before: float, tombstones_before: float, limit: int) -> int:
        """Remove at most `limit` expired memories and overaged tombstones; return how many went."""
        ...

    async def crowded(self, *, keep: int) -> Sequence[AgentKey]:
        """The agents of all tenants with more than `keep` memories, the largest first; perhaps some with fewer."""
        ...

    async def trim(self, agent: AgentKey, *, keep: int, limit: int, now: float) -> int:
        """Remove at most `limit` of the agent's oldest memories, none of its newest `keep`; return how many went.

        In the order of memories, what has expired at `now` not counted. No tombstone stays: what arrives once
        more is there once more.
        """
        ...

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

    async def scan(self, after: str | None, limit: int) -> tuple[Sequence[Memory | Tombstone], str | None]:
        """All that lies in the store, of every tenant, expired memories and tombstones too, page by page.

        At most `limit` (1 or more) from the cursor `after` on, None = from the beginning, and the cursor of
        the next page, None at the end; a page may be short, or empty, before it. In an order of the store's
        own that never changes: whatever else is written, nothing comes twice, and nothing that was there all
        the time is left out.
        """
        ...

    async def dead(self) -> Dead:
        """What was removed and still takes space."""
        ...

    async def size(self, *, now: float) -> int:
        """How many memories of all tenants there are that have not expired."""
        ...

    async def known(self, memories: Sequence[Memory]) -> Sequence[tuple[NDArray[np.float32], bool] | None]:
        """The vector (dim,) of each memory that lies there with the same text, and whether it was truncated for it.

        None for the others.
        """
        ...

    async def entries(self, memories: Sequence[Memory]) -> Sequence[Memory | Tombstone | None]:
        """What lies in the place of each: a memory of its id (expired ones too), its tombstone, or nothing."""
        ...

    async def flush(self) -> None:
        """Make everything so far survive a power cut. Offsets are committed only behind this."""
        ...


# --- the cache -------------------------------------------------------------------------------------------


class Cache(Protocol):
    """Answers per agent, valid only within the generation in which their search began.

    An outage of the cache is a miss on the reading side; `invalidate` raises Unavailable, because a write
    that the cache was not told of is not finished.
    """

    async def get(self, agent: AgentKey, key: bytes) -> tuple[bytes | None, bytes]:
        """The answer, or None, and the generation to hand to `put`."""
        ...

    async def put(self, agent: AgentKey, key: bytes, answer: bytes, generation: bytes, ttl_s: float) -> None:
        """Keep an answer at most `ttl_s`; void when the generation is no longer the agent's."""
        ...

    async def invalidate(self, agents: Collection[AgentKey]) -> None:
        """Begin a new generation for each: no answer computed before can be in use any more."""
        ...

    async def clear(self) -> None:
        """Begin a new generation for everything."""
        ...


# --- the embedder ----------------------------------------------------------------------------------------


class Priority(IntEnum):
    """Who waits for whom: a query never stands behind the batches of the ingest."""

    QUERY = 0
    INGEST = 1


@dataclass(frozen=True, slots=True)
class Embeddings:
    """`vectors`: float32 of shape (n, dim), rows of length 1. `truncated[i]`: only a beginning was seen."""

    vectors: NDArray[np.float32]
    truncated: Sequence[bool]


class Embedder(Protocol):
    """Texts to vectors. Never runs on the event loop."""

    @property
    def model_id(self) -> str:
        """Names the model and its revision: vectors of two embedders compare only when this is equal."""
        ...

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        ...

    async def embed(self, texts: Sequence[str], priority: Priority = Priority.INGEST) -> Embeddings:
        """One row per text, in order; equal texts get equal rows.

        Raises Overloaded when the queue is full, Unavailable when a remote model cannot be reached.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Word pieces of the text as this model counts them, without special tokens."""
        ...
