"""How far behind a worker is, and that one which hangs is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from lorestream.errors import Unavailable
from lorestream.ports import Record
from lorestream.telemetry import Metrics
from stream_workers.indexing import lag
from stream_workers.indexing.lag import Lag
from stream_workers.indexing.offsets import Offsets
from stream_workers.indexing.retry import Broken, Patience


@dataclass
class Member:
    """The end of a member's partitions as a test sets it."""

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
    """A Lag over partitions 0 and 1, both finished up to 10."""

    def __init__(self) -> None:
        self.offsets = Offsets()
        self.offsets.assign({0: 10, 1: 10})
        self.patience = Patience()
        self.patience.problem = None
        self.metrics = Metrics()
        self.lag = Lag(self.offsets, self.metrics, Clock(), self.patience)
        self.member = Member({0: 10, 1: 14})

    async def watch(self, *, excused: bool = False) -> None:
        async with asyncio.timeout(0.3):
            await self.lag.watch(self.member, 0.05, lambda: excused)


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setattr(lag, "WATCH_INTERVAL_S", 0.01)
    return Subject()


async def test_it_counts_what_is_not_finished_in_its_own_partitions(subject: Subject) -> None:
    assert await subject.lag.behind(subject.member) == 4
    subject.member.ends[7] = 1000  # somebody else's
    assert await subject.lag.behind(subject.member) == 4


async def test_the_gauges_say_how_many_and_how_old(subject: Subject) -> None:
    await subject.lag.report(subject.member, [Record(1, n, b"", b"", {}, 990.0 + n) for n in (3, 4)])
    value = subject.metrics.registry.get_sample_value
    assert value("lorestream_consumer_lag_records") == 4
    assert value("lorestream_consumer_lag_seconds") == 7
    subject.member.ends = {0: 10, 1: 10}
    await subject.lag.report(subject.member, [])
    assert value("lorestream_consumer_lag_records") == value("lorestream_consumer_lag_seconds") == 0


async def test_work_and_no_progress_ends_the_worker(subject: Subject) -> None:
    with pytest.raises(Broken, match="there is work, and none was done"):
        await subject.watch()


async def test_progress_is_progress(subject: Subject) -> None:
    async def work() -> None:
        while True:
            await asyncio.sleep(0.01)
            subject.lag.applied += 1

    working = asyncio.create_task(work())
    with pytest.raises(TimeoutError):
        await subject.watch()
    working.cancel()


async def test_who_knows_what_it_waits_for_may_wait(subject: Subject) -> None:
    with pytest.raises(TimeoutError):
        await subject.watch(excused=True)
    subject.patience.problem = "store: away"
    with pytest.raises(TimeoutError):
        await subject.watch()


async def test_without_work_or_without_a_broker_there_is_nothing_to_be_stuck_at(subject: Subject) -> None:
    subject.member.away = True
    with pytest.raises(TimeoutError):
        await subject.watch()
    subject.member = Member({0: 10, 1: 10})
    with pytest.raises(TimeoutError):
        await subject.watch()
