"""Every task of care, on the parts of a process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from engram.care import Tasks, tasks
from engram.care.answers import clearing
from engram.care.exports import Exports
from engram.care.imports import Imports
from engram.care.letters import DeadLetters
from engram.identity import Pseudonyms
from engram.settings import Settings
from engram.wiring import Runtime, WorkerParts, backends, open_worker
from engram.wiring.snapshots import snapshots_over
from stream_workers.alias import Alias
from stream_workers.replay import Replay


def tasks_over(parts: WorkerParts) -> Tasks:
    """The tasks that these parts can do."""
    log, ledger, clock = parts.log, parts.ledger, parts.clock
    exports = Exports(lambda: parts.store, ledger, clock, _pseudonyms(parts))
    imports = Imports(log, ledger, lambda: parts.store, parts.watermarks, lambda: parts.group, clock)
    return tasks(
        *DeadLetters(log, ledger, lambda: parts.store).tasks(),
        *exports.tasks(),
        *imports.tasks(),
        snapshots_over(parts).task(),
        Replay(parts).task(),
        *Alias(parts).tasks(),
        clearing(parts.cache),
    )


def _pseudonyms(parts: WorkerParts) -> Pseudonyms | None:
    """None in a process that has no keys for player names and needs none for most of its tasks."""
    if isinstance(parts, Runtime):
        return parts.pseudonyms
    return backends.pseudonyms(parts.settings) if parts.settings.player_key else None


@contextlib.asynccontextmanager
async def open_tasks(settings: Settings) -> AsyncGenerator[Tasks]:
    """The tasks in this process, for the distributed shape."""
    async with open_worker(settings) as parts:
        yield tasks_over(parts)
