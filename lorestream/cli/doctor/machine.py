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
from lorestream.cli.doctor.checks import Check, Verdict
from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from lorestream.settings import Settings

TASK = "doctor"


def machine_checks(settings: Settings) -> Iterator[Check]:
    """The data directory, its permissions and words, limits, model and processor. Blocks for about a second."""
    yield checks.data_directory(settings.data_dir, settings.min_free_bytes)
    if settings.data_dir.is_dir():
        yield checks.permissions(settings.data_dir)
    if settings.store.kind == "edge":
        yield _words(settings)
    yield checks.open_files()
    yield checks.model(settings.embedder, settings.models_dir)
    if settings.reranker.model is not None:
        yield checks.reranker(settings.reranker.model, settings.models_dir)
    if settings.embedder.kind in {"auto", "openvino"}:
        yield checks.processor()


def _words(settings: Settings) -> Check:
    from lorestream.wiring.stores import embedded_word_layout  # noqa: PLC0415 (help must be instant)

    try:
        return checks.words(embedded_word_layout(settings))
    except Misconfigured as error:
        return Check("words", Verdict.FAILED, str(error))


def doctor_task(settings: Settings) -> AdminTask:
    """The admin task: one row for each check."""

    async def run(_arguments: NoArguments) -> ReportStream:
        found = await asyncio.to_thread(lambda: list(machine_checks(settings)))
        for check in found:
            yield Row(msgspec.to_builtins(check))
        yield Outcome({"checks": len(found)})

    return AdminTask(TASK, NoArguments, run)
