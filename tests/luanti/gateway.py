"""A gateway that records requests and can be told to fail, for faults that a real gateway rarely has."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

BATCH = "/v1/memories/search/batch"


class RecordingGateway:
    """Answers like Lorestream's gateway. Its port stays the same over `down` and `up`.

    `mode`: `ok`; `500`, `429`, `401`, `400` (this status, no event accepted); `slow` (accepts the events, and answers
    after `delay` seconds); `lost` (accepts the events, and answers 500, like a crash after the write); `reject`
    (rejects events of the type `bad`).
    `poison`: a body with these bytes is refused whole with 400, like one that is not JSON.
    """

    def __init__(self) -> None:
        self.mode = "ok"
        self.delay = 1.0
        self.retry_after_ms = 0
        self.poison: bytes | None = None
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.memories: list[dict[str, Any]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.up()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Start to listen."""
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                gateway.connections.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                status, answer = gateway.take(self.path, body, dict(self.headers))
                payload = json.dumps(answer).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(payload)))
                    self.end_headers()
                    self.wfile.write(payload)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the server was killed, or did not wait

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a killed server leaves broken connections behind

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Stop listening, and close all connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in self.connections:
            with contextlib.suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def take(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Record one request; returns the status and the answer."""
        document = json.loads(body)
        events: list[dict[str, Any]] = document.get("events", [])
        if document == {"events": []}:  # the mod's greeting while the server loads
            return 202, {"accepted": 0, "rejected": [], "ids": [], "token": "", "retry_after_ms": 0}
        mode = "400" if self.poison and self.poison in body else self.mode
        with self._lock:
            self.in_flight += path == "/v1/events"
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.headers.append(headers)
            if mode in ("ok", "slow", "lost", "reject"):
                self.requests.append((path, document))
        if mode == "slow":
            time.sleep(self.delay)
        with self._lock:
            self.in_flight -= path == "/v1/events"
        if mode.isdigit() or mode == "lost":
            error = {"code": "told_so", "message": f"mode {mode}"}
            status = 500 if mode == "lost" else int(mode)
            return status, {"error": error, "retry_after_ms": self.retry_after_ms}
        if path == "/v1/events":
            bad = [i for i, event in enumerate(events) if mode == "reject" and event.get("type") == "bad"]
            rejected = [{"index": i, "code": "invalid_event", "message": "it is bad"} for i in bad]
            ids = [None if i in bad else str(uuid.uuid4()) for i in range(len(events))]
            accepted = len(events) - len(bad)
            return 202, {
                "accepted": accepted,
                "rejected": rejected,
                "ids": ids,
                "token": "t",
                "retry_after_ms": self.retry_after_ms,
            }
        if path == "/v1/erasures":
            return 202, {"erasure_id": str(uuid.uuid4()), "token": "t"}
        if path == BATCH:
            context = {"recent": [], "relevant": [], "text": "it rained", "tokens": 2, "fresh": True}
            return 200, {
                "results": [{"memories": self.memories, "fresh": True} for _ in document.get("searches", ())],
                "contexts": [context for _ in document.get("contexts", ())],
                "entities": [
                    {**read, "version": 1, "data": {"seen": 1}} for read in document.get("entities", ())
                ],
            }
        if path.startswith("/v1/entities/"):
            version = sum(where == path for where, _ in self.requests)
            return 200, {
                "event_id": document["event_id"],
                "token": "t",
                "applied": True,
                "version": version,
            }
        return 404, {"error": {"code": "not_found", "message": path, "details": {}, "request_id": "r"}}

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """The bodies of all requests to this path, in order."""
        with self._lock:
            return [document for where, document in self.requests if where == path]

    def asked(self, kind: str = "searches") -> list[list[dict[str, Any]]]:
        """The reads of a kind (`searches`, `contexts`, `entities`) of all batches, in order."""
        return [document.get(kind, []) for document in self.bodies(BATCH)]

    def raw_events(self) -> list[dict[str, Any]]:
        """All accepted events, including repeated ones, in order of arrival."""
        return [event for document in self.bodies("/v1/events") for event in document["events"]]

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """All accepted events, each id once (identified by server, agent and id)."""
        once: dict[tuple[str, str], dict[str, Any]] = {}
        for event in self.raw_events():
            once.setdefault((event["agent_id"], event["id"]), event)
        return [event for event in once.values() if kind is None or event.get("type") == kind]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
