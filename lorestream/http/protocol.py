"""uvicorn's HTTP/1.1 protocol with limits on the size of headers and on the time of clients, and with joined writes.

Joined writes: uvicorn writes headers and body separately, each with its own system call and TCP segment. Sending them
together saves a tenth of the CPU time of a response from the cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Literal

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lorestream.errors import Unavailable
from lorestream.http.connections import (
    MIN_BYTES_PER_S,
    REQUEST_TIMEOUT_S,
    WRITE_TIMEOUT_S,
    ConnectionTable,
    Patience,
)
from lorestream.http.errors import error_response
from lorestream.http.request import HttpError, new_request_id

MAX_HEAD_BYTES = 64 * 2**10
"""The limit of a request line and headers. It is exceeded by at most one read of the socket (256 KiB with uvloop)."""

RETRY_AFTER_MS = 2000
"""When a client that found no room may try again."""

MAX_BUFFERED_BYTES = 64 * 2**10
"""Writes of one event loop iteration are sent together up to this size."""


class BoundedProtocol(HttpToolsProtocol):
    """Limits everything that is not body (request line, headers, trailers, chunk extensions), and the client's time.

    Neither uvicorn nor httptools has such limits: a request with endless headers would fill the memory, and a client
    that sends nothing would keep its connection for ever.
    """

    transport: JoinedWrites  # type: ignore[assignment]

    def __init__(self, *args: Any, connections: ConnectionTable, **kwargs: Any) -> None:  # noqa: ANN401 (uvicorn's)
        """`connections`: the table of the server's connections; the other arguments are uvicorn's."""
        super().__init__(*args, **kwargs)
        self._table = connections
        self._head_bytes = 0
        self._arriving: Literal["nothing", "head", "body"] = "nothing"
        self._reason: str | None = None
        self._reading = Patience(REQUEST_TIMEOUT_S)
        self._writing = Patience(WRITE_TIMEOUT_S)
        self._sent_bytes = 0

    # --- the connection, for ConnectionTable ---

    @property
    def peer(self) -> str:
        """The address of the client, without its port."""
        return self.client[0] if self.client else ""

    @property
    def left_s(self) -> float | None:
        """How long the server still waits for the client, in seconds; None while the client waits for the server."""
        return None if self._is_served() else self._reading.left_s

    def check(self, elapsed_s: float) -> None:
        """Count the time since the last check, and close the connection if its client is too slow."""
        unread = self.transport.get_write_buffer_size()
        sent = self.transport.written_bytes - unread
        self._writing.progress(sent - self._sent_bytes)
        self._sent_bytes = sent
        if unread == 0:
            self._writing.reset()
        elif self._writing.wait(elapsed_s):
            self.transport.abort()
            return
        if not self._is_served() and self._reading.wait(elapsed_s):
            self.evict()

    def evict(self) -> None:
        """Close the connection; a request that has begun to arrive is answered with 408."""
        if not self.transport.is_closing() and self._arriving != "nothing":
            self._refuse(
                HttpError(
                    408,
                    "request_timeout",
                    f"the request did not arrive in time: its headers must be complete within {REQUEST_TIMEOUT_S:g} s,"
                    f" and its body must arrive with at least {MIN_BYTES_PER_S:g} bytes per second",
                )
            )
            if not self.transport.is_closing():  # the request before it is answered first
                return
        self.transport.close_now()

    def _linger(self) -> bool:
        """Begin to discard what the client still sends. Returns False where nothing is to come."""
        if self._arriving == "nothing":
            return False
        self.flow.resume_reading()
        return True

    def _is_served(self) -> bool:
        """Whether the client waits for the server: for an answer, or until it reads on."""
        return self.flow.read_paused or (self._arriving == "nothing" and self._is_unanswered())

    def _is_unanswered(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio for a new connection."""
        super().connection_made(JoinedWrites(transport, self.loop, self._linger))
        if not self._table.add(self):
            self._refuse(
                Unavailable("too many connections are open: try again later", retry_after_ms=RETRY_AFTER_MS)
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio when the connection is closed."""
        self._table.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: parse the data, and refuse the request if its headers are too large."""
        if self.transport.is_closing():
            return
        self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self._refuse(HttpError(400, "bad_request", self._reason or "the data is not an HTTP request"))
            return
        except HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
            return
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(
                HttpError(
                    431, "too_large", f"the headers of a request may have at most {MAX_HEAD_BYTES} bytes"
                )
            )

    def _decline(self, rest: bytes) -> None:
        """Parse a request that offers another protocol (Upgrade) once more, without the offer, and what follows it.

        The parser takes what follows the headers of such a request for the other protocol. Some programs send an offer
        with every request, and ignoring it is always allowed (RFC 9110, 7.8).
        """
        request_line = b"%b %b HTTP/%b" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        headers = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self.data_received(b"\r\n".join([request_line, *headers, b"", rest]))

    # --- called by the parser ---

    def on_message_begin(self) -> None:
        """The first byte of a request has arrived."""
        self._arriving = "head"
        self._reading.reset()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The headers are complete. Exactly one Host is needed (RFC 9112, 3.2): proxies differ in which one counts."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            self._reason = "a request needs exactly one Host header"
            raise ValueError(self._reason)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._reason = "this is no proxy"
                raise ValueError(self._reason)
            if self._is_unanswered():  # parsing each of many again would cost the square of their number
                self._reason = "a request that offers another protocol cannot be pipelined"
                raise ValueError(self._reason)
            return  # `_decline` parses it again
        super().on_headers_complete()
        self._arriving = "body"
        self._reading.reset()

    def on_body(self, body: bytes) -> None:
        """A piece of a body has arrived, whose size the application limits."""
        self._head_bytes = 0
        if not self.cycle.response_complete:  # who sends on after the answer only has the time that is left
            self._reading.progress(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete, and the next one may follow."""
        self._head_bytes = 0
        if self.parser.should_upgrade():
            return
        self._arriving = "nothing"
        super().on_message_complete()

    # --- called by uvicorn ---

    def on_response_complete(self) -> None:
        """The response is written: the client may take its time for the next request."""
        self._reading.reset()
        super().on_response_complete()

    def _refuse(self, error: Exception) -> None:
        """Answer the request that is arriving with an error, and close the connection.

        Without an answer if one has begun. Requests before it are answered first.
        """
        arriving_body = self._arriving == "body"
        if self._is_unanswered() and (self.pipeline or not arriving_body):
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if not arriving_body or not self.cycle.response_started:
            if arriving_body:  # the handler waits for more, and its answer would be a second one
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            response = error_response(error, new_request_id())
            response.set_header("Connection", "close")
            lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}".encode()]
            lines += [b"%b: %b" % header for header in response.headers]
            self.transport.write(b"\r\n".join([*lines, b"", response.body]))
        self.transport.close()


class JoinedWrites(asyncio.Transport):
    """A transport that joins the writes of one event loop iteration, and whose closing loses no answer."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, linger: Callable[[], bool]
    ) -> None:
        """`linger`: begins to discard what the client still sends; returns False where nothing is to come."""
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._linger = linger
        self._lingers = False
        self._buffer: list[bytes | bytearray | memoryview] = []
        self._buffered_bytes = 0
        self.written_bytes = 0
        """How many bytes were written to the transport."""

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
        """Send the buffered data, then close; at once only where the client sends nothing more, or at the second call.

        Closing a socket with unread data resets the connection, and with it the answer is lost to a client that sends
        its request to the end before it reads. Its patience bounds the time, as that of each client that sends.
        """
        if self.is_closing() or not self._linger():
            self.close_now()
            return
        self._flush()
        self._lingers = True
        try:
            self._transport.write_eof()
        except OSError:  # the client has reset the connection
            self.close_now()

    def close_now(self) -> None:
        """Send the buffered data, then close, whatever the client still sends."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Discard the buffered data and close at once."""
        self._buffer.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._lingers or self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Delegated to the transport."""
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Delegated to the transport."""
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Delegated to the transport."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Delegated to the transport."""
        self._transport.resume_reading()

    def _flush(self) -> None:
        buffered, size, self._buffer, self._buffered_bytes = self._buffer, self._buffered_bytes, [], 0
        if buffered and not self.is_closing():
            self._transport.writelines(buffered)
            self.written_bytes += size
