"""Responses that last: one line after another, until the lines end, the client leaves, or the service stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, cast

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lorestream import supervision

NDJSON = "application/x-ndjson"


class LineStream(StreamingResponse):
    """Lines from an async generator, which is closed however the response ends. They are NDJSON, or `media_type`.

    Starlette's own response leaves the generator to the garbage collector, which may find it while it runs.
    """

    def __init__(
        self, lines: AsyncGenerator[bytes], *, last_line: bytes = b"", media_type: str = NDJSON
    ) -> None:
        """`last_line` is sent where the lines break off because the service stops."""
        super().__init__(lines, media_type=media_type)
        self._last_line = last_line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines; the first of their end and the client's ends the response."""
        del scope
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        last_line = b""
        try:
            await supervision.run_together(
                {"response": self._send_lines(send), "client of the response": _disconnected(receive)}
            )
        except asyncio.CancelledError:
            last_line = (
                self._last_line
            )  # the service stops: a response without an end would look like a fault
        await send({"type": "http.response.body", "body": last_line, "more_body": False})

    async def _send_lines(self, send: Send) -> None:
        async with contextlib.aclosing(cast("AsyncGenerator[bytes]", self.body_iterator)) as lines:
            async for line in lines:
                await send({"type": "http.response.body", "body": line, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    message: dict[str, Any] = {}
    while message.get("type") != "http.disconnect":
        message = dict(await receive())
