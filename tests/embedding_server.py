"""An HTTP server of `/v1/embeddings` with the hash embedder, which can be told to fail."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.local.process import free_port
from lorestream.adapters.embedders.hash import HashEmbedder

KEY = "sk-right"
MODEL = "test/hash-384"

Rows: TypeAlias = "list[dict[str, Any]]"
Fault: TypeAlias = "Callable[[Rows], Awaitable[Response] | Response]"


@dataclass
class EmbeddingServer:
    """`faults`: each is applied to one request, in order. `requests`: the texts of all requests. `refuse`: answers `refusal_status`."""

    port: int = field(default_factory=free_port)
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[list[str]] = field(default_factory=list)
    refuse: Callable[[list[str]], bool] = lambda texts: False
    refusal_status: int = 400
    delay_s: float = 0.0
    running: int = 0
    max_running: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        self.faults.clear()
        self.requests.clear()
        self.refuse = lambda texts: False
        self.refusal_status = 400
        self.delay_s = 0.0
        self.max_running = 0

    async def answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return refusal(401, "incorrect key")
        content = await request.json()
        if content["model"] != MODEL:
            return refusal(404, "no such model")
        texts: list[str] = content["input"]
        self.requests.append(texts)
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        try:
            await asyncio.sleep(self.delay_s)
            if self.faults:
                made = self.faults.popleft()(rows(texts))
                return made if isinstance(made, Response) else await made
            if self.refuse(texts) or not all(texts):
                return refusal(self.refusal_status, "one of the inputs is invalid")
            return body(rows(texts))
        finally:
            self.running -= 1

    @contextlib.contextmanager
    def serving(self) -> Generator[EmbeddingServer]:
        app = Starlette(routes=[Route("/v1/embeddings", self.answer, methods=["POST"])])
        server = uvicorn.Server(
            uvicorn.Config(app, port=self.port, log_level="error", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(10)


def rows(texts: list[str]) -> Rows:
    vectors = HashEmbedder()._encoder.encode(texts).vectors * 3  # not of length 1
    return [{"object": "embedding", "index": n, "embedding": row.tolist()} for n, row in enumerate(vectors)]


def body(data: Rows) -> Response:
    return JSONResponse({"object": "list", "data": data, "model": MODEL, "usage": {"total_tokens": 1}})


def refusal(status: int, message: str = "no", **headers: str) -> Response:
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": {"message": message}}, status, shown)
