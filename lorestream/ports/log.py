"""The port of the event log: a durable, partitioned, append-only log with consumer groups and dead letters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias


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
class StoredDeadLetter:
    """A dead letter and the Unix time at which it was first set aside."""

    dead_letter: DeadLetter
    failed_at: float

    @property
    def record_id(self) -> RecordId:
        """Where its record stands in the log: what the letter is known by."""
        return (self.dead_letter.record.partition, self.dead_letter.record.offset)


RecordId: TypeAlias = "tuple[int, int]"
"""(partition, offset) of a record."""


class Resolution(StrEnum):
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

    async def offsets_for_time(self, at: float) -> Mapping[int, tuple[int, float]]:
        """The first record of each partition that was appended at or after `at`: its offset, and when it was.

        Unix seconds. A partition without such a record is left out; since 0 the log begins. Raises Unavailable.
        """
        ...

    async def set_group_offsets(self, group: str, positions: Mapping[int, int]) -> None:
        """Let a group that nobody is a member of begin at these offsets. Raises Unavailable."""
        ...

    async def delete_group(self, group: str) -> None:
        """Nobody will be a member of the group again: it holds nothing back any more. Raises Unavailable."""
        ...

    async def groups(self) -> Collection[str]:
        """The groups whose positions hold records back from their retention; none where it waits for nobody."""
        ...

    async def append_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Set records aside durably, raw, with the reason. Idempotent per partition and offset."""
        ...

    def dead_letters(self) -> AsyncGenerator[StoredDeadLetter]:
        """The records set aside and not settled, each once, the earliest first; none that comes later.

        Raises Unavailable.
        """
        ...

    async def resolve_dead_letters(self, record_ids: Collection[RecordId], resolution: Resolution) -> None:
        """Hide the letters of these records, there or not, for as long as letters are kept. Raises Unavailable."""
        ...
