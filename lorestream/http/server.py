"""Runs one process: serves HTTP beside background work until a signal or a failure, then stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeAlias, cast

import structlog
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lorestream import os_support, supervision
from lorestream.errors import Unavailable
from lorestream.http.connections import ConnectionTable, connection_limit
from lorestream.http.errors import error_response
from lorestream.http.protocol import BoundedProtocol
from lorestream.http.request import headers_of, request_id_of

STOP_TIMEOUT_S = 3.0
"""Work that still runs this long after a stop is cancelled. Nothing is lost: accepted events are in the log."""

RESPONSE_TIMEOUT_S = 1.0
"""Of that, how long a request that was cancelled may take to send its response."""

EXIT_TIMEOUT_S = 20.0
"""A process that has not ended this long after its stop began exits with code 1, whatever still runs in it."""

START_ABORT_TIMEOUT_S = 1.0
"""When a start is aborted, it has this long to close what it has opened; then the process exits."""

_TICKS_PER_CHECK = 10
"""Connections are checked once a second."""

_EXIT_CODE_SIGTERM = 128 + signal.SIGTERM

Work: TypeAlias = "Coroutine[Any, Any, None]"

_log = structlog.get_logger("lorestream")

_stop_begins: ContextVar[Callable[[], None] | None] = ContextVar("stop_begins", default=None)
"""Called when the stop of a service begins. Set by `main`: only there is the process the service's own."""


def main(service: Work) -> None:
    """Run a service to its end. A SIGTERM before `run` handles signals aborts the start, with exit code 143.

    The handler cancels the task instead of raising: an exception would be raised in whatever code the loop runs at
    that moment, and could be swallowed there.
    """

    async def started() -> None:
        loop, starting = asyncio.get_running_loop(), asyncio.current_task()
        assert starting is not None

        def stop() -> None:
            starting.cancel()
            loop.call_later(START_ABORT_TIMEOUT_S, os._exit, _EXIT_CODE_SIGTERM)

        os_support.on_signal(signal.SIGTERM, stop)
        loop.set_exception_handler(_log_unhandled)
        _stop_begins.set(_limit_exit)
        await service

    try:
        os_support.run_loop(started())
    except asyncio.CancelledError:
        sys.exit(_EXIT_CODE_SIGTERM)


async def run(
    app: ASGIApp,
    listener: socket.socket,
    *,
    work: Mapping[str, Work] | None = None,
    stop: Callable[[], None] = lambda: None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve `app` beside `work`, by name, until SIGINT, SIGTERM, or until one of them ends.

    `stop` requests the end of the work, `started` is called when the server starts. The first exception of any of
    them is raised after all have ended. The stop takes at most STOP_TIMEOUT_S, and supervision.STOP_TIMEOUT_S for
    what had to be cancelled.
    """
    stopping = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        os_support.on_signal(signum, stopping.set)
    server = _server(_AnsweredAtStop(app))
    started()
    # The 160,000 objects of the start live as long as the process. Freezing them keeps them out of full garbage
    # collections, each of which would block all requests for 0.1 s.
    gc.collect()
    gc.freeze()

    def stop_all() -> None:
        # First stop accepting requests, then finish the current batch; the caller closes the parts after that.
        if (limit := _stop_begins.get()) is not None:
            limit()
        server.should_exit = True
        stopping.set()
        stop()

    works = {"HTTP server": server.serve([listener]), "signals": stopping.wait(), **(work or {})}
    await supervision.run_together(works, stop=stop_all, grace_s=STOP_TIMEOUT_S)


def _log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio could raise to nobody, in the format of all other lines."""
    _log.error("an error in the event loop", reason=context["message"], exc_info=context.get("exception"))


def _limit_exit() -> None:
    """Exit after EXIT_TIMEOUT_S, from a thread: the event loop, or a thread that Python joins at its end, may be stuck."""

    def exit_now() -> None:
        _log.error(
            "the process did not stop in time and exits now. What was accepted is safe in the log of events. The stacks of"
            " its threads follow",
            after_s=EXIT_TIMEOUT_S,
        )
        faulthandler.dump_traceback()
        os._exit(1)

    timer = threading.Timer(EXIT_TIMEOUT_S, exit_now)
    timer.daemon = True
    timer.start()


def address(listener: socket.socket) -> tuple[str, int]:
    """The host (an IPv6 address in brackets) and the port that a socket listens on."""
    host, port = listener.getsockname()[:2]
    return (f"[{host}]" if ":" in host else host), port


def _server(app: ASGIApp) -> uvicorn.Server:
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # otherwise each invalid request writes a line
    connections = ConnectionTable(connection_limit())
    config = uvicorn.Config(
        app,
        http=cast("Any", partial(BoundedProtocol, connections=connections)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the client's address is not used, and reading it costs time
        timeout_graceful_shutdown=1,
    )
    return _Server(config, connections)


class _AnsweredAtStop:
    """Answers requests that the stop cancels before their response has begun; uvicorn would answer 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        def noted(message: Message) -> Awaitable[None]:
            nonlocal begun
            begun = True
            return send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if begun:
                raise
            error = Unavailable("the service is stopping: send the request again")
            await error_response(error, request_id_of(headers_of(scope)))(scope, receive, send)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, connections: ConnectionTable) -> None:
        super().__init__(config)
        self._connections = connections

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second."""
        if counter % _TICKS_PER_CHECK == 0:
            self._connections.check(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop. uvicorn cancels the requests that still run, and does not wait for their responses."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=RESPONSE_TIMEOUT_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Do nothing: `run` handles signals, and uvicorn would raise them again at its end."""
        yield
