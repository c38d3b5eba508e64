"""The application of `lorestream up` in this process, without sockets: gateway, worker and query service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from lorestream.admin.snapshots import SnapshotSchedule
from lorestream.cli.serve import embedded
from lorestream.client import AsyncMemoryClient
from lorestream.wiring import Runtime
from lorestream.wiring.feeds import feed_over
from lorestream.wiring.snapshots import snapshots_over
from producers.gateway import Gateway
from query_service.recall import CurrentRecall
from stream_workers.worker import Worker
from tests.parts import open_parts, running

BASE_URL = "http://127.0.0.1:8080"


@dataclass
class WholeApp:
    """`http` sends requests to the application `asgi`; the worker runs while the loop does."""

    runtime: Runtime
    asgi: Any
    http: httpx2.AsyncClient

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of a successful answer."""
        answer = await self.http.request(method, path, **options)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def write(self, *events: dict[str, Any]) -> list[str]:
        """Write events, and wait until they can be found; their memory ids."""
        answer = await self.ask("POST", "/v1/events?wait=indexed", json={"events": events})
        assert answer["indexed"]
        return answer["ids"]

    async def erase(self, **subject: str) -> None:
        """Erase, and wait until no read shows what was erased."""
        erased = await self.ask("POST", "/v1/erasures", json=subject)
        after = {"agent_id": "nobody", "after": erased["token"], "wait_ms": 10_000}
        assert (await self.ask("POST", "/v1/memories/search", json=after))["fresh"]

    def client(self) -> AsyncMemoryClient:
        """A client whose requests go to this application."""
        app = self.asgi

        class InProcess(AsyncMemoryClient):
            def _open(self, headers: Any, limits: Any, *, trust_env: bool) -> httpx2.AsyncClient:
                del limits, trust_env
                return httpx2.AsyncClient(headers=headers, transport=httpx2.ASGITransport(app=app))

        return InProcess(BASE_URL)


@contextlib.asynccontextmanager
async def open_app(data: Path, **overrides: Any) -> AsyncIterator[WholeApp]:
    """The application over the embedded parts; `overrides` are settings."""
    async with open_parts(data, **overrides) as runtime:
        gateway, recall, worker = Gateway.over(runtime), CurrentRecall(runtime), Worker(runtime)
        snapshots = SnapshotSchedule(snapshots_over(runtime))
        async with feed_over(runtime) as feed, running(worker):
            feed.close()  # so that streams end: this transport collects the whole of a response
            asgi = embedded._application(runtime, gateway, recall, worker, feed=feed, snapshots=snapshots)
            transport = httpx2.ASGITransport(app=asgi)
            async with httpx2.AsyncClient(transport=transport, base_url=BASE_URL) as http:
                yield WholeApp(runtime, asgi, http)
