"""Fields of the older routes, and fields that are null or an empty table: they mean the same everywhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.http_gateway import HttpGateway, SetClock, open_http_gateway
from tests.retrieval.reader import NOW, Reader, open_reader

TTL_S = 86_400.0


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[HttpGateway]:
    async with open_http_gateway(tmp_path, clock=SetClock(NOW), ttl_s=TTL_S) as opened:
        yield opened


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    async with open_reader(tmp_path) as opened:
        await opened.remember("dug a pine", type="dig")
        await opened.remember("said hello", type="chat")
        yield opened


LIFETIMES = [
    ({}, TTL_S),
    ({"ttl": 3}, 3),
    ({"ttl_seconds": 3}, 3),
    ({"ttl_seconds": 3.5, "ttl": None}, 3.5),
    ({"ttl_seconds": 0}, None),
]


async def test_memory_put_takes_ttl_and_ttl_seconds(service: HttpGateway) -> None:
    for fields, lifetime in LIFETIMES:
        body = {"agent_id": "a", "text": "x", "extra": 1, **fields}
        assert (await service.http.post("/memory/put", json=body)).status_code == 202, fields
        [event] = await service.new_events()
        assert event.expires_at == (None if lifetime is None else pytest.approx(NOW + lifetime)), fields


async def test_memory_put_with_two_lifetimes_names_the_second(service: HttpGateway) -> None:
    body = {"agent_id": "a", "text": "x", "ttl": 3, "ttl_seconds": 4}
    answer = await service.http.post("/memory/put", json=body)
    assert (answer.status_code, answer.json()["error"]["details"]["path"]) == (400, "ttl_seconds")


CONTEXTS = [
    ({"context": {"mood": "calm"}}, {"context": {"mood": "calm"}}),
    ({"context": {"mood": "calm"}, "metadata": {"n": 1}}, {"context": {"mood": "calm"}, "n": 1}),
    ({"context": {"mood": "calm"}, "metadata": {"context": "own"}}, {"context": "own"}),
    ({"context": [], "metadata": []}, None),
    ({"context": None, "metadata": {"n": 1}}, {"n": 1}),
    ({"context": {}}, None),
]


async def test_the_context_of_memory_put_becomes_metadata(service: HttpGateway) -> None:
    for fields, metadata in CONTEXTS:
        body = {"agent_id": "a", "text": "x", **fields}
        assert (await service.http.post("/memory/put", json=body)).status_code == 202, fields
        [event] = await service.new_events()
        assert event.metadata == metadata, fields


ERASURES_WITH_NULL = [
    ("/v1/erasures", {"agent_id": None, "player": "x"}, "player"),
    ("/v1/erasures", {"agent_id": None, "memory_id": None, "player": "x"}, "player"),
    ("/v1/erasures", {"agent_id": "a", "player": None}, "agent"),
    ("/memory/delete", {"agent_id": None, "player": "x"}, "player"),
    ("/memory/delete", {"agent_id": "a", "player": None, "reason": "left"}, "agent"),
]


async def test_a_null_in_an_erasure_is_a_missing_field(service: HttpGateway) -> None:
    for route, body, kind in ERASURES_WITH_NULL:
        assert (await service.http.post(route, json=body)).status_code == 202, body
        [erase] = await service.new_events()
        assert erase.kind == kind, body


@pytest.mark.parametrize("route", ["/v1/erasures", "/memory/delete"])
async def test_a_null_memory_id_never_erases_the_whole_agent(service: HttpGateway, route: str) -> None:
    assert (await service.http.post(route, json={"agent_id": "a", "memory_id": None})).status_code == 400
    assert await service.new_events() == []


@pytest.mark.parametrize("empty", [None, [], {}])
async def test_an_empty_table_in_a_read_is_a_missing_field(reader: Reader, empty: object) -> None:
    both = {"dug a pine", "said hello"}
    assert set(await reader.texts("dug", filters=empty, weights=empty, near=empty or None)) == both
    assert set(await reader.texts(filters=empty, near=None if empty == {} else empty)) == both
    old = await reader.post("/memory/get", {"agent_id": "a", "query": "dug", "filters": empty, "extra": 1})
    assert {memory["text"] for memory in old.json()["memories"]} == both
    context = await reader.post("/v1/agents/a/context", {"query": "dug", "filters": empty})
    assert len(context.json()["relevant"]) == 2
    page = await reader.get(f"/v1/agents/a/memories?filters={quote(json.dumps(empty))}")
    assert page["total"] == 2
