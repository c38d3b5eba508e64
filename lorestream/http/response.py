"""An answer over HTTP, ready to be sent: nothing between it and the server costs time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_JSON = (b"content-type", b"application/json")
_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class Reply:
    """An ASGI application that gives this one answer. Names of `headers` are in lower case."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]

    def header(self, name: str, value: str) -> None:
        """Add a header, of printable Latin-1."""
        self.headers.append((name.lower().encode(), value.encode("latin-1")))

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON answer."""
    answer = reply_encoded(_encoder.encode(value), status)
    for name, text in (headers or {}).items():
        answer.header(name, text)
    return answer


def reply_encoded(body: bytes, status: int = 200) -> Reply:
    """A JSON answer that is encoded already."""
    return Reply(status, body, [(b"content-length", b"%d" % len(body)), _JSON])
