"""An HTTP server with scripted responses, and an adapter that gives AsyncMemoryClient blocking methods."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from lorestream.client import AsyncMemoryClient, FoundMemory
from lorestream.client.streams import AsyncMemoryStream

ACCEPTED = {"accepted": 1, "rejected": [], "ids": ["m1"], "token": "t", "retry_after_ms": 0}
HANG_UP, SILENCE, SLOW, TRICKLE, ENDLESS = 0, 1, 2, 3, 4
"""In place of a status: close the connection; send nothing for a long time; answer after SLOW_S; answer byte by byte;
answer, and do not end the answer for a long time."""
SLOW_S = 0.5
TRICKLE_S = 0.02
"""Between two bytes."""


@dataclass
class ScriptedServer:
    """The script (responses in order; the last one is repeated) and the requests that were received."""

    answers: list[tuple[int, Any]]
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of every response."""


@contextlib.contextmanager
def scripted_server(*answers: tuple[int, Any]) -> Generator[ScriptedServer]:
    script = ScriptedServer(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def _answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            binary = self.headers.get("Content-Type") == "application/octet-stream"
            sent = body if binary else json.loads(body) if body else None
            key, last = self.headers.get("Authorization"), self.headers.get("Last-Event-ID")
            script.requests.append(
                {"method": self.command, "path": self.path, "body": sent, "key": key, "last": last}
            )
            status, answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            if status in {SILENCE, SLOW}:
                script.ended.wait(SLOW_S if status == SLOW else 30)
                status = 202 if status == SLOW else HANG_UP
            if status == HANG_UP:
                self.close_connection = True
                return
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(202 if status in {TRICKLE, ENDLESS} else status)
            self.send_header("Content-Length", str(len(raw) + (status == ENDLESS)))
            for name, value in script.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if status == TRICKLE:
                with contextlib.suppress(ConnectionError):
                    for byte in raw:
                        self.wfile.write(bytes([byte]))
                        script.ended.wait(TRICKLE_S)
                return
            self.wfile.write(raw)
            if status == ENDLESS:
                script.ended.wait(30)
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 (http.server names them)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        script.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


class BlockingAdapter:
    """An AsyncMemoryClient with the methods of a MemoryClient: each call runs to its end in one event loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._loop = asyncio.Runner()
        self._client = AsyncMemoryClient(*args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._loop.run(method(*args, **kwargs))

    def stream(self, *args: Any, **kwargs: Any) -> BlockingStream:
        return BlockingStream(self._client.stream(*args, **kwargs), self._loop)

    def __enter__(self) -> Self:
        self._loop.run(self._client.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.run(self._client.__aexit__(*error))
        self._loop.close()


class BlockingStream:
    """An AsyncMemoryStream with the methods of a MemoryStream."""

    def __init__(self, stream: AsyncMemoryStream, loop: asyncio.Runner) -> None:
        self._stream = stream
        self._loop = loop

    def __next__(self) -> FoundMemory:
        return self._loop.run(anext(self._stream))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        self._loop.run(self._stream.aclose())


def refused(code: str, **more: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": "no", "details": {}, "request_id": "r1", **more}}


def ids(requests: Sequence[dict[str, Any]]) -> list[str]:
    return [event["id"] for request in requests for event in request["body"]["events"]]
