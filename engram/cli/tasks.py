"""Every task of care, on the parts of a process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from engram.care import Tasks, tasks
from engram.care.letters import DeadLetters
from engram.settings import Settings
from engram.wiring import WorkerParts, open_worker
from engram.wiring.snapshots import snapshots_over


def tasks_over(parts: WorkerParts) -> Tasks:
    """The tasks that these parts can do."""
    return tasks(
        *DeadLetters(parts.log, parts.ledger, lambda: parts.store).tasks(),
        snapshots_over(parts).task(),
    )


@contextlib.asynccontextmanager
async def open_tasks(settings: Settings) -> AsyncGenerator[Tasks]:
    """The tasks in this process, for the distributed shape."""
    async with open_worker(settings) as parts:
        yield tasks_over(parts)
