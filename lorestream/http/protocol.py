"""HTTP on a socket: uvicorn's protocol, with a bound on what it takes before there is anything to answer.

And with answers that leave in one piece: uvicorn writes head and body one after the other, each a call of the
system and a segment of its own, which cost an answer from the cache a tenth of its CPU time.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lorestream.http.errors import error_response
from lorestream.http.request import HttpError, new_request_id

MAX_HEAD_BYTES = 64 * 2**10
"""Of a request's line and headers, to within the size of one read of the socket (256 KiB with uvloop)."""


HELD_BYTES = 64 * 2**10
"""What is written in one turn of the event loop leaves together up to this size."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head without end, which neither uvicorn nor httptools does: it would fill the memory.

    Trailers and the extensions of chunks count alike: everything between two pieces of a body.
    """

    _unanswered = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As asyncio calls it."""
        super().connection_made(JoinedWrites(transport, self.loop))

    def data_received(self, data: bytes) -> None:
        """Parse what came in."""
        self._unanswered += len(data)
        super().data_received(data)
        if self._unanswered > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, "too_large", f"the headers of a request have {MAX_HEAD_BYTES} bytes at most")

    def on_body(self, body: bytes) -> None:
        """A piece of a body: whoever reads it counts it."""
        self._unanswered = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next request may follow."""
        self._unanswered = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(400, "bad_request", msg)

    def _refuse(self, status: int, code: str, message: str) -> None:
        if not self.cycle or self.cycle.response_complete:  # else an answer may have begun
            answer = error_response(HttpError(status, code, message), new_request_id())
            answer.set_header("Connection", "close")
            lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
            lines += [b"%b: %b" % header for header in answer.headers]
            self.transport.write(b"\r\n".join([*lines, b"", answer.body]))
        self.transport.close()


class JoinedWrites(asyncio.Transport):
    """A transport that sends what is written within one turn of the event loop together."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: list[bytes | bytearray | memoryview] = []
        self._bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it at the end of this turn at the latest, or when it is much: whoever writes on is to be paused."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._bytes += len(data)
        if self._bytes >= HELD_BYTES:
            self._send()

    def close(self) -> None:
        """Send what is left, and close."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._held.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """As asyncio has it."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """As asyncio has it."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """As asyncio has it."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """As asyncio has it."""
        self._transport.resume_reading()

    def _send(self) -> None:
        held, self._held, self._bytes = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.writelines(held)
