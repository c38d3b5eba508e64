"""How far the work has come in each partition: only behind what is finished without a gap may be committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lorestream.ports import Record


@dataclass(slots=True, eq=False)
class _Portion:
    """Records of one partition that were delivered together. `end`: the next offset behind them."""

    end: int
    finished: bool = False


@dataclass(slots=True, eq=False)
class _Partition:
    position: int
    portions: deque[_Portion] = field(default_factory=deque[_Portion])

    def advance(self) -> None:
        while self.portions and self.portions[0].finished:
            self.position = max(self.position, self.portions.popleft().end)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Records on their way through the worker, as `Offsets` knows them."""

    portions: Sequence[tuple[_Partition, _Portion]]


class Offsets:
    """The positions of the partitions that are ours at present.

    Deliveries may be finished in any order. One that was delivered before its partition was revoked counts
    for nothing afterwards, even when the partition has come back: somebody else may have gone on from there.
    """

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}

    def assign(self, positions: Mapping[int, int]) -> None:
        """These partitions are ours from now on, finished up to these offsets."""
        for partition, position in positions.items():
            self._partitions[partition] = _Partition(position)

    def revoke(self, partitions: Collection[int]) -> None:
        """They are ours no more."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    def deliver(self, records: Iterable[Record]) -> Delivery:
        """Note records that are being worked on, in order within each partition."""
        ends: dict[int, int] = {}
        for record in records:
            ends[record.partition] = record.offset + 1
        portions: list[tuple[_Partition, _Portion]] = []
        for number, end in ends.items():
            partition = self._partitions.get(number)
            if partition is not None:
                portion = _Portion(end)
                partition.portions.append(portion)
                portions.append((partition, portion))
        return Delivery(portions)

    def finish(self, delivery: Delivery) -> None:
        """Nothing has to be done about these records any more."""
        for partition, portion in delivery.portions:
            portion.finished = True
            partition.advance()

    def positions(self) -> dict[int, int]:
        """Of each partition that is ours, the lowest offset that is not finished: what may be committed."""
        return {number: partition.position for number, partition in self._partitions.items()}

    def busy(self, partitions: Collection[int]) -> bool:
        """Whether anything of these partitions is delivered and not finished."""
        return any(partition.portions for number in partitions if (partition := self._partitions.get(number)))
