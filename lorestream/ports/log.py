"""The port of the event log: a durable, partitioned, append-only log with consumer groups and dead letters.

Words used here and in the adapters:

- offset: the number of a record in its partition. Offsets rise by at least 1 from record to record.
- position: the offset to read, process or commit next, which is one past the last. Mappings called `positions` go
  from partition to position.
- group: consumers that share the partitions among them, with one committed position per partition.
- dead letter: a record that cannot be processed, kept with the error until an operator resolves it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

DEAD_LETTER_RETENTION_S = 14 * 86_400.0
"""How long a dead letter is kept. It begins when the record failed, so at the latest at the end of the log's retention."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the log. Key and value are raw bytes: the reader decodes them and handles what cannot be decoded."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Mapping[str, bytes]
    appended_at: float
    """When the log stored it: Unix seconds."""


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to append. Records with the same key go to the same partition."""

    key: bytes
    value: bytes
    headers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that cannot be processed, and why."""

    record: Record
    reason: str
    """Category in snake_case: the value of the metric's label."""
    error: str
    """Message for people."""
    attempts: int = 1
    """How often processing has failed, retries by operators included."""


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as it is stored."""

    dead_letter: DeadLetter
    failed_at: float
    """When processing failed for the first time: Unix seconds."""

    @property
    def record_id(self) -> RecordId:
        """The record's partition and offset, which identify the dead letter."""
        return (self.dead_letter.record.partition, self.dead_letter.record.offset)


RecordId: TypeAlias = "tuple[int, int]"
"""(partition, offset) of a record."""


OnLost: TypeAlias = "Callable[[int], None]"
"""Called by a log with the number of records that were deleted before a consumer group had read them."""

LOST_RECORDS = (
    "records were deleted by retention before they were read and are lost to this consumer group: increase"
    " LORESTREAM_LOG__RETENTION_DAYS, or add workers"
)
"""What a log writes to its own log for each such gap, with the group, the partition and both offsets."""


def ignore_lost(_records: int) -> None:
    """An `OnLost` for readers that count nothing."""


class Resolution(StrEnum):
    """Why a dead letter is resolved."""

    RETRIED = "retried"
    """Its record was appended to the log again."""
    DROPPED = "dropped"
    """An operator dropped it."""
    ERASED = "erased"
    """An erasure or a deletion covers it."""


class RebalanceListener(Protocol):
    """Callbacks of a subscription: which partitions its member has to process."""

    async def assigned(self, positions: Mapping[int, int]) -> None:
        """Called with the whole new assignment, and the position of each partition at which reading begins.

        `read` returns records of these partitions after this has returned. If it raises, the subscription fails.
        """
        ...

    async def revoked(self, partitions: Collection[int]) -> None:
        """Called before partitions go to another member: finish the records that were read, and commit them.

        `read` returns no more records of these partitions; `commit` still accepts them. The partitions go when this
        returns. The log may cancel it after a limit; the next member then reads again what was not committed.
        """
        ...


class Subscription(Protocol):
    """One member of a consumer group. Only one coroutine may call `read` at a time; `commit` may be called meanwhile."""

    async def read(self, *, limit: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """Return the next records of the assigned partitions, in offset order within each partition.

        Waits up to `wait_s` seconds for the first record, and not for more; returns an empty sequence if none came.
        At most `limit` records, and at most `max_bytes` of values, except that the first record may be larger. A
        cancelled call loses no records. Reading commits nothing: a new member reads again from the committed
        position. Raises Unavailable in an outage; reading may be tried again on the same subscription.
        """
        ...

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store the positions of the group durably. Never lowers one; ignores partitions that are not assigned.

        Raises Unavailable; then the positions may or may not be stored.
        """
        ...

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record of each assigned partition will get. Raises Unavailable."""
        ...


class LogReader(Protocol):
    """Reads partitions outside any consumer group: it commits nothing, and retention does not wait for it."""

    async def read(self, partition: int, *, limit: int, wait_s: float) -> Sequence[Record]:
        """Return the next records of one of the reader's partitions, in offset order.

        Waits up to `wait_s` seconds for the first record, and not for more; returns an empty sequence if none came.
        At most `limit` records, and about a megabyte of values, except that the first record may be larger. Where
        retention has deleted the next record, it goes on with the oldest one that is left. Several partitions may be
        read at the same time. Raises Unavailable in an outage; reading may be tried again.
        """
        ...


class EventLog(Protocol):
    """A durable, partitioned, append-only log, with committed positions per group, and dead letters.

    `append`, `committed` and `end` return or raise within 2 seconds, because HTTP callers wait for them.
    """

    @property
    def retention_s(self) -> float:
        """How long a record is kept, in seconds."""
        ...

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Append in order. Returns, once all records are durable, the highest offset per partition written to.

        Records of one key keep the order in which they were passed, across concurrent calls the order of the calls.
        Raises Unavailable when the log cannot take writes (some records may still be written); Overloaded when too
        many records are waiting, and EventTooLarge for a record that exceeds the log's limit (in both cases nothing
        was written).
        """
        ...

    def subscribe(self, group: str, listener: RebalanceListener) -> AbstractAsyncContextManager[Subscription]:
        """Join the group as a member. Entering waits for the first assignment; exiting leaves the group.

        A new group begins at the oldest record, any other at its committed positions. On exit `listener.revoked` is
        not called, and what was not committed is read again by another member. Raises Unavailable.
        """
        ...

    def reader(self, positions: Mapping[int, int]) -> AbstractAsyncContextManager[LogReader]:
        """Read these partitions from these positions on, outside any consumer group. Raises Unavailable."""
        ...

    async def committed(self, group: str) -> Mapping[int, int]:
        """The committed positions of the group. Partitions without a commit are left out. Raises Unavailable."""
        ...

    async def owners(self, group: str) -> Mapping[int, str]:
        """Which member of the group reads each partition, named for people. Partitions without one are left out.

        Raises Unavailable.
        """
        ...

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record of each partition will get. Raises Unavailable."""
        ...

    async def check(self) -> None:
        """Raises Unavailable when the log cannot be asked, or when the last append failed and the next would, too."""
        ...

    async def offsets_for_time(self, at: float) -> Mapping[int, tuple[int, float]]:
        """Offset and time of the first record of each partition that was appended at or after `at`, in Unix seconds.

        Partitions without such a record are left out. With `at` = 0: the oldest records. Raises Unavailable.
        """
        ...

    async def set_group_offsets(self, group: str, positions: Mapping[int, int]) -> None:
        """Commit positions for a group that has no members, usually a new one. Raises Unavailable."""
        ...

    async def delete_group(self, group: str) -> None:
        """Delete a group that no member will join again, so that it does not delay retention. Raises Unavailable."""
        ...

    async def groups(self) -> Collection[str]:
        """The groups whose committed positions delay retention. Empty where retention does not wait for groups."""
        ...

    async def append_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Store dead letters durably, with the raw records. One per record: later ones of the same record are ignored.

        A record whose dead letter was resolved does not get a new one (see `resolve_dead_letters`). Raises Unavailable.
        """
        ...

    def dead_letters(self) -> AsyncGenerator[StoredDeadLetter]:
        """The unresolved dead letters, the oldest first, each once, without those that are added meanwhile.

        Raises Unavailable.
        """
        ...

    async def resolve_dead_letters(self, record_ids: Collection[RecordId], resolution: Resolution) -> None:
        """Remove the dead letters of these records from `dead_letters`, durably. Raises Unavailable.

        Also for records that have none yet: one that is added later is not shown either, at least for
        `DEAD_LETTER_RETENTION_S`.
        """
        ...
