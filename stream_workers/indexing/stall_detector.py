"""Ends an indexer that hangs without an error. Kafka consumers have done so after a restart of the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from lorestream.errors import Unavailable
from stream_workers.indexing.failures import IndexingFailed

_log = structlog.get_logger("lorestream.indexer")

CHECK_INTERVAL_S = 5.0


class StallDetector:
    """Checks at intervals whether an indexer that has work makes progress."""

    def __init__(
        self,
        *,
        records_behind: Callable[[], Awaitable[int]],
        progress: Callable[[], int],
        is_waiting: Callable[[], bool],
        timeout_s: float,
    ) -> None:
        """`progress` is any number that changes with each batch, and while a long one is worked on.

        `is_waiting`: whether the indexer waits for something it knows of, such as a store that is unavailable or
        copied by a snapshot.
        `records_behind` may raise Unavailable: that counts as no work.
        """
        self._records_behind = records_behind
        self._progress = progress
        self._is_waiting = is_waiting
        self._timeout_s = timeout_s

    async def run(self) -> None:
        """Check until cancelled. Raises IndexingFailed after `timeout_s` with work and without progress."""
        stalled_s, before = 0.0, self._progress()
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            idle = self._progress() == before and not self._is_waiting()
            before = self._progress()
            stalled_s = stalled_s + CHECK_INTERVAL_S if idle and await self._has_work() else 0.0
            if stalled_s >= self._timeout_s:
                for task in asyncio.all_tasks():
                    _log.error(
                        "the indexer stalled and is ended: where this task waits",
                        task=task.get_name(),
                        waits_at=_stack(task),  # `stack` has a meaning of its own to structlog
                    )
                raise IndexingFailed(
                    f"there are records to index, and none was indexed for {stalled_s:.0f} s: restart the worker;"
                    " the log above shows where each task waits"
                )

    async def _has_work(self) -> bool:
        try:
            return await self._records_behind() > 0
        except Unavailable:
            return False


def _stack(task: asyncio.Task[Any]) -> list[str]:
    """The coroutines that a task awaits, from the outermost to the innermost, as "file:line function"."""
    stack: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            stack.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return stack
