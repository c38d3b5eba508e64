"""The tasks of care as routes: one POST each, answered by a stream of reports, one JSON line each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import structlog
from starlette.responses import StreamingResponse

from lorestream.access.principals import Grant
from lorestream.admin import AdminTask, AdminTasks, Failure, Outcome, Report, ReportStream
from lorestream.errors import LorestreamError
from lorestream.http.application import Operation
from lorestream.http.request import Call

PREFIX = "/v1/admin/"
KEEP_ALIVE_S = 10.0

_log = structlog.get_logger("lorestream.admin")
_encoder = msgspec.json.Encoder()


def operations(tasks: AdminTasks) -> list[Operation]:
    """A route for each task."""
    return [_operation(task) for task in tasks.values()]


def _operation(task: AdminTask) -> Operation:
    async def handler(call: Call) -> StreamingResponse:
        arguments = await call.json(task.arguments)
        reports = task.run(arguments)
        # What is refused is refused with its own status, before the answer begins.
        first = await anext(reports, None)
        _log.info("task of care", task=task.name, request_id=call.request_id)
        return StreamingResponse(_lines(task, first, reports), media_type="application/x-ndjson")

    return Operation(
        "POST",
        PREFIX + task.name,
        handler,
        f"Task of care: {task.name}",
        Grant.ADMIN,
        Outcome,
        body=task.arguments,
        hidden=True,
    )


async def _lines(task: AdminTask, first: Report | None, reports: ReportStream) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(reports):
        try:
            if first is not None:
                yield _line(first)
            async for report in _with_pauses(reports):
                yield b"\n" if report is None else _line(report)
        except LorestreamError as error:
            _log.warning("task of care broken off", task=task.name, error=str(error))
            yield _line(Failure(str(error)))
        except Exception:  # noqa: BLE001 (the answer has begun: this is the last place to say it)
            _log.exception("task of care failed", task=task.name)
            yield _line(Failure("an error of ours; the log of that lorestream has it"))


async def _with_pauses(reports: ReportStream) -> AsyncIterator[Report | None]:
    """The reports, and None whenever none has come for a while: whoever reads knows then that it goes on."""
    coming: asyncio.Future[Report] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(reports))
            done, _ = await asyncio.wait({coming}, timeout=KEEP_ALIVE_S)
            if not done:
                yield None
                continue
            try:
                report = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield report
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.wait({coming})


def _line(report: Report | Failure) -> bytes:
    return _encoder.encode(report) + b"\n"
