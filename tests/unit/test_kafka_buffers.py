"""ReadBuffers: order within a partition, fairness between partitions, limits."""

from __future__ import annotations

from lorestream.adapters.kafka.buffers import AssignedPartition, ReadBuffers
from lorestream.ports import Record

PLENTY = 10**9


def records(partition: int, count: int, size: int = 1) -> list[Record]:
    return [Record(partition, offset, b"", b"x" * size, {}, 0.0) for offset in range(count)]


def filled(*counts: int, size: int = 1) -> tuple[ReadBuffers, list[AssignedPartition]]:
    buffers = ReadBuffers()
    partitions = [AssignedPartition(number, 0, 0) for number in range(len(counts))]
    for partition, count in zip(partitions, counts, strict=True):
        buffers.put(partition, records(partition.number, count, size))
    return buffers, partitions


def offsets(taken: object, partition: int) -> list[int]:
    assert isinstance(taken, list)
    return [record.offset for record in taken if record.partition == partition]


def test_every_partition_gets_its_share() -> None:
    buffers, _ = filled(100, 100, 100)
    taken, touched = buffers.pop(30, PLENTY)
    assert [len(offsets(taken, number)) for number in range(3)] == [10, 10, 10]
    assert len(touched) == 3


def test_the_unused_share_of_a_short_partition_goes_to_the_others() -> None:
    buffers, _ = filled(2, 100)
    taken, _ = buffers.pop(50, PLENTY)
    assert (len(offsets(taken, 0)), len(offsets(taken, 1))) == (2, 48)


def test_partitions_are_served_in_turn() -> None:
    buffers, _ = filled(100, 100, 100)
    firsts = [buffers.pop(1, PLENTY)[0][0].partition for _ in range(6)]
    assert sorted(firsts[:3]) == [0, 1, 2]
    assert firsts[:3] == firsts[3:]


def test_all_records_are_returned_once_and_in_order() -> None:
    buffers, partitions = filled(17, 0, 5, 41, size=3)
    taken: list[Record] = []
    while buffers:
        portion, _ = buffers.pop(7, 10)
        assert 0 < len(portion) <= 3
        taken += portion
    for number, count in enumerate((17, 0, 5, 41)):
        assert offsets(taken, number) == list(range(count))
    assert all(partition.buffered_bytes == 0 for partition in partitions)


def test_the_first_record_may_exceed_max_bytes() -> None:
    buffers, [partition] = filled(3, size=100)
    assert len(buffers.pop(10, 1)[0]) == 1
    assert len(buffers.pop(10, 250)[0]) == 2
    assert partition.next_offset == 3


def test_cleared_buffers_are_empty() -> None:
    buffers, [partition] = filled(3)
    buffers.clear()
    assert not buffers
    assert buffers.pop(10, PLENTY) == ([], [])
    assert partition.buffered_bytes == 0
