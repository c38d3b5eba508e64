"""Background work. Only this module creates tasks (a lint rule), so each has a name, an owner and a stated policy.

    function          for                                     an unexpected end
    restarting        loops that run beside a service         logged, counted, started again with backoff
    run_together      parts that cannot work without          the others are stopped, and the error is raised
                      each other
    alongside         one task within a block                 raised by the block
    together          a block that starts calls               the others are cancelled, and the error is raised
    run_all           calls made at the same time             the same
    start_shared      one computation with several callers    raised to each caller that waits
    start_detached    short work that nobody waits for        logged, counted
    with_ticks        the steps of a stream, and pauses       raised to the reader of the stream

"Logged" is with the stack, once. A stop is bounded in time: a task that goes on after its cancellation is logged and
left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

import structlog

from lorestream.telemetry import BACKGROUND_FAILURES

_log = structlog.get_logger("lorestream.background")

STOP_TIMEOUT_S = 3.0
"""How long a cancelled task may take to end."""
RESTART_DELAY_S = 0.5
"""Pause before the first restart of a task; doubled at each further one, up to MAX_RESTART_DELAY_S."""
MAX_RESTART_DELAY_S = 30.0
HEALTHY_AFTER_S = 60.0
"""After this time without a failure, the next pause is RESTART_DELAY_S again."""

T = TypeVar("T")

_detached: set[asyncio.Task[Any]] = set()
"""The event loop keeps only weak references to its tasks: without these, a task could vanish while it runs."""


@contextlib.asynccontextmanager
async def restarting(
    work: Callable[[], Coroutine[Any, Any, None]],
    name: str,
    *,
    delay_s: float = RESTART_DELAY_S,
) -> AsyncGenerator[None]:
    """Run `work()` in the background until the context ends, and again whenever it fails. A normal return ends it.

    `name` stands in the log and in the metric. `delay_s`: the pause before the first restart, in seconds.
    """
    async with alongside(_restart(work, name, delay_s), name):
        yield


async def run_together(
    works: Mapping[str, Coroutine[Any, Any, object]],
    *,
    stop: Callable[[], None] | None = None,
    grace_s: float = 0.0,
    stop_timeout_s: float = STOP_TIMEOUT_S,
) -> None:
    """Run all `works`, by name, until the first one ends; then stop the others. Returns when all have ended.

    `stop` asks the others to end, and they have `grace_s` seconds for it. Those that still run are cancelled, and
    waited for at most `stop_timeout_s`. Raises the error of the first that failed; further errors are logged.
    """
    tasks = [_start(work, name) for name, work in works.items()]
    ended: Collection[asyncio.Task[object]] = ()
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if stop is not None:
            stop()
    finally:
        cancelled = await stop_tasks(tasks, grace_s=grace_s, timeout_s=stop_timeout_s)
    # The one that ended first is the cause; what the others failed with may follow from it.
    tasks.sort(key=lambda task: task not in ended)
    failures = _failures(tasks, cancelled)
    for error in failures[1:]:
        _log.error("a part failed while it was stopped", exc_info=error)
    if failures:
        raise failures[0]


@contextlib.asynccontextmanager
async def alongside(work: Coroutine[Any, Any, T], name: str) -> AsyncGenerator[asyncio.Task[T]]:
    """Run one task beside the block, and stop it when the block ends. Yields the task, which the block may await.

    When the block ends without an error of its own, an error of the task is raised.
    """
    task = _start(work, name)
    try:
        yield task
    except BaseException as error:
        failure = _failure(task, await stop_tasks([task]))
        if failure is not None and failure is not error:
            _log.error("a part failed while it was stopped", task=name, exc_info=failure)
        raise
    failure = _failure(task, await stop_tasks([task]))
    if failure is not None:
        raise failure


async def run_all(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """The results of all calls, which run at the same time, in their order.

    The first error is raised; the other calls are cancelled then, and have ended when this returns.
    """
    async with together() as start:
        tasks = [start(call) for call in calls]
    return [task.result() for task in tasks]


@contextlib.asynccontextmanager
async def together() -> AsyncGenerator[Callable[[Coroutine[Any, Any, T]], asyncio.Task[T]]]:
    """A block that starts calls, and ends when all of them have ended.

    The first error of a call is raised by the next start, or at the end of the block; an error of the block, as it is.
    The other calls are cancelled then, and have ended when this returns.
    """
    # Without a TaskGroup: before Python 3.13 it leaves the caller marked as being cancelled when a call fails, and then
    # a timeout around it raises CancelledError instead of TimeoutError, which ends a task in silence.
    tasks: dict[asyncio.Task[T], None] = {}  # that run or have failed, in the order of their start

    def start(call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        if failures := _failures(tasks):
            call.close()
            raise failures[0]
        task = _start(call, getattr(call, "__qualname__", "call"))
        tasks[task] = None
        task.add_done_callback(lambda done: None if _failure(done) else tasks.pop(done))
        return task

    cancelled: Collection[asyncio.Task[T]] = ()
    try:
        yield start
        while tasks and not _failures(tasks):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        cancelled = await stop_tasks(list(tasks))
    if failures := _failures(tasks, cancelled):
        raise failures[0]


def start_shared(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start a computation that several callers await, each by `asyncio.shield`. Its error is raised to them.

    It goes on when all of them were cancelled; nobody wants its error then, so it is not logged.
    """
    task = _start(work, name)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def start_detached(work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[object]:
    """Start short work that nobody waits for. The owner may still stop it with `stop_tasks`."""
    task = _start(work, name)
    task.add_done_callback(_report_failure)
    return task


async def with_ticks(items: AsyncGenerator[T], interval_s: float) -> AsyncGenerator[T | None]:
    """The items, and None after every `interval_s` without one, for what has to happen meanwhile.

    Closing it ends the step that `items` is at, and closes `items`.
    """
    step: asyncio.Task[T] | None = None
    try:
        while True:
            step = step or start_shared(_next(items), "step of a stream")
            done, _ = await asyncio.wait({step}, timeout=interval_s)
            if not done:
                yield None
                continue
            try:
                item = step.result()
            except StopAsyncIteration:
                return
            step = None
            yield item
    finally:
        if step is not None:
            await stop_tasks([step])
        if step is None or step.done():  # a generator that still runs cannot be closed
            await items.aclose()


async def _next(items: AsyncGenerator[T]) -> T:
    return await anext(items)


async def stop_tasks(
    tasks: Collection[asyncio.Task[Any]], *, grace_s: float = 0.0, timeout_s: float = STOP_TIMEOUT_S
) -> frozenset[asyncio.Task[Any]]:
    """Wait `grace_s` seconds for the end of the tasks, then cancel those that still run, and wait `timeout_s` for it.

    Returns those that were cancelled. One that does not end is logged, with the place where it stands.
    """
    try:
        if grace_s > 0 and tasks:
            await asyncio.wait(tasks, timeout=grace_s)
    finally:
        running = await _cancel(tasks, timeout_s)
    return running


async def _cancel(tasks: Collection[asyncio.Task[Any]], timeout_s: float) -> frozenset[asyncio.Task[Any]]:
    running = frozenset(task for task in tasks if not task.done())
    for task in running:
        task.cancel()
    if running:
        _, late = await asyncio.wait(running, timeout=timeout_s)
        for task in late:
            task.add_done_callback(_report_failure)
            place = task.get_stack(limit=1)
            _log.error(
                "a background task did not end after its cancellation, the stop goes on without it",
                task=task.get_name(),
                waited_s=timeout_s,
                stands_at=f"{place[0].f_code.co_filename}:{place[0].f_lineno}" if place else "unknown",
            )
    return running


def _start(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    task = asyncio.get_running_loop().create_task(work, name=name)
    _detached.add(task)
    task.add_done_callback(_detached.discard)
    return task


async def _restart(work: Callable[[], Coroutine[Any, Any, None]], name: str, delay_s: float) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    pause_s = delay_s
    while True:
        began = loop.time()
        try:
            await work()
        except asyncio.CancelledError as error:
            if task.cancelling():
                raise
            failure: BaseException = error  # of something that the work has awaited, not of this task
        except Exception as error:  # noqa: BLE001 (whatever it is, the work has to go on)
            failure = error
        else:
            return
        if loop.time() - began > HEALTHY_AFTER_S:
            pause_s = delay_s
        BACKGROUND_FAILURES.labels(name).inc()
        _log.error(
            "a background task ended unexpectedly, it is started again",
            task=name,
            restart_in_s=pause_s,
            exc_info=failure,
        )
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_RESTART_DELAY_S)


def _failures(
    tasks: Iterable[asyncio.Task[Any]], cancelled: Collection[asyncio.Task[Any]] = ()
) -> list[BaseException]:
    return [error for task in tasks if (error := _failure(task, cancelled)) is not None]


def _failure(task: asyncio.Task[Any], cancelled: Collection[asyncio.Task[Any]] = ()) -> BaseException | None:
    """What a task failed with; None for one that still runs, and for one that ended because it was `cancelled`."""
    if not task.done() or (task.cancelled() and task in cancelled):
        return None
    if task.cancelled():
        # Raised as it is, the CancelledError would look like a cancellation of the caller, and end it in silence.
        return RuntimeError(f"{task.get_name()} ended because something that it awaited was cancelled")
    return task.exception()


def _report_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        BACKGROUND_FAILURES.labels(task.get_name()).inc()
        _log.error("a background task failed", task=task.get_name(), exc_info=error)
