"""One process of Lorestream: it serves and works until a signal, or until something of it ends; then all ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, TypeAlias

import uvicorn
import uvloop
from starlette.types import ASGIApp

from lorestream.http.protocol import BoundedProtocol

STOP_S = 3.0
"""What is still running so long after a stop was asked for is cancelled: the log has it all."""

START_STOP_S = 1.0
"""How long a start that is broken off may take to close what it has opened: nothing of it is lost with the process."""

_STOPPED = 128 + signal.SIGTERM

Work: TypeAlias = "Coroutine[Any, Any, None]"


def main(service: Work) -> None:
    """Run a service to its end. A SIGTERM before it hears signals itself breaks its start off.

    Not by an exception out of a handler: that rises wherever the loop is just then, and may be swallowed there.
    """

    async def started() -> None:
        loop, starting = asyncio.get_running_loop(), asyncio.current_task()
        assert starting is not None

        def stop() -> None:
            starting.cancel()
            loop.call_later(START_STOP_S, os._exit, _STOPPED)

        loop.add_signal_handler(signal.SIGTERM, stop)
        await service

    try:
        uvloop.run(started())
    except asyncio.CancelledError:
        sys.exit(_STOPPED)


async def run(
    app: ASGIApp,
    listener: socket.socket,
    *,
    work: Sequence[Work] = (),
    stop: Callable[[], None] = lambda: None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve `app` beside `work` until SIGINT, SIGTERM, or the end of any of them.

    `stop` asks the work to end; what fails is raised when all has ended.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopping.set)
    server = _server(app)
    tasks = [asyncio.create_task(one) for one in (server.serve([listener]), *work)]
    stop_asked = asyncio.create_task(stopping.wait())
    started()
    # What a start leaves stays: to go through its 160,000 objects at each full collection held everybody up for 0.1 s.
    gc.collect()
    gc.freeze()
    await asyncio.wait({*tasks, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
    # No new requests, then the batch in hand, then, by whoever opened them, the parts.
    server.should_exit = True
    stop()
    stop_asked.cancel()
    _, late = await asyncio.wait(tasks, timeout=STOP_S)
    for task in late:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


def address(listener: socket.socket) -> tuple[str, int]:
    """Host, in brackets where an address needs them, and port."""
    host, port = listener.getsockname()[:2]
    return (f"[{host}]" if ":" in host else host), port


def _server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks where a caller is, and it would cost each call
        timeout_graceful_shutdown=1,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """None of them: they are ours, and uvicorn would raise them once more when it has ended."""
        yield
