"""What a member has read ahead, partition by partition, and whose turn it is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lorestream.ports import Record


@dataclass(slots=True)
class Partition:
    """One that is the member's own. `next`: the offset behind the last record that arrived."""

    number: int
    next: int
    committed: int
    paused: bool = False
    waiting: deque[Record] = field(default_factory=deque["Record"])
    waiting_bytes: int = 0


class Buffers:
    """Records in order within each partition, the partitions in turns."""

    def __init__(self) -> None:
        self._turns: deque[Partition] = deque()

    def __bool__(self) -> bool:
        return bool(self._turns)

    def put(self, partition: Partition, records: Iterable[Record]) -> None:
        """Keep what has arrived."""
        if not partition.waiting:
            self._turns.append(partition)
        for record in records:
            partition.waiting.append(record)
            partition.waiting_bytes += len(record.value)
            partition.next = record.offset + 1

    def take(self, limit: int, max_bytes: int) -> tuple[Sequence[Record], Sequence[Partition]]:
        """At most `limit` records and, behind the first, `max_bytes` of values; and whose they are.

        Every partition gets its share, so that a long one does not keep the others waiting.
        """
        records: list[Record] = []
        touched: list[Partition] = []
        size = 0
        while self._turns and len(records) < limit:
            for left in range(len(self._turns), 0, -1):
                partition = self._turns[0]
                touched.append(partition)
                share = max(1, (limit - len(records)) // left)
                while partition.waiting and share and len(records) < limit:
                    length = len(partition.waiting[0].value)
                    if records and size + length > max_bytes:
                        return records, touched
                    records.append(partition.waiting.popleft())
                    partition.waiting_bytes -= length
                    size += length
                    share -= 1
                if not partition.waiting:
                    self._turns.popleft()
                elif share == 0:
                    self._turns.rotate(-1)
        return records, touched

    def clear(self) -> None:
        """Forget everything: nobody reads it any more."""
        for partition in self._turns:
            partition.waiting.clear()
            partition.waiting_bytes = 0
        self._turns.clear()
