"""A client that closes its connection: the work for it ends, and for nobody else."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lorestream.http import disconnect
from lorestream.http.application import application
from lorestream.wiring import Runtime
from query_service import browse
from query_service.rest import operations
from tests.parts import ReadsItself, open_parts
from tests.retrieval.reader import Reader, over

BODY = json.dumps({"agent_id": "a", "query": "iron"}).encode()


class Store(ReadsItself):
    """A real store whose searches and pages, but the first `free_pages`, begin, and end when they are cancelled."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.release = asyncio.Event()
        self.free_pages = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def search(self, query: Any) -> Any:
        self.begun.set()
        try:
            await self.release.wait()
            return await self._store.search(query)
        finally:
            self.ended.set()

    async def page(self, query: Any) -> Any:
        if self.free_pages:
            self.free_pages -= 1
            return await self._store.page(query)
        return await self.search(query)


@pytest.fixture
async def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runtime]:
    monkeypatch.setattr(disconnect, "WATCH_AFTER_S", 0.0)
    async with open_parts(tmp_path) as opened:
        yield opened


@pytest.fixture
async def store(runtime: Runtime) -> Store:
    return Store(runtime.store)


@pytest.fixture
async def reader(runtime: Runtime, store: Store) -> AsyncIterator[Reader]:
    async with over(runtime, store=store) as opened:
        yield opened


class Client:
    """One request over ASGI, whose connection can be closed."""

    def __init__(
        self, reader: Reader, method: str, path: str, body: bytes = b"", accept: bytes = b"*/*"
    ) -> None:
        self._app = application("query", operations(lambda: reader.recall), metrics=reader.runtime.metrics)
        self._scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "query_string": b""}
        self._scope["headers"] = [(b"host", b"127.0.0.1"), (b"accept", accept)]
        self._body = [body[:5], body[5:]]
        self.closed = asyncio.Event()
        self.statuses: list[int] = []
        self.lines = b""
        self.first_line = asyncio.Event()

    async def _receive(self) -> dict[str, Any]:
        if self._body:
            part = self._body.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._body)}
        await self.closed.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])
        elif message.get("body"):
            self.lines += message["body"]
            self.first_line.set()

    async def run(self) -> None:
        await self._app(self._scope, self._receive, self._send)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_", [("POST", "/v1/memories/search", BODY), ("GET", "/v1/agents/a/memories")]
)
async def test_the_work_ends_when_the_client_has_gone(
    reader: Reader, store: Store, request_: tuple[Any, ...]
) -> None:
    client = Client(reader, *request_)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(client.run())
        await store.begun.wait()
        client.closed.set()
        await store.ended.wait()
    assert client.statuses == [499]
    assert reader.recall.answers.in_flight == 0


async def test_another_caller_of_the_same_search_still_gets_its_answer(reader: Reader, store: Store) -> None:
    first, second = (Client(reader, "POST", "/v1/memories/search", BODY) for _ in range(2))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        leaving = group.create_task(first.run())
        await store.begun.wait()
        staying = group.create_task(second.run())
        while not any(one.callers == 2 for one in reader.recall.answers._in_flight.values()):
            await asyncio.sleep(0)
        first.closed.set()
        await leaving
        assert not store.ended.is_set()
        store.release.set()
        await staying
    assert (first.statuses, second.statuses) == ([499], [200])


async def test_a_search_that_all_have_left_can_be_asked_again_at_once(reader: Reader, store: Store) -> None:
    client = Client(reader, "POST", "/v1/memories/search", BODY)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        leaving = group.create_task(client.run())
        await store.begun.wait()
        client.closed.set()
        await leaving
        store.release.set()
        assert await reader.texts("iron") == []


async def test_a_stream_ends_its_work_when_the_client_has_gone(
    reader: Reader, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "_LINES_AT_ONCE", 1)
    for name in ("one", "two", "three"):
        await reader.remember(name)
    client = Client(reader, "GET", "/v1/agents/a/memories", accept=b"application/x-ndjson")
    store.free_pages = 1
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(client.run())
        await client.first_line.wait()
        await store.begun.wait()
        client.closed.set()
        await store.ended.wait()
    assert client.statuses == [200]
    assert client.lines.count(b"\n") == 1
    assert reader.recall._active_searches == 0
