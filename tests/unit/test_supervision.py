"""Background work: restarts, ends that end others, bounded stops; and no task is created anywhere else."""

from __future__ import annotations

import ast
import asyncio
import contextlib
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lorestream import supervision
from lorestream.telemetry import Metrics

ROOT = Path(__file__).parents[2]
PRODUCT = ("lorestream", "producers", "stream_workers", "query_service")


def test_tasks_are_created_in_supervision_only():
    """Also by the methods of a loop or a group, which the linter's list of banned functions cannot name."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in PRODUCT
        for path in (ROOT / package).rglob("*.py")
        if path != ROOT / "lorestream/supervision.py"
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute) and node.attr in {"create_task", "ensure_future", "TaskGroup"}
    ]
    assert not found


def failures(task: str) -> float:
    return Metrics().registry.get_sample_value("lorestream_background_failures_total", {"task": task}) or 0.0


async def stubborn(release: asyncio.Event) -> None:
    """Goes on after its cancellation, until `release`."""
    while not release.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await release.wait()


async def fail(error: Exception) -> None:
    raise error


async def test_a_loop_that_fails_is_logged_with_its_stack_counted_and_started_again():
    before, runs, again = failures("sometimes"), 0, asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError(f"run {runs}")
        again.set()
        await asyncio.Event().wait()

    with capture_logs() as logs:
        async with supervision.restarting(work, "sometimes", delay_s=0.001):
            await again.wait()
    assert [(one["event"], str(one["exc_info"]), one["restart_in_s"]) for one in logs] == [
        ("a background task ended unexpectedly, it is started again", "run 1", 0.001),
        ("a background task ended unexpectedly, it is started again", "run 2", 0.002),
    ]
    assert all(one["exc_info"].__traceback__ is not None for one in logs)
    assert failures("sometimes") == before + 2


async def test_a_loop_that_awaited_a_cancelled_future_is_started_again_and_does_not_vanish():
    runs, again = 0, asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            future = asyncio.get_running_loop().create_future()
            future.cancel()  # as libraries do with their own futures when they are closed
            await future
        again.set()

    with capture_logs() as logs:
        async with supervision.restarting(work, "awaits", delay_s=0.001):
            await again.wait()
    assert [type(one["exc_info"]) for one in logs] == [asyncio.CancelledError]


async def test_the_first_end_stops_the_others_and_its_error_is_raised():
    ended = []

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("other")

    with pytest.raises(ValueError, match="broken"):
        await supervision.run_together({"first": fail(ValueError("broken")), "other": other()})
    assert ended == ["other"]


async def test_others_may_finish_within_the_grace_and_a_second_error_is_logged():
    stopping = asyncio.Event()

    async def other() -> None:
        await stopping.wait()
        raise KeyError("second")

    with capture_logs() as logs, pytest.raises(ValueError, match="first"):
        await supervision.run_together(
            {"first": fail(ValueError("first")), "other": other()}, stop=stopping.set, grace_s=60
        )
    assert [type(one["exc_info"]) for one in logs] == [KeyError]


async def test_a_part_that_awaited_a_cancelled_future_does_not_look_like_a_cancelled_caller():
    async def work() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    with pytest.raises(RuntimeError, match="reader ended because"):
        await supervision.run_together({"reader": work()})


async def test_a_stop_is_bounded_and_says_what_did_not_end():
    release = asyncio.Event()
    with capture_logs() as logs:
        await supervision.run_together(
            {"quick": asyncio.sleep(0), "stubborn": stubborn(release)}, stop_timeout_s=0.01
        )
    assert [(one["task"], one["waited_s"]) for one in logs] == [("stubborn", 0.01)]
    assert "test_supervision.py" in logs[0]["stands_at"]
    release.set()


async def test_a_task_beside_a_block_is_stopped_with_it_and_its_error_is_raised():
    async with supervision.alongside(asyncio.Event().wait(), "waits") as task:
        pass
    assert task.cancelled()
    with pytest.raises(ValueError, match="unseen"):
        async with supervision.alongside(fail(ValueError("unseen")), "fails"):
            await asyncio.sleep(0)


async def test_the_error_of_the_block_wins_over_that_of_its_task_which_is_logged():
    async def block() -> None:
        async with supervision.alongside(fail(ValueError("task")), "fails"):
            await asyncio.sleep(0)
            raise KeyError("block")

    with capture_logs() as logs, pytest.raises(KeyError, match="block"):
        await block()
    assert [str(one["exc_info"]) for one in logs] == ["task"]


async def test_calls_at_the_same_time_return_in_order_and_the_first_error_ends_the_others():
    assert await supervision.run_all(asyncio.sleep(0.001, 1), asyncio.sleep(0, 2)) == [1, 2]
    ended = asyncio.Event()

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ValueError, match="one") as caught:
        await supervision.run_all(other(), fail(ValueError("one")))
    assert ended.is_set()
    assert not isinstance(caught.value, BaseExceptionGroup)


async def test_a_timeout_still_ends_a_block_in_which_a_call_has_failed():
    """A broker that went away while it was asked: the next timeout looked like a cancellation, and services ended."""

    async def block() -> None:
        async with asyncio.timeout(0.01):
            with contextlib.suppress(ValueError):
                await supervision.run_all(fail(ValueError("one")), asyncio.Event().wait())
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await block()


@pytest.mark.parametrize("awaited", ["next start", "end of the block"])
async def test_a_call_that_fails_ends_the_block_that_started_it_and_no_caller_around_it(awaited: str):
    """As in the test above. A second start shows that the block does not go on to start calls in vain."""
    started: list[str] = []
    others: list[asyncio.Task[None]] = []

    async def call(name: str) -> None:
        started.append(name)
        await asyncio.Event().wait()

    async def block() -> None:
        async with asyncio.timeout(0.01):
            with contextlib.suppress(ValueError):
                async with supervision.together() as start:
                    others.append(start(call("first")))
                    start(fail(ValueError("one")))
                    while awaited == "next start":
                        await asyncio.sleep(0)
                        start(call("next"))
            assert all(other.cancelled() for other in others)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await block()
    assert started == ["first"]


async def test_no_calls_have_no_results():
    assert await supervision.run_all() == []


async def test_the_failure_of_work_that_nobody_waits_for_is_logged_and_counted():
    before = failures("store an answer")
    with capture_logs() as logs:
        task = supervision.start_detached(fail(ValueError("no")), "store an answer")
        await asyncio.wait([task])
        await asyncio.sleep(0)
    assert [str(one["exc_info"]) for one in logs] == ["no"]
    assert failures("store an answer") == before + 1
