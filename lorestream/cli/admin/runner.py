"""Runs admin tasks: on the running `lorestream up` in the embedded shape, in this process in the distributed shape."""

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
from lorestream.errors import InvalidRequest, LorestreamError, Misconfigured, Unavailable
from lorestream.settings import load_settings
from lorestream.telemetry import printable

if TYPE_CHECKING:
    from rich.progress import TaskID

    from lorestream.settings import Settings

OnRow = Callable[[dict[str, Any]], object]
TaskCall = tuple[str, Mapping[str, Any]]
"""The name of a task, and its arguments."""


def run_task(
    name: str, arguments: Mapping[str, Any], *, url: str, on_row: OnRow = lambda _row: None
) -> dict[str, Any]:
    """Run one task, show its progress, and return its outcome.

    `on_row` gets each row of data; `url` is the server, unused in the distributed shape. Raises LorestreamError.
    """
    outcomes: list[dict[str, Any]] = []
    run_tasks([(name, arguments)], url=url, on_row=on_row, on_outcome=outcomes.append)
    return outcomes[0]


def run_tasks(calls: Iterable[TaskCall], *, url: str, on_row: OnRow, on_outcome: OnRow) -> None:
    """Run tasks one after another; as `run_task`, with `on_outcome` called at the end of each.

    `calls` is consumed lazily: the next call may depend on the outcome of the one before. Raises LorestreamError.
    """
    settings = load_settings()
    with ProgressDisplay() as display:

        def on_report(report: Report | Failure) -> None:
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
            _run_in_process(settings, calls, on_report)
        else:
            _run_on_server(url, calls, on_report)


def _run_on_server(
    url: str, calls: Iterable[TaskCall], on_report: Callable[[Report | Failure], None]
) -> None:
    from lorestream.http.admin_routes import PREFIX

    with connect(url) as client:
        for name, arguments in calls:
            complete = False
            with contextlib.closing(client.reports(PREFIX + name, arguments)) as lines:
                for line in _explain_not_found(lines, url):
                    report = msgspec.json.decode(line, type=Progress | Remark | Row | Outcome | Failure)
                    on_report(report)
                    complete = complete or isinstance(report, Outcome)
            if not complete:
                raise Unavailable(
                    "the connection ended before the task did: check that the server still runs, then try again"
                )


def _explain_not_found(lines: Iterable[bytes], url: str) -> Iterator[bytes]:
    try:
        yield from lines
    except NotFound as error:
        raise Misconfigured(
            f"the service at {url} has no admin tasks: only `lorestream up` has. In the distributed shape this verb does"
            " the work itself: give it the settings of the services (LORESTREAM_LOG__BOOTSTRAP=…)"
        ) from error


def _run_in_process(
    settings: Settings, calls: Iterable[TaskCall], on_report: Callable[[Report], None]
) -> None:
    from lorestream import os_support
    from lorestream.cli.admin.tasks import open_tasks
    from lorestream.telemetry import set_up_logging

    set_up_logging(settings.log_format, "warning")

    async def run() -> None:
        async with open_tasks(settings) as tasks:
            for name, arguments in calls:
                task = tasks[name]
                try:
                    checked = msgspec.convert(arguments, task.arguments)
                except msgspec.ValidationError as error:
                    raise InvalidRequest(str(error)) from error
                reports: AsyncGenerator[Report] = task.run(checked)
                async with contextlib.aclosing(reports):
                    async for report in reports:
                        on_report(report)

    os_support.run_loop(run())


class ProgressDisplay:
    """Progress bars on stderr, one for each step (`Progress.doing`). A context manager."""

    def __init__(self) -> None:
        self._bars = terminal.progress_bar(notes=True)
        self._steps: dict[str, tuple[TaskID, float]] = {}

    def show(self, report: Progress) -> None:
        """Update the bar of this step, its rate, and the estimated time to its end."""
        if report.doing not in self._steps:
            bar = self._bars.add_task(printable(report.doing), total=report.total, note="")
            self._steps[report.doing] = bar, time.monotonic()
        bar, started = self._steps[report.doing]
        rate = report.done / max(0.001, time.monotonic() - started)
        note = f"{rate:,.0f} {printable(report.unit)}/s" if report.unit else ""
        if report.left_s:
            note += f", {timedelta(seconds=round(report.left_s))} left"
        self._bars.update(bar, completed=report.done, total=report.total, note=note)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bars.stop()
