"""Records that a subscription has read ahead: one queue per partition, taken from in turn (round robin)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lorestream.ports import Record


@dataclass(slots=True)
class AssignedPartition:
    """State of one partition that is assigned to the member."""

    number: int
    next_offset: int
    """One past the last record that arrived."""
    committed: int
    """The highest offset that this member has committed, or the one that it started from."""
    paused: bool = False
    """Whether fetching is paused because the buffer is full."""
    buffered: deque[Record] = field(default_factory=deque["Record"])
    buffered_bytes: int = 0
    """Sum of the sizes of the values in `buffered`."""

    def exceeds(self, records: int, size: int) -> bool:
        """Whether at least `records` records, or at least `size` bytes of values, are buffered."""
        return len(self.buffered) >= records or self.buffered_bytes >= size


class ReadBuffers:
    """The buffered records of all assigned partitions. False when no record is buffered."""

    def __init__(self) -> None:
        self._ready: deque[AssignedPartition] = deque()
        """Partitions with buffered records; the first one is served next."""

    def __bool__(self) -> bool:
        return bool(self._ready)

    def put(self, partition: AssignedPartition, records: Iterable[Record]) -> None:
        """Append records that arrived for `partition`, in the order of their offsets."""
        if not partition.buffered:
            self._ready.append(partition)
        for record in records:
            partition.buffered.append(record)
            partition.buffered_bytes += len(record.value)
            partition.next_offset = record.offset + 1

    def pop(self, limit: int, max_bytes: int) -> tuple[Sequence[Record], Sequence[AssignedPartition]]:
        """Remove and return the next records, and the partitions from which records were removed.

        At most `limit` records, and at most `max_bytes` of values, except that the first record may be larger.
        The records of a partition keep their order. Every partition gets an equal share of `limit`, so that a
        partition with many records does not delay the others.
        """
        records: list[Record] = []
        touched: list[AssignedPartition] = []
        size = 0
        while self._ready and len(records) < limit:
            for left in range(len(self._ready), 0, -1):
                partition = self._ready[0]
                touched.append(partition)
                share = max(1, (limit - len(records)) // left)
                while partition.buffered and share and len(records) < limit:
                    length = len(partition.buffered[0].value)
                    if records and size + length > max_bytes:
                        return records, touched
                    records.append(partition.buffered.popleft())
                    partition.buffered_bytes -= length
                    size += length
                    share -= 1
                if not partition.buffered:
                    self._ready.popleft()
                elif share == 0:
                    self._ready.rotate(-1)
        return records, touched

    def clear(self) -> None:
        """Drop all buffered records."""
        for partition in self._ready:
            partition.buffered.clear()
            partition.buffered_bytes = 0
        self._ready.clear()
