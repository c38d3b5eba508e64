"""The checks of the machine and the files of one Lorestream, by its settings.

`lorestream up` makes them itself when `lorestream doctor` asks it, as the admin task "doctor": another terminal may
have another data directory, another user and other settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from lorestream.admin import AdminTask, NoArguments, Outcome, ReportStream, Row
from lorestream.cli.doctor import checks
from lorestream.cli.doctor.checks import Check

if TYPE_CHECKING:
    from lorestream.settings import Settings

TASK = "doctor"


def machine_checks(settings: Settings) -> Iterator[Check]:
    """The data directory, its permissions, limits, model and processor. Blocks for about a second."""
    yield checks.data_directory(settings.data_dir, settings.min_free_bytes)
    if settings.data_dir.is_dir():
        yield checks.permissions(settings.data_dir)
    yield checks.open_files()
    yield checks.model(settings.embedder, settings.models_dir)
    if settings.embedder.kind in {"auto", "openvino"}:
        yield checks.processor()


def doctor_task(settings: Settings) -> AdminTask:
    """The admin task: one row for each check."""

    async def run(_arguments: NoArguments) -> ReportStream:
        found = await asyncio.to_thread(lambda: list(machine_checks(settings)))
        for check in found:
            yield Row(msgspec.to_builtins(check))
        yield Outcome({"checks": len(found)})

    return AdminTask(TASK, NoArguments, run)
