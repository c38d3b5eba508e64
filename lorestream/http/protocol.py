"""uvicorn's HTTP/1.1 protocol with two changes: a limit on the size of request headers, and joined writes.

Joined writes: uvicorn writes headers and body separately, each with its own system call and TCP segment. Sending them
together saves a tenth of the CPU time of a response from the cache.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lorestream.http.errors import error_response
from lorestream.http.request import HttpError, new_request_id

MAX_HEAD_BYTES = 64 * 2**10
"""The limit of a request line and headers. It is exceeded by at most one read of the socket (256 KiB with uvloop)."""

MAX_BUFFERED_BYTES = 64 * 2**10
"""Writes of one event loop iteration are sent together up to this size."""


class BoundedProtocol(HttpToolsProtocol):
    """Limits everything that is not body: request line, headers, trailers, chunk extensions.

    Neither uvicorn nor httptools has such a limit: a request with endless headers would fill the memory.
    """

    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio for a new connection."""
        super().connection_made(JoinedWrites(transport, self.loop))

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: parse the data, and refuse the request if its headers are too large."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(
                431, "too_large", f"the headers of a request may have at most {MAX_HEAD_BYTES} bytes"
            )

    def on_body(self, body: bytes) -> None:
        """Called by the parser: a piece of a body, whose size the application limits."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser: the request is complete, and the next one may follow."""
        self._head_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for data that is not HTTP."""
        self._refuse(400, "bad_request", msg)

    def _refuse(self, status: int, code: str, message: str) -> None:
        if not self.cycle or self.cycle.response_complete:  # otherwise a response may have begun
            response = error_response(HttpError(status, code, message), new_request_id())
            response.set_header("Connection", "close")
            lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
            lines += [b"%b: %b" % header for header in response.headers]
            self.transport.write(b"\r\n".join([*lines, b"", response.body]))
        self.transport.close()


class JoinedWrites(asyncio.Transport):
    """A transport that joins the writes of one event loop iteration; all other methods are delegated."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._buffer: list[bytes | bytearray | memoryview] = []
        self._buffered_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send the data at the end of this iteration.

        From MAX_BUFFERED_BYTES on it is sent at once, so that the transport can pause a fast writer.
        """
        if not self._buffer:
            self._loop.call_soon(self._flush)
        self._buffer.append(data)
        self._buffered_bytes += len(data)
        if self._buffered_bytes >= MAX_BUFFERED_BYTES:
            self._flush()

    def close(self) -> None:
        """Send the buffered data, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Discard the buffered data and close at once."""
        self._buffer.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Delegated to the transport."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Delegated to the transport."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Delegated to the transport."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Delegated to the transport."""
        self._transport.resume_reading()

    def _flush(self) -> None:
        buffered, self._buffer, self._buffered_bytes = self._buffer, [], 0
        if buffered and not self._transport.is_closing():
            self._transport.writelines(buffered)
