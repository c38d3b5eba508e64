"""HTTP on a socket: uvicorn's protocol, with a bound on what it takes before there is anything to answer."""

from __future__ import annotations

import uuid
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engram.http.call import Refused, refusal

MAX_HEAD_BYTES = 64 * 2**10
"""Of a request's line and headers, to within the size of one read of the socket (256 KiB with uvloop)."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head without end, which neither uvicorn nor httptools does: it would fill the memory.

    Trailers and the extensions of chunks count alike: everything between two pieces of a body.
    """

    _unanswered = 0

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
            answer = refusal(Refused(status, code, message), uuid.uuid4().hex)
            answer.headers["connection"] = "close"
            lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
            lines += [b"%b: %b" % header for header in answer.raw_headers]
            self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()
