"""The lag metrics, and the end of an indexer that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lorestream import events
from lorestream.errors import Unavailable
from lorestream.ports import Record
from lorestream.telemetry import Metrics
from stream_workers.indexing import lag, stall_detector
from stream_workers.indexing.checkpoint import Checkpoint
from stream_workers.indexing.failures import IndexingFailed
from stream_workers.indexing.lag import LagGauges
from stream_workers.indexing.stall_detector import StallDetector
from tests.parts import Faulty, indexer_over, open_parts, put, running, texts


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


@dataclass
class Clock:
    time: float = 1000.0

    def now(self) -> float:
        return self.time


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
        self.clock = Clock()
        self.lag = LagGauges(self.checkpoint, self.metrics, self.clock, must_finish=lambda: True)
        self.batches = 0

    async def gauges(self) -> tuple[float | None, float | None]:
        """Records and seconds, after the next update."""
        running = asyncio.create_task(self.lag.run())
        await asyncio.sleep(0)  # `run` updates at once, and nothing here waits
        running.cancel()
        value = self.metrics.registry.get_sample_value
        return value("lorestream_consumer_lag_records"), value("lorestream_consumer_lag_seconds")

    async def watch(self, *, waiting: bool = False, limit_s: float = 0.3) -> None:
        detector = StallDetector(
            records_behind=self.checkpoint.records_behind,
            progress=lambda: self.batches,
            is_waiting=lambda: waiting,
            timeout_s=0.05,
        )
        async with asyncio.timeout(limit_s):
            await detector.run()


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setattr(stall_detector, "CHECK_INTERVAL_S", 0.01)
    return Subject()


async def test_unfinished_records_of_assigned_partitions_are_counted(subject: Subject) -> None:
    assert await subject.checkpoint.records_behind() == 4
    subject.member.ends[7] = 1000  # assigned to another member
    assert await subject.checkpoint.records_behind() == 4


async def test_the_gauges_show_how_many_are_unfinished_and_how_old_the_oldest_is(subject: Subject) -> None:
    delivery = subject.checkpoint.offsets.track([Record(1, n, b"", b"", {}, 980.0 + n) for n in (10, 11)])
    assert await subject.gauges() == (4, 10)
    subject.clock.time += 60  # nothing is finished meanwhile
    assert await subject.gauges() == (4, 70)
    subject.checkpoint.offsets.finish(delivery)
    subject.member.ends = {0: 10, 1: 12}
    assert await subject.gauges() == (0, 0)


async def test_records_that_are_not_even_delivered_age_too(subject: Subject) -> None:
    assert await subject.gauges() == (4, 0)
    subject.clock.time += 60
    assert await subject.gauges() == (4, 60)


async def test_while_the_log_is_away_the_unfinished_records_go_on_ageing(subject: Subject) -> None:
    subject.checkpoint.offsets.track([Record(1, 10, b"", b"", {}, 1000.0)])
    assert await subject.gauges() == (4, 0)
    subject.member.away = True
    subject.clock.time += 60
    assert await subject.gauges() == (4, 60)


async def test_the_gauges_rise_while_the_store_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is away and 498 records are unfinished: the gauges stood at what the last finished batch had left."""
    monkeypatch.setattr(lag, "UPDATE_INTERVAL_S", 0.01)

    back = False

    def away(*_arguments: object, **_how: bool) -> None:
        if not back:
            raise Unavailable("the store is away")

    async with open_parts(tmp_path) as runtime:
        indexer = indexer_over(runtime, Faulty(runtime.store, insert=away))  # type: ignore[arg-type]
        value = runtime.metrics.registry.get_sample_value
        async with running(indexer):
            await runtime.log.append([events.encode(put(event_id=str(number))) for number in range(498)])
            async with asyncio.timeout(30):
                while value("lorestream_consumer_lag_records") != 498:
                    await asyncio.sleep(0.01)
                before = value("lorestream_consumer_lag_seconds") or 0.0
                while (value("lorestream_consumer_lag_seconds") or 0.0) <= before:
                    await asyncio.sleep(0.01)
            back = True


async def test_work_without_progress_ends_the_indexer(subject: Subject) -> None:
    with pytest.raises(IndexingFailed, match="there are records to index, and none was indexed"):
        await subject.watch(limit_s=60)


async def test_the_stacks_of_all_tasks_are_logged(subject: Subject) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async def outer() -> None:
        await hang()

    hanging = asyncio.create_task(outer(), name="hanging")
    with capture_logs() as logs, pytest.raises(IndexingFailed):
        await subject.watch(limit_s=60)
    hanging.cancel()
    [stack] = [one["waits_at"] for one in logs if one.get("task") == "hanging"]
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


async def test_waiting_for_a_snapshot_of_the_store_is_no_stall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large store on a slow disk takes minutes to copy: that ended the indexer, and with it `lorestream up`."""
    monkeypatch.setattr(stall_detector, "CHECK_INTERVAL_S", 0.01)
    async with open_parts(tmp_path) as runtime:
        store: Any = runtime.store
        async with store.without_writes():
            await runtime.log.append([events.encode(put())])
            indexing = asyncio.create_task(indexer_over(runtime, stall_timeout_s=0.05).run(burst=True))
            assert await asyncio.wait({indexing}, timeout=0.3) == (set(), {indexing})
        await indexing
        assert await texts(runtime, "a") != []


async def test_without_records_or_without_a_broker_there_is_no_stall(subject: Subject) -> None:
    subject.member.away = True
    with pytest.raises(TimeoutError):
        await subject.watch()
    subject.member.away, subject.member.ends = False, {0: 10, 1: 10}
    with pytest.raises(TimeoutError):
        await subject.watch()
