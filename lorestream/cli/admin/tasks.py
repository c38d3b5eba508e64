"""All admin tasks, built from the parts of a process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from lorestream.admin import AdminTasks, tasks_by_name
from lorestream.admin.cache import cache_clear_task
from lorestream.admin.dead_letters import DeadLetters
from lorestream.admin.exports import Exporter
from lorestream.admin.imports import Importer
from lorestream.cli.doctor.machine import doctor_task
from lorestream.identity import Pseudonyms
from lorestream.settings import Settings
from lorestream.wiring import Runtime, WorkerParts, open_worker, player_keys
from lorestream.wiring.snapshots import snapshots_over
from stream_workers.rebuild.alias_swap import AliasTasks
from stream_workers.rebuild.replay import Replay


def tasks_over(parts: WorkerParts) -> AdminTasks:
    """All admin tasks, on these parts."""
    log, ledger, clock = parts.log, parts.ledger, parts.clock
    exports = Exporter(lambda: parts.store, ledger, clock, _pseudonyms(parts))
    imports = Importer(log, ledger, lambda: parts.store, parts.watermarks, lambda: parts.group, clock)
    return tasks_by_name(
        *DeadLetters(log, ledger, lambda: parts.store).tasks(),
        *exports.tasks(),
        *imports.tasks(),
        snapshots_over(parts).task(),
        Replay(parts).task(),
        *AliasTasks(parts).tasks(),
        cache_clear_task(parts.cache),
        doctor_task(parts.settings),
    )


def _pseudonyms(parts: WorkerParts) -> Pseudonyms | None:
    """The keys for player names. None where none are set: only an export of players' agents needs them."""
    if isinstance(parts, Runtime):
        return parts.pseudonyms
    return player_keys.open_pseudonyms(parts.settings) if parts.settings.player_key else None


@contextlib.asynccontextmanager
async def open_tasks(settings: Settings) -> AsyncGenerator[AdminTasks]:
    """The tasks with parts of their own, closed at the end. For the distributed shape. Raises Misconfigured."""
    async with open_worker(settings) as parts:
        yield tasks_over(parts)
