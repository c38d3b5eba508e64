"""A clock that jumps ahead: nothing is removed for its age, and no event is accepted in the future, until it settles."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

from lorestream import events
from lorestream.cli.serve import readiness
from lorestream.http.readiness import ReadinessChecks
from lorestream.steady_clock import MAX_STEP_S, SteadyClock, elapsed
from lorestream.wiring import SystemClock
from lorestream.wiring.parts import ACCEPTANCE_SETTLE_S
from producers.gateway import Gateway
from stream_workers.sweeper import Sweeper
from stream_workers.time_check import MAX_ABSENCE_S, SETTLE_S, TimeCheck
from stream_workers.worker import Worker
from tests.parts import open_parts, pipeline_over, put, records, texts

DAY_S = 86_400.0
START = 1_760_000_000.0


class Time:
    """A clock that can be set, and a monotonic one that cannot."""

    def __init__(self) -> None:
        self.wall, self.monotonic = START, 50.0

    def now(self) -> float:
        return self.wall

    def elapsed(self) -> float:
        return self.monotonic

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def check(self, **options: float) -> TimeCheck:
        return TimeCheck(self, monotonic=self.elapsed, **options)


def test_a_jump_ahead_is_a_problem_until_the_clock_is_set_back() -> None:
    time = Time()
    check = time.check()
    time.pass_(70 * DAY_S)
    assert check.problem() is None
    time.wall += 70 * DAY_S
    time.pass_(9)
    for _ in range(2):
        assert "1680.0 hours" in str(check.problem())
    time.wall -= 70 * DAY_S
    assert check.problem() is None


def test_small_corrections_and_steps_back_are_none() -> None:
    time = Time()
    check = time.check()
    for step in (MAX_STEP_S - 1, MAX_STEP_S - 1, -40 * DAY_S, MAX_STEP_S - 1):
        time.pass_(60)
        time.wall += step
        assert check.problem() is None
    time.wall += MAX_STEP_S + 1
    assert check.problem() is not None


def test_after_a_long_absence_the_first_removal_waits_an_hour() -> None:
    """A start with a wrong clock looks like that, too; in the hour it may be set from the network."""
    time = Time()
    assert time.check(newest=START - MAX_ABSENCE_S + 1).problem() is None
    assert time.check(newest=START + 5).problem() is None
    check = time.check(newest=START - 70 * DAY_S)
    assert "first hour" in str(check.problem())
    time.pass_(9)
    time.wall -= 70 * DAY_S
    assert check.problem() is not None
    time.pass_(SETTLE_S)
    assert check.problem() is None


def test_a_step_ahead_that_stays_is_believed_after_an_hour() -> None:
    """A machine that was paused, or that got its time late. Nobody has to restart anything."""
    time = Time()
    check = time.check()
    time.wall += 70 * DAY_S
    assert check.problem() is not None
    time.pass_(SETTLE_S - 1)
    assert check.problem() is not None
    time.pass_(1)
    assert check.problem() is None
    time.wall += MAX_STEP_S + 1
    assert check.problem() is not None


def test_another_step_begins_the_hour_again() -> None:
    time = Time()
    check = time.check()
    for step in (70 * DAY_S, 2 * MAX_STEP_S, -2 * MAX_STEP_S):
        time.wall += step
        assert check.problem() is not None
        time.pass_(SETTLE_S - 1)
        assert check.problem() is not None
    time.pass_(2)
    assert check.problem() is None


def test_the_time_goes_on_from_before_the_step_until_it_has_settled() -> None:
    time = Time()
    clock = SteadyClock(time, settle_s=300, monotonic=time.elapsed)
    assert clock.now() == START
    time.wall += 70 * DAY_S
    time.pass_(9)
    assert clock.now() == START + 9
    assert "1680.0 hours" in str(clock.problem())
    time.wall -= 70 * DAY_S
    assert (clock.now(), clock.problem()) == (START + 9, None)
    time.wall += 2 * DAY_S
    assert clock.now() == START + 9
    time.pass_(300)
    assert (clock.now(), clock.problem()) == (time.wall, None)
    time.wall -= 2 * DAY_S
    assert clock.now() == time.wall


async def test_no_event_is_accepted_in_the_future_by_a_clock_that_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acceptance times never fall: one in the future would hold all later ones there until it is reached."""
    async with open_parts(tmp_path) as runtime:
        gateway, real = Gateway.over(runtime), runtime.clock.now()
        checks = ReadinessChecks(
            readiness.of_embedded(runtime, Worker(runtime)),
            runtime.metrics,
            monotonic=iter((10, 20)).__next__,
        )
        with monkeypatch.context() as jumped:
            jumped.setattr(SystemClock, "now", lambda _: real + 70 * DAY_S)
            await gateway.ingest("default", "s", [b'{"agent_id": "a", "text": "meanwhile"}'])
            results = await checks.results()
        await gateway.ingest("default", "s", [b'{"agent_id": "a", "text": "after"}'])
        for record in await runtime.log.read("test", limit=10, wait_s=0):
            put_ = events.decode(record)
            assert max(put_.accepted_at, record.appended_at) < real + ACCEPTANCE_SETTLE_S
    assert "1680.0 hours" in results["clock"]
    assert checks.is_ready({**results, "indexer": "ok"})


def test_the_monotonic_clock_goes_on() -> None:
    assert elapsed() <= elapsed()


async def test_the_sweeper_keeps_what_only_looks_expired(tmp_path: Path) -> None:
    time, trims = Time(), 0

    async def trim() -> int:
        nonlocal trims
        trims += 1
        return 0

    async with open_parts(tmp_path) as runtime:
        pipeline = pipeline_over(runtime)
        lasting = put("lasting", at=START, expires_at=runtime.clock.now() + DAY_S)
        await pipeline.apply(await pipeline.prepare(records(lasting)))
        time.wall = runtime.clock.now()
        check, checked = time.check(), asyncio.Event()

        def problem() -> str | None:
            checked.set()
            return check.problem()

        sweeper = Sweeper(
            runtime.store, time, tombstone_life_s=1000, interval_s=0.001, trim_log=trim, time_problem=problem
        )
        time.wall += 70 * DAY_S
        with structlog.testing.capture_logs() as lines:
            running = asyncio.create_task(sweeper.run())
            for _ in range(3):
                checked.clear()
                await checked.wait()
            assert (trims, await texts(runtime)) == (0, ["lasting"])
            time.wall -= 70 * DAY_S
            while not trims:
                await asyncio.sleep(0.001)
            running.cancel()
            await asyncio.wait({running})
        assert await texts(runtime) == ["lasting"]
    assert [line["event"] for line in lines] == ["removal by age waits"]
