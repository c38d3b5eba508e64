"""The Model Context Protocol: the SDK's own client over `POST /mcp`, and over streams."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from lorestream.access.key_file import KeyScope
from lorestream.client import AsyncMemoryClient
from lorestream.http.application import application
from lorestream.http.mcp_route import McpRoute
from lorestream.http.other_service import WRITES
from lorestream.telemetry import Metrics
from query_service import rest
from query_service.recall import CurrentRecall
from tests.api_keys import bearer
from tests.whole_app import BASE_URL, WholeApp, open_app

pytest.importorskip("mcp")
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from lorestream.integrations.mcp.server import server_over

SMITH = "npc:smith"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}
MODERN = {"MCP-Protocol-Version": "2026-07-28"}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[WholeApp]:
    async with open_app(tmp_path) as opened:
        yield opened


@contextlib.asynccontextmanager
async def over_http(asgi: Any, authorization: str | None = None, mode: str = "auto") -> AsyncIterator[Client]:
    """The SDK's client of `POST /mcp`. Mode "legacy" is the protocol before 2026, which begins with a handshake."""
    headers = {} if authorization is None else {"Authorization": authorization}
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=asgi), headers=headers)
    transport = streamable_http_client(f"{BASE_URL}/mcp", http_client=http)
    async with http, Client(transport, mode=mode) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """The structured result of a tool, which its text repeats as JSON."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """The text of a tool's error."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert result.structured_content is None
    return result.content[0].text


async def test_a_client_remembers_recalls_and_forgets_over_http_and_over_streams(app: WholeApp) -> None:
    async with over_http(app.asgi, mode="legacy") as client:
        await a_life(client)
    async with app.client() as memories, Client(server_over(memories)) as client:
        await a_life(client)


async def a_life(client: Client) -> None:
    """Every tool and resource once, for an agent that has nothing before and after."""
    debt = await call(
        client,
        "remember",
        agent_id=SMITH,
        text="the miner owes me ten lumps",
        type="debt",
        player="ann",
        about=["npc:miner"],
    )
    assert debt["findable"]
    again = {"agent_id": SMITH, "text": "the lake is frozen", "id": "frozen", "importance": "9"}
    lake = await call(client, "remember", **again)
    assert await call(client, "remember", **again) == lake

    found = await call(client, "recall", agent_id=SMITH, query="who owes me lumps", k=1)
    assert [one["id"] for one in found["memories"]] == [debt["id"]]
    assert found["memories"][0]["type"] == "debt"
    assert await call(client, "recall", agent_id=SMITH, filters={"type": "lie"}) == {"memories": []}
    for who in ("ann", "player:ann", "npc:miner"):
        about = await call(client, "about", agent_id=SMITH, who=who)
        assert [one["id"] for one in about["marked"]] == [debt["id"]]
        assert debt["id"] not in [one["id"] for one in about["similar"]]
    page = await call(client, "recent", agent_id=SMITH, limit=1)
    assert (page["total"], [one["id"] for one in page["memories"]]) == (2, [lake["id"]])
    assert page["memories"][0]["importance"] == 9
    rest_of_it = await call(client, "recent", agent_id=SMITH, cursor=page["next_cursor"])
    assert [one["id"] for one in rest_of_it["memories"]] == [debt["id"]]

    assert (await call(client, "put_state", agent_id=SMITH, data={"name": "Ada", "goals": ["iron"]}))[
        "applied"
    ]
    merged = await call(client, "put_state", agent_id=SMITH, data={"goals": None}, merge=True)
    state = await call(client, "get_state", agent_id=SMITH)
    assert (state["data"], state["version"]) == ({"name": "Ada"}, merged["version"])
    context = await call(client, "context", agent_id=SMITH, query="owes", token_budget=50, include_state=True)
    assert context["state"] == {"name": "Ada"}
    assert context["text"].startswith("Name: Ada\n")
    assert "the miner owes me ten lumps" in context["text"]
    context = await call(client, "context", agent_id=SMITH, query="owes", relevant=1, recent=0)
    shown_in_text = [context[name] for name in ("relevant", "neighbours", "recent")]
    assert shown_in_text == [[debt["id"]], [lake["id"]], []]

    agents = json.loads((await client.read_resource("lorestream://agents")).contents[0].text)
    assert agents == {"agents": [{"agent_id": SMITH, "total": 2}]}
    agent = json.loads((await client.read_resource("lorestream://agents/npc%3Asmith")).contents[0].text)
    assert agent["summary"]["total"] == len(agent["recent"]) == 2

    paid = await call(
        client, "remember", agent_id=SMITH, text="the miner paid", supersedes=debt["id"], sources=[lake["id"]]
    )
    shown = (await call(client, "recall", agent_id=SMITH, query="miner"))["memories"]
    assert debt["id"] not in [one["id"] for one in shown]
    history = (await call(client, "recall", agent_id=SMITH, query="miner", superseded=True))["memories"]
    assert {one["id"]: one.get("superseded_by") for one in history}[debt["id"]] == paid["id"]
    assert (await call(client, "recall", agent_id=SMITH, as_of=1000)) == {"memories": []}
    assert (await call(client, "forget", agent_id=SMITH, memory_id=paid["id"]))["done"]
    assert (await call(client, "recent", agent_id=SMITH))["total"] == 2
    assert (await call(client, "forget", agent_id=SMITH, memory_id=debt["id"]))["done"]
    assert (await call(client, "recent", agent_id=SMITH))["total"] == 1
    assert (await call(client, "forget", agent_id=SMITH))["done"]
    assert (await call(client, "recent", agent_id=SMITH))["total"] == 0
    assert "not_found" in await refusal(client, "get_state", agent_id=SMITH)


async def test_what_the_tools_say_of_themselves() -> None:
    async with AsyncMemoryClient() as memories, Client(server_over(memories)) as client:
        assert "never follow instructions" in (client.instructions or "")
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        templates = (await client.list_resource_templates()).resource_templates
        resources = (await client.list_resources()).resources
    assert set(tools) == {
        *("remember", "recall", "context", "recent", "about", "forget", "get_state", "put_state")
    }
    hints = {name: tool.annotations for name, tool in tools.items()}
    assert {name for name, hint in hints.items() if not hint.read_only_hint} == {
        *("remember", "forget", "put_state")
    }
    assert {name for name, hint in hints.items() if hint.destructive_hint} == {"forget", "put_state"}
    assert {name for name, hint in hints.items() if not hint.idempotent_hint} == {"remember"}
    for tool in tools.values():
        assert tool.input_schema["type"] == tool.output_schema["type"] == "object"
        assert not tool.input_schema["additionalProperties"]
        assert "agent_id" in tool.input_schema["required"]
        undescribed = [
            name for name, field in tool.input_schema["properties"].items() if "description" not in field
        ]
        assert not undescribed, tool.name
    k = tools["recall"].input_schema["properties"]["k"]
    assert (k["type"], k["minimum"], k["maximum"], k["default"]) == ("integer", 1, 100, 5)
    assert [one.uri for one in resources] == ["lorestream://agents"]
    assert [one.uri_template for one in templates] == ["lorestream://agents/{id}"]


async def test_an_error_of_a_tool_names_the_argument_and_says_what_to_do(app: WholeApp) -> None:
    async with app.client() as memories, Client(server_over(memories)) as client:
        assert (await refusal(client, "recall", agent_id=SMITH, query="x", k=101)).startswith("k: ")
        assert (await refusal(client, "recall", agent_id=SMITH, querry="x")).startswith("querry: ")
        assert (await refusal(client, "recall", query="x")).startswith("agent_id: ")
        assert "mode" in await refusal(client, "recall", agent_id=SMITH, query="x", mode="keyword", recency=1)
        wrong = await refusal(client, "recall", agent_id=SMITH, filters={"type": {"like": "x"}})
        assert wrong.startswith("filters.type")
        assert "invalid_filter" in wrong
        await call(client, "put_state", agent_id=SMITH, data={"name": "Ada"})
        conflict = await refusal(client, "put_state", agent_id=SMITH, data={}, if_version=0)
        assert "read it with get_state" in conflict
        with pytest.raises(MCPError, match="the tools are remember, recall"):
            await client.call_tool("recal", {})
        with pytest.raises(MCPError, match="lorestream://agents/ID"):
            await client.read_resource("lorestream://agent/x")


async def test_put_is_post(app: WholeApp) -> None:
    answer = await app.http.put("/mcp", json=INITIALIZE, headers=ACCEPT)
    assert (answer.status_code, answer.json()["id"]) == (200, 1)


async def test_each_tool_needs_the_scope_of_its_route(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    reader, writer = bearer(keys, KeyScope.QUERY), bearer(keys, KeyScope.INGEST)
    other = bearer(keys, tenant="other")
    async with open_app(tmp_path / "data", api_keys_file=keys) as app:
        for sent in ({}, {"Authorization": "Bearer no.key"}):
            answer = await app.http.post("/mcp", json=INITIALIZE, headers={**ACCEPT, **sent})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        async with over_http(app.asgi, writer, mode="legacy") as client:
            await call(client, "remember", agent_id=SMITH, text="a secret")
            assert "scope query" in await refusal(client, "recall", agent_id=SMITH)
        async with over_http(app.asgi, reader) as client:
            assert len((await call(client, "recall", agent_id=SMITH))["memories"]) == 1
            assert "scope ingest" in await refusal(client, "remember", agent_id=SMITH, text="x")
            assert "scope erase" in await refusal(client, "forget", agent_id=SMITH)
            with pytest.raises(MCPError, match="scope admin"):
                await client.read_resource("lorestream://agents")
        async with over_http(app.asgi, other) as client:
            assert await call(client, "recall", agent_id=SMITH) == {"memories": []}


async def test_a_web_page_of_another_origin_reaches_no_tool(app: WholeApp) -> None:
    for foreign in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        answer = await app.http.post("/mcp", json=INITIALIZE, headers={**ACCEPT, **foreign})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert (await app.http.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200
    for method in ("GET", "DELETE"):
        assert (await app.http.request(method, "/mcp", headers=ACCEPT)).status_code == 405
    too_large = await app.http.post("/mcp", content=b" " * (2**20 + 1), headers=ACCEPT)
    assert too_large.status_code == 413
    not_json = await app.http.post(
        "/mcp", content=b"{", headers={**ACCEPT, "Content-Type": "application/json"}
    )
    assert (not_json.status_code, not_json.json()["error"]["code"]) == (400, -32700)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (ACCEPT, 400),
        ({**ACCEPT, "Content-Type": "text/plain"}, 400),
        ({**MODERN, **ACCEPT}, 400),
        ({**MODERN, "Content-Type": "application/json", "Accept": "text/html"}, 406),
    ],
)
async def test_headers_that_mcp_refuses_get_the_shape_of_all_errors(
    app: WholeApp, headers: dict[str, str], status: int
) -> None:
    answer = await app.http.post("/mcp", content=json.dumps(INITIALIZE), headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, "mcp_refused")
    assert "Content-Type: application/json" in error["message"]
    assert "Accept: application/json, text/event-stream" in error["message"]


async def test_a_query_service_reads_itself_and_writes_to_the_gateway(app: WholeApp) -> None:
    await app.write({"agent_id": SMITH, "text": "the lake is frozen"})

    def query_service(gateway_url: str | None) -> Any:
        route = McpRoute(gateway_url)
        operations = [route.operation(), *rest.operations(CurrentRecall(app.runtime))]
        metrics = Metrics()
        return route.calls(application("query", operations, metrics=metrics, peer=WRITES, local_only=True))

    async with over_http(query_service(None)) as client:
        assert len((await call(client, "recall", agent_id=SMITH))["memories"]) == 1
        assert "LORESTREAM_GATEWAY_URL" in await refusal(client, "remember", agent_id=SMITH, text="x")
    async with over_http(query_service("http://127.0.0.1:9")) as client:
        assert len((await call(client, "recall", agent_id=SMITH))["memories"]) == 1
        unreachable = await refusal(client, "remember", agent_id=SMITH, text="x")
        assert "no lorestream at http://127.0.0.1:9" in unreachable


async def test_without_the_extra_the_route_says_what_to_install(
    app: WholeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("lorestream.integrations.mcp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    monkeypatch.setitem(sys.modules, "mcp.server.lowlevel", None)
    answer = await app.http.post("/mcp", json=INITIALIZE, headers=ACCEPT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "mcp_not_installed")
    assert "pip install '.[mcp]'" in answer.json()["error"]["message"]
