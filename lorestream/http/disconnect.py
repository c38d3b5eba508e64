"""Ends the work for a request whose client has closed the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lorestream.http.request import ApiRequest, HttpError
from lorestream.supervision import start_detached

WATCH_AFTER_S = 0.1
"""Work that is shorter is not watched: starting a task for each request would cost more than it saves."""

R = TypeVar("R")


async def run_while_connected(handler: Callable[[ApiRequest], Awaitable[R]], request: ApiRequest) -> R:
    """The handler's response. Cancels the handler when the client closes the connection before it.

    Raises HttpError 499 then, which nobody receives; it stands in the metrics. Only for handlers that change nothing.
    """
    handling = asyncio.current_task()
    assert handling is not None
    loop = asyncio.get_running_loop()
    gone = False
    watching: asyncio.Task[object] | None = None

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass  # the end of a body that the handler did not read
        gone = True
        handling.cancel()

    def start() -> None:
        nonlocal timer, watching
        if request.reads_body and not request.body_read:
            timer = loop.call_later(WATCH_AFTER_S, start)  # the handler still reads the messages itself
        else:
            watching = start_detached(watch(), "lorestream-disconnect")

    timer = loop.call_later(WATCH_AFTER_S, start)
    try:
        return await handler(request)
    except asyncio.CancelledError:
        if gone and not handling.uncancel():
            raise HttpError(499, "client_gone", "the client closed the connection") from None
        raise
    finally:
        timer.cancel()
        if watching is not None:
            watching.cancel()
