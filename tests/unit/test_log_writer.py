"""Acceptance times strictly increase, and a hanging log raises Unavailable."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from lorestream.errors import Unavailable
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


async def test_a_hanging_log_raises_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        async def append(self, _records: object) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(log_writer, "APPEND_TIMEOUT_S", 0.01)
    hanging: Any = Hanging()
    with pytest.raises(Unavailable, match="the log accepted no write"):
        await LogWriter(hanging, SetClock(), last_accepted_at=0).append([NewRecord(b"k", b"v", {})])


def test_the_append_timeout_is_below_two_seconds() -> None:
    assert log_writer.APPEND_TIMEOUT_S < 2
