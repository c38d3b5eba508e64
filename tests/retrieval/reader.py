"""The query service over real embedded parts, called through its ASGI application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from lorestream.events import Envelope
from lorestream.http.application import application
from lorestream.wiring import Runtime
from query_service.accesses import Accesses
from query_service.recall import Recall
from query_service.rerank import Reranking
from query_service.rest import operations
from stream_workers.indexing.cache_invalidation import InvalidationQueue
from tests.http_gateway import SetClock
from tests.parts import open_parts, pipeline_over, put, records

NOW = 2_000_000_000.0


@dataclass
class Reader:
    """`client` sends requests; `write` indexes memories as the worker does."""

    runtime: Runtime
    recall: Recall
    clock: SetClock
    client: httpx2.AsyncClient

    async def write(self, *envelopes: Envelope) -> None:
        pipeline = pipeline_over(self.runtime)
        applied = await pipeline.apply(await pipeline.prepare(records(*envelopes)))
        await InvalidationQueue(self.runtime.cache).add(
            applied.changed_agents, partial(pipeline.finish, applied)
        )

    async def remember(self, text: str, *, event_id: str | None = None, **fields: Any) -> None:
        """Write one memory, by default of agent a and one second old."""
        await self.write(put(text, event_id=event_id or text, **{"at": NOW - 1, **fields}))

    async def post(self, path: str, body: object) -> httpx2.Response:
        return await self.client.post(path, json=body)

    async def search(self, query: str | None = None, **body: Any) -> dict[str, Any]:
        """A successful search, of agent a unless a scope is given."""
        scope = {} if body.get("agent_ids") or body.get("scope") else {"agent_id": "a"}
        answer = await self.post("/v1/memories/search", {**scope, "query": query, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def texts(self, query: str | None = None, **body: Any) -> list[str]:
        """The texts of a search's memories."""
        return [memory["text"] for memory in (await self.search(query, **body))["memories"]]

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """A successful GET."""
        answer = await self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextlib.asynccontextmanager
async def open_reader(data: Path, **overrides: Any) -> AsyncIterator[Reader]:
    """A reader on an empty data directory, by default with the hash embedder."""
    async with open_parts(data, **overrides) as runtime, over(runtime) as reader:
        yield reader


@contextlib.asynccontextmanager
async def over(runtime: Runtime, **other: Any) -> AsyncIterator[Reader]:
    """A reader over open parts; `other` replaces some of them."""
    clock = SetClock(NOW)
    parts: dict[str, Any] = {
        "store": runtime.store,
        "embedder": runtime.embedder,
        "cache": runtime.cache,
        "watermarks": runtime.watermarks,
        "ledger": runtime.ledger,
        "pseudonyms": runtime.pseudonyms,
        "metrics": runtime.metrics,
        "clock": clock,
        "accesses": Accesses(runtime.accesses, runtime.ledger),
        "reranking": Reranking.from_parts(runtime),
        "settings": runtime.settings.search,
    }
    recall = Recall(**{**parts, **other})
    app = application("query", operations(lambda: recall), metrics=runtime.metrics)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://lorestream") as client:
        yield Reader(runtime, recall, clock, client)
