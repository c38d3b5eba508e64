"""Acceptance times strictly increase, and a log that hangs notes it, since no limit around it ends first."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lorestream.adapters.kafka import appender, connection
from lorestream.adapters.kafka.appender import KafkaAppender
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.adapters.sqlite import group_commit
from lorestream.errors import Unavailable
from lorestream.http import readiness
from lorestream.ports import NewRecord
from producers import log_writer
from producers.log_writer import LogWriter
from tests.http_gateway import SetClock
from tests.parts import Faulty, open_parts


async def test_acceptance_times_strictly_increase_when_the_clock_is_set_back(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        clock = SetClock(1_760_000_000.0)
        writer = LogWriter(runtime.log, clock, last_accepted_at=0.0)
        times = [writer.next_accepted_at() for _ in range(5)]
        clock.time -= 3600
        times += [writer.next_accepted_at() for _ in range(5)]
        clock.time += 7200
        times.append(writer.next_accepted_at())
        assert all(earlier < later for earlier, later in itertools.pairwise(times))
        assert times[0] == 1_760_000_000.0
        assert times[-1] == clock.time


async def test_acceptance_times_are_later_than_those_before_a_restart(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        assert LogWriter(runtime.log, SetClock(1000.0), last_accepted_at=2000.0).next_accepted_at() > 2000.0


async def test_appending_no_records_does_not_call_the_log(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        log: Any = Faulty(runtime.log, append=lambda *_: None)
        assert await LogWriter(log, runtime.clock, last_accepted_at=0).append([]) == {}
        assert log.calls == []


def test_each_limit_is_longer_than_those_inside_it_and_all_are_below_two_seconds() -> None:
    """Of two equal ones the outer one ends the call, and the inner one does not note what failed."""
    for limits in (
        (connection.CALL_TIMEOUT_S, connection.LEDGER_TIMEOUT_S, log_writer.WRITE_TIMEOUT_S, 2.0),
        (connection.LEDGER_TIMEOUT_S, readiness.CHECK_TIMEOUT_S, 2.0),
        (group_commit.WRITE_TIMEOUT_S, log_writer.WRITE_TIMEOUT_S),
        (group_commit.WRITE_TIMEOUT_S, readiness.CHECK_TIMEOUT_S),
    ):
        assert all(outer - inner > 0.09 for inner, outer in itertools.pairwise(limits))


async def test_brokers_that_acknowledge_nothing_are_known_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when they answer everything else, as with too few replicas in sync."""

    class Batch:
        def append(self, **_: object) -> object:
            return self

    class Producer:
        partitions = 1

        def new_batch(self) -> Batch:
            return Batch()

        def send(self, *_: object) -> asyncio.Future[object]:
            return asyncio.get_running_loop().create_future()

    class Offsets:
        async def end(self) -> Mapping[int, int]:
            return {0: 0}

    producer: Any = Producer()
    unused: Any = None
    offsets: Any = Offsets()
    kafka = KafkaAppender(unused, "events", producer=producer, max_record_bytes=1000, queue_bytes=1000)
    log = KafkaLog(
        unused,
        events=kafka,
        dead_letters=kafka,
        offsets=offsets,
        topic="events",
        dlq_topic="dlq",
        retention_s=1.0,
        consumer_config=unused,
        clock=SetClock(),
        on_lost=unused,
    )
    kafka._acknowledged_at = float("-inf")
    monkeypatch.setattr(appender, "CALL_TIMEOUT_S", 0.01)
    await log.check()
    with capture_logs() as lines, pytest.raises(Unavailable, match="did not acknowledge"):
        await LogWriter(log, SetClock(), last_accepted_at=0).append([NewRecord(b"k", b"v", {})])
    assert [line["event"][:30] for line in lines] == ["Kafka acknowledges no records,"]
    with pytest.raises(Unavailable, match="did not acknowledge"):
        await log.check()
