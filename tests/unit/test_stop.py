"""Callers at the end: a service that stops answers those that wait, and a client that leaves ends its task quietly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from lorestream.adapters.qdrant.edge.steps import Steps
from lorestream.admin import AdminTask, NoArguments, Progress, Report, tasks_by_name
from lorestream.http import admin_routes, server
from lorestream.http.application import application
from lorestream.telemetry import Metrics
from lorestream.wiring import Runtime
from producers import gateway
from producers.gateway import Gateway
from query_service import rest
from query_service.recall import CurrentRecall
from tests.parts import open_parts, pipeline_over, put, records


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[int]:
    """Serve on a free port until the context ends; yields the port. What handles a SIGTERM then stops the server.

    No signal is sent: one that comes without a handler would end this process, and all tests that it still has to run.
    A process of its own gets one below.
    """
    handlers = dict[int, Callable[[], object]]()
    asyncio.get_running_loop().add_signal_handler = handlers.__setitem__  # type: ignore[method-assign]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server.run(app, listener))
        try:
            yield listener.getsockname()[1]
            handlers[signal.SIGTERM]()
            await running
        finally:
            running.cancel()
            await asyncio.wait([running])
            gc.unfreeze()


@contextlib.asynccontextmanager
async def sent(port: int, request: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A connection over which the request was sent; yields what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def post(path: str, body: object, *, close: bool = False) -> bytes:
    encoded = json.dumps(body)
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(encoded)}"]
    return "\r\n".join([*head, *(["Connection: close"] if close else []), "", encoded]).encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def application_over(runtime: Runtime) -> ASGIApp:
    """Without an indexer: what waits for one waits until it is told otherwise."""
    operations = [
        *gateway.operations(Gateway.over(runtime), runtime.limits),
        *rest.operations(CurrentRecall(runtime), runtime.limits),
    ]
    return application("lorestream", operations, metrics=runtime.metrics)


async def test_a_stop_answers_callers_that_wait_for_the_index_a_search_or_the_rest_of_their_body(
    tmp_path: Path,
) -> None:
    event = {"events": [{"agent_id": "a", "text": "x"}]}
    async with open_parts(tmp_path) as runtime, contextlib.AsyncExitStack() as callers:
        async with serving(application_over(runtime)) as port:

            async def call(request: bytes) -> asyncio.StreamReader:
                return await callers.enter_async_context(sent(port, request))

            indexed = await call(post("/v1/events?wait=indexed&timeout_ms=60000", event))
            while not (await runtime.log.end())[0]:
                await asyncio.sleep(0.01)
            _, written = await answer(await call(post("/v1/events", event, close=True)))
            search = {"agent_id": "a", "query": "x", "after": written["token"], "wait_ms": 10_000}
            refused = [
                await call(post("/v1/memories/search", search)),
                await call(post("/v1/events", event)[:-5]),
            ]
        status, body = await answer(indexed)
        assert (status, body["accepted"], body["indexed"]) == (202, 1, False)
        for reader in refused:
            status, body = await answer(reader)
            assert (status, body["error"]["code"]) == (503, "unavailable")
            assert body["retry_after_ms"] > 0


async def test_a_stop_answers_the_caller_of_a_costly_read_that_is_still_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read of the embedded store runs on the event loop, in steps: this one in as many as the stop leaves time for."""
    steps, stepping = Steps.run, asyncio.Event()

    async def endless(self: Steps, *args: Any, **options: Any) -> Any:
        while True:
            await steps(self, *args, **options)
            stepping.set()
            await asyncio.sleep(0.001)

    async with (
        open_parts(tmp_path, store={"kind": "edge"}) as runtime,
        contextlib.AsyncExitStack() as callers,
    ):
        now = runtime.clock.now()
        pipeline = pipeline_over(runtime)
        await pipeline.apply(await pipeline.prepare(records(put("iron", at=now, metadata={"b": "word"}))))
        async with serving(application_over(runtime)) as port:
            monkeypatch.setattr(Steps, "run", endless)
            filters = {"b": {"contains": "word"}}
            reads = [
                await callers.enter_async_context(sent(port, post(path, {"agent_id": "a", **body})))
                for path, body in (
                    ("/v1/memories/search", {"query": "iron", "filters": filters}),
                    ("/memory/get", {"query": "iron", "filters": filters}),
                )
            ]
            await stepping.wait()
        for reader in reads:
            status, body = await answer(reader)
            assert (status, body["error"]["code"]) == (503, "unavailable")
            assert body["retry_after_ms"] > 0
        stepping.clear()
        await asyncio.sleep(0.05)
        assert not stepping.is_set()  # the work has ended with its callers


class Silent:
    """An admin task with a step that takes longer than any test."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def run(self, _: NoArguments) -> AsyncGenerator[Report]:
        try:
            yield Progress("beginning", 0)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)  # as a task that waits for its thread
            self.ended.set()


@pytest.mark.parametrize("leaves", ["before the first keep-alive", "after some"])
async def test_a_client_that_leaves_during_a_silent_step_ends_the_task_without_a_traceback(
    leaves: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admin_routes, "KEEP_ALIVE_INTERVAL_S", 3600.0 if "before" in leaves else 0.001)
    silent, complaints = Silent(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    tasks = tasks_by_name(AdminTask("silent", NoArguments, silent.run))
    app = application("lorestream", admin_routes.operations(tasks), metrics=Metrics())
    async with serving(app) as port:
        async with sent(port, post("/v1/admin/silent", {})) as reader:
            await reader.readuntil(b'"beginning"')
        async with asyncio.timeout(60):
            await silent.ended.wait()
        gc.collect()
    assert not complaints
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


async def test_a_stop_ends_a_task_and_its_response_says_so(caplog: pytest.LogCaptureFixture) -> None:
    silent = Silent()
    tasks = tasks_by_name(AdminTask("silent", NoArguments, silent.run))
    app = application("lorestream", admin_routes.operations(tasks), metrics=Metrics())
    async with contextlib.AsyncExitStack() as caller:
        async with serving(app) as port:
            reader = await caller.enter_async_context(sent(port, post("/v1/admin/silent", {})))
            await reader.readuntil(b'"beginning"')
        assert silent.ended.is_set()
        rest_of_it = await reader.read()
    assert b"the service is stopping" in rest_of_it
    assert rest_of_it.endswith(b"0\r\n\r\n")
    assert not [record for record in caplog.records if record.exc_info]


STUCK = """
import asyncio, socket, sys, time
from lorestream.http import server
from lorestream.http.application import application
from lorestream.telemetry import Metrics

server.EXIT_TIMEOUT_S, server.STOP_TIMEOUT_S = 0.5, 0.1
listener = socket.create_server(("127.0.0.1", 0))
stuck = asyncio.to_thread(time.sleep, 3600)
app = application("lorestream", [], metrics=Metrics())
server.main(server.run(app, listener, work={"stuck": stuck}, started=lambda: print("up", flush=True)))
"""


def test_a_process_whose_thread_does_not_end_exits_all_the_same_and_says_where_it_stands() -> None:
    command = [sys.executable, "-c", STUCK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGTERM)
            said = "".join(process.communicate(timeout=60))
        finally:
            process.kill()
    assert process.returncode == 1
    assert "did not stop in time" in said
    assert "most recent call first" in said
