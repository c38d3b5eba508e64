"""The admin tasks as routes: one POST each, answered by a stream of reports, one JSON line each."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import msgspec
import structlog

from lorestream import supervision
from lorestream.admin import AdminTask, AdminTasks, Failure, Outcome, Report, ReportStream
from lorestream.admin.task_runs import TaskRuns
from lorestream.errors import LorestreamError
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest
from lorestream.http.streaming import LineStream

PREFIX = "/v1/admin/"
KEEP_ALIVE_INTERVAL_S = 10.0

_log = structlog.get_logger("lorestream.admin")
_encoder = msgspec.json.Encoder()


def operations(tasks: AdminTasks, runs: TaskRuns | None = None) -> list[Operation]:
    """One route for each task. `runs` keeps how the last call of each went."""
    kept = TaskRuns() if runs is None else runs
    return [
        Operation(
            "POST",
            PREFIX + task.name,
            _Route(task, kept).run,
            f"Admin task: {task.name}",
            task.scopes[0],
            Outcome,
            body=task.arguments,
            hidden=True,
            or_scopes=task.scopes[1:],
        )
        for task in tasks.values()
    ]


class _Route:
    """The route of one task."""

    def __init__(self, task: AdminTask, runs: TaskRuns) -> None:
        self._task = task
        self._runs = runs

    async def run(self, request: ApiRequest) -> LineStream:
        arguments = self._task.restrict(await request.json(self._task.arguments), request.principal)
        reports = self._task.run(arguments)
        # Wait for the first report: an error before it still gets its own HTTP status.
        first = await anext(reports, None)
        _log.info("admin task started", task=self._task.name, request_id=request.request_id)
        stopping = Failure("the service is stopping: run it again when the service is up")
        return LineStream(self._lines(first, reports), last_line=_line(stopping))

    async def _lines(self, first: Report | None, reports: ReportStream) -> AsyncGenerator[bytes]:
        run = self._runs.begin(self._task.name)
        try:
            async with contextlib.aclosing(self._reports(first, reports)) as all_reports:
                async for report in all_reports:
                    if report is not None:
                        run.note(report)
                    yield b"\n" if report is None else _line(report)
        finally:
            run.end()

    async def _reports(
        self, first: Report | None, reports: ReportStream
    ) -> AsyncGenerator[Report | Failure | None]:
        """The reports; None at intervals without one; at the end of a task that failed, its Failure."""
        async with contextlib.aclosing(supervision.with_ticks(reports, KEEP_ALIVE_INTERVAL_S)) as alive:
            try:
                if first is not None:
                    yield first
                async for report in alive:
                    yield report
            except LorestreamError as error:
                _log.warning("admin task aborted", task=self._task.name, error=str(error))
                yield Failure(str(error))
            except Exception:  # noqa: BLE001 (the response has begun: its last line is the only place for the error)
                _log.exception("admin task failed", task=self._task.name)
                yield Failure("internal error; the server's log has the details")


def _line(report: Report | Failure) -> bytes:
    return _encoder.encode(report) + b"\n"
