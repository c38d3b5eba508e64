"""The Model Context Protocol against a real `lorestream up`: `lorestream mcp` as a program starts it, and `POST /mcp`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import HASH, clean_environment, running

pytest.importorskip("mcp")
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

pytestmark = (
    pytest.mark.soak
)  # each process of the SDK takes seconds; tests/unit/test_mcp.py has the protocol


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("lorestream"), HASH) as process:
        yield process.url


async def remember_and_recall(client: Client, agent: str) -> None:
    remembered = await client.call_tool("remember", {"agent_id": agent, "text": "the lake is frozen"})
    assert remembered.structured_content["findable"]
    found = await client.call_tool("recall", {"agent_id": agent, "query": "the lake"})
    assert [one["text"] for one in found.structured_content["memories"]] == ["the lake is frozen"]


def started(url: str, **variables: str) -> Any:
    """`lorestream mcp`, as a program that uses language models starts it."""
    return stdio_client(
        StdioServerParameters(
            command=sys.executable,
            args=["-m", "lorestream.cli", "mcp", "--url", url],
            env=clean_environment(**variables),
            cwd=str(Path(__file__).parents[2]),
        )
    )


async def test_a_program_starts_lorestream_mcp(url: str) -> None:
    async with Client(started(url)) as client:
        await remember_and_recall(client, "npc:stdio")


async def test_a_program_connects_over_http(url: str) -> None:
    async with Client(f"{url}/mcp") as client:
        await remember_and_recall(client, "npc:http")


async def test_without_a_lorestream_each_tool_says_so() -> None:
    async with Client(started("http://127.0.0.1:9")) as client:
        assert len((await client.list_tools()).tools) == 8
        refused = await client.call_tool("recall", {"agent_id": "npc:x", "query": "x"})
    assert refused.is_error
    assert "start one with `lorestream up`" in refused.content[0].text
