"""A receiver of webhooks: a real HTTP server with scripted answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """Answers with the scripted statuses, then with 204, and keeps the requests that it got."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self.arrived = threading.Event()

    @property
    def accepted(self) -> list[str]:
        """The texts of the memories in requests that were answered with success, in order."""
        return [
            memory["text"]
            for headers, body in self.requests
            if headers["answered"] == "204"
            for memory in json.loads(body)["memories"]
        ]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it holds, after each request."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.to_thread(self.arrived.wait, 0.5)
                self.arrived.clear()


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens on the loopback."""
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = kept.statuses.pop(0) if kept.statuses else 204
            kept.requests.append(({**dict(self.headers), "answered": str(status)}, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("Location", f"{kept.url}/elsewhere")
            self.end_headers()
            kept.arrived.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
