"""How verbs of care run: in the embedded shape by the running `lorestream up`, in the distributed shape right here."""

# ruff: noqa: PLC0415 (help must be instant)

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import msgspec

from lorestream.admin import Failure, Outcome, Progress, Remark, Report, Row
from lorestream.cli import terminal
from lorestream.cli.memories.calls import connect
from lorestream.client import NotFound
from lorestream.errors import LorestreamError, Misconfigured, Unavailable
from lorestream.settings import load_settings

if TYPE_CHECKING:
    from rich.progress import TaskID

    from lorestream.settings import Settings

OnRow = Callable[[dict[str, Any]], object]
Call = tuple[str, Mapping[str, Any]]
"""The name of a task, and its arguments."""


def carry_out(
    name: str, arguments: Mapping[str, Any], *, url: str, on_row: OnRow = lambda _row: None
) -> dict[str, Any]:
    """Run a task of care, showing how far it is; returns its outcome. Raises LorestreamError."""
    outcomes: list[dict[str, Any]] = []
    carry_out_each([(name, arguments)], url=url, on_row=on_row, on_outcome=outcomes.append)
    return outcomes[0]


def carry_out_each(calls: Iterable[Call], *, url: str, on_row: OnRow, on_outcome: OnRow) -> None:
    """Run tasks one behind the other; a call is asked for when the one before has its outcome. Raises LorestreamError."""
    settings = load_settings()
    with Display() as display:

        def take(report: Report | Failure) -> None:
            match report:
                case Progress():
                    display.show(report)
                case Remark():
                    terminal.print_note(report.text)
                case Row():
                    on_row(report.value)
                case Outcome():
                    on_outcome(report.value)
                case Failure():
                    raise LorestreamError(report.message)

        if settings.distributed:
            _run_here(settings, calls, take)
        else:
            _run_elsewhere(url, calls, take)


def _run_elsewhere(url: str, calls: Iterable[Call], take: Callable[[Report | Failure], None]) -> None:
    from lorestream.http.admin_routes import PREFIX

    with connect(url) as client:
        for name, arguments in calls:
            ended = False
            with contextlib.closing(client.reports(PREFIX + name, arguments)) as lines:
                for line in _offered(lines, url):
                    report = msgspec.json.decode(line, type=Progress | Remark | Row | Outcome | Failure)
                    take(report)
                    ended = ended or isinstance(report, Outcome)
            if not ended:
                raise Unavailable(
                    "it was broken off before its end: look whether that lorestream still runs, and try again"
                )


def _offered(lines: Iterable[str], url: str) -> Iterator[str]:
    try:
        yield from lines
    except NotFound as error:
        raise Misconfigured(
            f"the service at {url} does no such care: `lorestream up` does; where gateway, workers and query services are"
            " processes of their own, this verb does it itself, given their settings (LORESTREAM_LOG__BOOTSTRAP=…)"
        ) from error


def _run_here(settings: Settings, calls: Iterable[Call], take: Callable[[Report], None]) -> None:
    import uvloop

    from lorestream.cli.admin.tasks import open_tasks
    from lorestream.telemetry import set_up_logging

    set_up_logging(settings.log_format, "warning")

    async def run() -> None:
        async with open_tasks(settings) as tasks:
            for name, arguments in calls:
                task = tasks[name]
                reports: AsyncGenerator[Report] = task.run(msgspec.convert(arguments, task.arguments))
                async with contextlib.aclosing(reports):
                    async for report in reports:
                        take(report)

    uvloop.run(run())


class Display:
    """Progress bars on stderr, one for each thing that is done."""

    def __init__(self) -> None:
        self._bars = terminal.progress_bar(notes=True)
        self._ids: dict[str, tuple[TaskID, float]] = {}

    def show(self, report: Progress) -> None:
        """The bar of `report.doing`, as far as it is, its rate and the time that is left."""
        if report.doing not in self._ids:
            bar = self._bars.add_task(report.doing, total=report.total, note="")
            self._ids[report.doing] = bar, time.monotonic()
        bar, began = self._ids[report.doing]
        rate = report.done / max(0.001, time.monotonic() - began)
        note = f"{rate:,.0f} {report.unit}/s" if report.unit else ""
        if report.left_s:
            note += f", {timedelta(seconds=round(report.left_s))} left"
        self._bars.update(bar, completed=report.done, total=report.total, note=note)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bars.stop()
