"""The lag metrics, and the end of an indexer that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from lorestream.errors import Unavailable
from lorestream.ports import Record
from lorestream.telemetry import Metrics
from stream_workers.indexing import stall_detector
from stream_workers.indexing.checkpoint import Checkpoint, LagGauges
from stream_workers.indexing.failures import IndexingFailed
from stream_workers.indexing.stall_detector import StallDetector


@dataclass
class Member:
    """A subscription whose partitions end where a test sets it."""

    ends: dict[int, int] = field(default_factory=dict)
    away: bool = False

    async def end(self) -> Mapping[int, int]:
        if self.away:
            raise Unavailable("the broker is away")
        return self.ends

    async def read(self, *, limit: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        return []

    async def commit(self, positions: Mapping[int, int]) -> None:
        pass


class Clock:
    def now(self) -> float:
        return 1000.0


class Subject:
    """Gauges and a stall detector over partitions 0 and 1, both finished up to offset 10."""

    def __init__(self) -> None:
        async def flush() -> None:
            pass

        self.metrics = Metrics()
        self.checkpoint = Checkpoint(flush=flush, publisher=None, metrics=self.metrics)
        self.checkpoint.offsets.assign({0: 10, 1: 10})
        self.member = Member({0: 10, 1: 14})
        self.checkpoint.join(self.member)
        self.lag = LagGauges(self.checkpoint, self.metrics, Clock())
        self.batches = 0

    async def watch(self, *, waiting: bool = False) -> None:
        detector = StallDetector(
            records_behind=self.checkpoint.records_behind,
            progress=lambda: self.batches,
            is_waiting=lambda: waiting,
            timeout_s=0.05,
        )
        async with asyncio.timeout(0.3):
            await detector.run()


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setattr(stall_detector, "CHECK_INTERVAL_S", 0.01)
    return Subject()


async def test_unfinished_records_of_assigned_partitions_are_counted(subject: Subject) -> None:
    assert await subject.checkpoint.records_behind() == 4
    subject.member.ends[7] = 1000  # assigned to another member
    assert await subject.checkpoint.records_behind() == 4


async def test_the_gauges_show_how_many_and_how_old(subject: Subject) -> None:
    await subject.lag.update([Record(1, n, b"", b"", {}, 990.0 + n) for n in (3, 4)])
    value = subject.metrics.registry.get_sample_value
    assert value("lorestream_consumer_lag_records") == 4
    assert value("lorestream_consumer_lag_seconds") == 7
    subject.member.ends = {0: 10, 1: 10}
    await subject.lag.update([])
    assert value("lorestream_consumer_lag_records") == value("lorestream_consumer_lag_seconds") == 0


async def test_work_without_progress_ends_the_indexer(subject: Subject) -> None:
    with pytest.raises(IndexingFailed, match="there are records to index, and none was indexed"):
        await subject.watch()


async def test_the_stacks_of_all_tasks_are_logged(subject: Subject) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async def outer() -> None:
        await hang()

    hanging = asyncio.create_task(outer(), name="hanging")
    with capture_logs() as logs, pytest.raises(IndexingFailed):
        await subject.watch()
    hanging.cancel()
    [stack] = [one["stack"] for one in logs if one.get("task") == "hanging"]
    assert [line.rpartition(" ")[2] for line in stack[:2]] == ["outer", "hang"]


async def test_progress_prevents_it(subject: Subject) -> None:
    async def work() -> None:
        while True:
            await asyncio.sleep(0.01)
            subject.batches += 1

    working = asyncio.create_task(work())
    with pytest.raises(TimeoutError):
        await subject.watch()
    working.cancel()


async def test_waiting_for_a_known_outage_is_no_stall(subject: Subject) -> None:
    with pytest.raises(TimeoutError):
        await subject.watch(waiting=True)


async def test_without_records_or_without_a_broker_there_is_no_stall(subject: Subject) -> None:
    subject.member.away = True
    with pytest.raises(TimeoutError):
        await subject.watch()
    subject.member.away, subject.member.ends = False, {0: 10, 1: 10}
    with pytest.raises(TimeoutError):
        await subject.watch()
