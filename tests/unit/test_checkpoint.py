"""The watermark never passes an unfinished record, in any order of reading, finishing, rebalances and crashes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from lorestream.ports import Record
from lorestream.telemetry import Metrics
from stream_workers.indexing.checkpoint import Checkpoint, Delivery, Offsets

PARTITIONS = (0, 1, 2)


def record(partition: int, offset: int) -> Record:
    return Record(partition, offset, b"", b"", {}, 0.0)


class Worker(RuleBasedStateMachine):
    """The partitions of a group, with gaps in their offsets, and one worker that reads, finishes, fails and crashes.

    `log[p]`: the offsets that exist; `done[p]`: those whose work is really finished; `committed[p]`: the offset at
    which a new owner begins.
    """

    deliveries = Bundle("deliveries")

    def __init__(self) -> None:
        super().__init__()
        self.log: dict[int, list[int]] = {p: [] for p in PARTITIONS}
        self.done: dict[int, set[int]] = {p: set() for p in PARTITIONS}
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.offsets = Offsets()
        self.reading: dict[int, int] = {}

    @rule(partition=st.sampled_from(PARTITIONS), gap=st.integers(1, 3), count=st.integers(1, 4))
    def append(self, partition: int, gap: int, count: int) -> None:
        for _ in range(count):
            last = self.log[partition][-1] if self.log[partition] else -1
            self.log[partition].append(last + gap)

    @rule(partitions=st.sets(st.sampled_from(PARTITIONS)))
    def assign(self, partitions: set[int]) -> None:
        new = {p: self.committed[p] for p in partitions if p not in self.reading}
        self.offsets.assign(new)
        self.reading |= new

    @rule(partitions=st.sets(st.sampled_from(PARTITIONS)))
    def revoke(self, partitions: set[int]) -> None:
        self.offsets.revoke(partitions)
        for partition in partitions:
            self.reading.pop(partition, None)

    @rule(target=deliveries, sizes=st.dictionaries(st.sampled_from(PARTITIONS), st.integers(1, 3)))
    def deliver(self, sizes: dict[int, int]) -> tuple[Delivery, list[Record]]:
        records: list[Record] = []
        for partition, size in sizes.items():
            if partition in self.reading:
                ahead = [offset for offset in self.log[partition] if offset >= self.reading[partition]][:size]
                records += [record(partition, offset) for offset in ahead]
                if ahead:
                    self.reading[partition] = ahead[-1] + 1
        return self.offsets.track(records), records

    @rule(delivery=consumes(deliveries))
    def finish(self, delivery: tuple[Delivery, list[Record]]) -> None:
        noted, records = delivery
        for each in records:
            self.done[each.partition].add(each.offset)
        self.offsets.finish(noted)

    @rule(delivery=consumes(deliveries))
    def fail(self, delivery: tuple[Delivery, list[Record]]) -> None:
        """The delivery is never finished."""

    @rule()
    def commit(self) -> None:
        for partition, position in self.offsets.watermarks().items():
            self.committed[partition] = max(position, self.committed[partition])

    @rule()
    def crash(self) -> None:
        self.offsets = Offsets()
        self.reading = {}

    @rule(partition=st.sampled_from(PARTITIONS))
    @precondition(lambda self: self.reading)
    def another_member_continues(self, partition: int) -> None:
        """While the partition belongs to another member, that one finishes a record and commits."""
        ahead = [offset for offset in self.log[partition] if offset >= self.committed[partition]]
        if partition not in self.reading and ahead:
            self.done[partition].add(ahead[0])
            self.committed[partition] = ahead[0] + 1

    @invariant()
    def nothing_unfinished_is_passed(self) -> None:
        for source in (self.offsets.watermarks(), self.committed):
            for partition, position in source.items():
                passed = {offset for offset in self.log[partition] if offset < position}
                assert passed <= self.done[partition]


Worker.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestWorker = Worker.TestCase


def test_finished_out_of_order_it_advances_when_the_gap_closes() -> None:
    offsets = Offsets()
    offsets.assign({0: 5})
    first, second = offsets.track([record(0, 5)]), offsets.track([record(0, 6), record(0, 9)])
    offsets.finish(second)
    assert offsets.watermarks() == {0: 5}
    assert offsets.in_progress([0])
    offsets.finish(first)
    assert offsets.watermarks() == {0: 10}
    assert not offsets.in_progress([0])


def test_a_delivery_from_before_a_revocation_does_not_count_after_it() -> None:
    offsets = Offsets()
    offsets.assign({0: 0, 1: 0})
    old = offsets.track([record(0, 7), record(1, 3)])
    offsets.revoke([0])
    offsets.assign({0: 2})
    assert offsets.counts([old])  # for partition 1
    offsets.finish(old)
    assert offsets.watermarks() == {0: 2, 1: 4}
    offsets.revoke([1])
    assert not offsets.counts([old])
    assert not offsets.counts([])


def test_records_of_unassigned_partitions_are_ignored() -> None:
    offsets = Offsets()
    offsets.finish(offsets.track([record(3, 1)]))
    assert offsets.watermarks() == {}


def test_in_the_background_every_sixth_interval_ends_with_a_commit() -> None:
    is_foreground = False

    async def flush() -> None:
        pass

    checkpoint = Checkpoint(
        flush=flush, publisher=None, metrics=Metrics(), is_foreground=lambda: is_foreground
    )
    assert [checkpoint.take_commit_turn() for _ in range(12)] == ([False] * 5 + [True]) * 2
    is_foreground = True
    assert checkpoint.take_commit_turn()
    assert checkpoint.take_commit_turn()
