"""A start that waits for the servers: process managers start services in any order, and some give up restarting."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import structlog

from lorestream.errors import Unavailable

_log = structlog.get_logger("lorestream")

START_WAIT_S = 30.0
"""How long a start waits for Kafka and Qdrant. By default systemd gives up after five starts within ten seconds, and
Kubernetes waits up to five minutes between two starts; a container is not alive for its probes until it has started."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 4.0

T = TypeVar("T")


@contextlib.asynccontextmanager
async def when_available(
    open_: Callable[[], AbstractAsyncContextManager[T]],
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncGenerator[T]:
    """Enter `open_()`, again with growing pauses while it raises Unavailable. Logs once what it waits for.

    Raises Unavailable when that lasts longer than `START_WAIT_S`.
    """
    deadline, pause_s, said = monotonic() + START_WAIT_S, _FIRST_PAUSE_S, ""
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                opened = await stack.enter_async_context(open_())
                break
            except Unavailable as error:
                if monotonic() + pause_s > deadline:
                    raise
                if str(error) != said:
                    said = str(error)
                    _log.warning(
                        "the start waits for a server",
                        problem=said,
                        at_most_s=round(deadline - monotonic()),
                    )
            await sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        yield opened
