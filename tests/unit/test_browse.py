"""Single memories, pages, agents and summaries, through the HTTP routes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lorestream.identity import memory_id
from lorestream.wiring import Runtime
from tests.parts import open_parts, put
from tests.retrieval.reader import NOW, Reader, over


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_parts(tmp_path) as opened:
        yield opened


@pytest.fixture
async def reader(runtime: Runtime) -> AsyncIterator[Reader]:
    async with over(runtime) as opened:
        yield opened


def error_of(answer: Any) -> dict[str, Any]:
    return answer.json()["error"]


async def test_a_memory_is_returned_for_its_own_agent_only(reader: Reader) -> None:
    await reader.remember("one", event_id="e", expires_at=NOW + 5)
    path = f"/v1/memories/{memory_id('default', 's', 'a', 'e')}"
    memory = await reader.get(path, agent_id="a")
    assert memory["text"] == "one"
    assert "score" not in memory
    for where in (f"{path}?agent_id=b", "/v1/memories/nonsense?agent_id=a", "/v1/memories/%00?agent_id=a"):
        answer = await reader.client.get(where)
        assert (answer.status_code, error_of(answer)["code"]) == (404, "not_found")
    reader.clock.time = NOW + 5
    assert (await reader.client.get(path, params={"agent_id": "a"})).status_code == 404


@pytest.mark.parametrize("order", ["recent", "oldest"])
async def test_pages_return_every_memory_once_with_equal_times(reader: Reader, order: str) -> None:
    await reader.write(
        *(put(f"{n}", event_id=f"{n}", at=NOW - 100, timestamp=NOW - 200 + n // 4) for n in range(11))
    )
    seen: list[dict[str, Any]] = []
    params: dict[str, Any] = {"order": order, "limit": 3}
    written = 11
    while True:
        page = await reader.get("/v1/agents/a/memories", **params)
        assert page["total"] == written
        assert len(page["memories"]) <= 3
        seen += page["memories"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
        # A memory written between two pages sorts before the pages still to be read.
        at_front = NOW if order == "recent" else -NOW
        await reader.remember("later", event_id=f"later {written}", at=NOW - 100, timestamp=at_front)
        written += 1
    assert sorted(one["text"] for one in seen) == sorted(f"{n}" for n in range(11))
    ordered = sorted(seen, key=lambda one: (one["timestamp"], one["accepted_at"], one["id"]))
    assert seen == (ordered if order == "oldest" else ordered[::-1])


async def test_page_filters_by_all_bounds(reader: Reader) -> None:
    for n in range(6):
        await reader.remember(
            f"{n}", at=NOW - 60 + n, tick=float(n), type="odd" if n % 2 else "even", data={"n": n}
        )

    async def page(**params: Any) -> list[str]:
        answer = await reader.get("/v1/agents/a/memories", order="oldest", **params)
        assert answer["total"] == len(answer["memories"])
        return [one["text"] for one in answer["memories"]]

    assert await page(type="odd") == ["1", "3", "5"]
    assert await page(tick_from=1, tick_to="3.0") == ["1", "2", "3"]
    assert await page(since=NOW - 58, until=NOW - 57) == ["2", "3"]
    assert await page(filters=json.dumps({"n": {"gte": 2}}), type="even") == ["2", "4"]
    assert await page(limit="1000") == ["0", "1", "2", "3", "4", "5"]


async def test_an_id_in_a_path_may_have_any_characters(reader: Reader) -> None:
    await reader.remember("one", agent="a/b c?\u00fc")
    page = await reader.get(f"/v1/agents/{quote('a/b c?' + chr(252), safe='')}/memories")
    assert [one["text"] for one in page["memories"]] == ["one"]


async def test_agents_are_sorted_by_number_of_memories(reader: Reader) -> None:
    assert await reader.get("/v1/agents") == {"agents": []}
    for agent, count in (("b", 2), ("a", 2), ("c", 3), ("d", 1)):
        for n in range(count):
            await reader.remember(f"{n}", agent=agent)
    listed = (await reader.get("/v1/agents", limit=3))["agents"]
    assert listed == [
        {"agent_id": "c", "total": 3},
        {"agent_id": "a", "total": 2},
        {"agent_id": "b", "total": 2},
    ]


async def test_agents_are_found_by_the_beginning_of_their_ids(reader: Reader) -> None:
    for agent in ("npc:ann", "npc:ann", "npc:bob", "cat:ann"):
        await reader.remember("x", event_id=f"{agent}", agent=agent)
    await reader.remember("y", agent="npc:bob")

    async def ids(**params: Any) -> list[str]:
        return [one["agent_id"] for one in (await reader.get("/v1/agents", **params))["agents"]]

    assert await ids(prefix="npc:") == ["npc:bob", "npc:ann"]
    assert await ids(prefix="npc:", limit=1) == ["npc:bob"]
    assert await ids(prefix="NPC") == []
    assert await ids(prefix="") == ["npc:bob", "cat:ann", "npc:ann"]


async def test_summary_counts(reader: Reader) -> None:
    empty = {"agent_id": "a", "total": 0, "by_type": {}, "first": None, "last": None}
    assert await reader.get("/v1/agents/a/summary") == empty
    for n, kind in enumerate(["dig", "chat", None, "dig", None, "dig"]):
        await reader.remember(f"{n}", type=kind, at=NOW - 10 + n)
    await reader.remember("foreign", agent="b")
    assert await reader.get("/v1/agents/a/summary") == {
        "agent_id": "a",
        "total": 6,
        "by_type": {"dig": 3, "chat": 1, "": 2},
        "first": NOW - 10,
        "last": NOW - 5,
    }


async def test_a_memory_id_in_capitals_is_the_same_memory(reader: Reader) -> None:
    await reader.remember("x")
    [memory] = (await reader.get("/v1/agents/a/memories"))["memories"]
    assert await reader.get(f"/v1/memories/{memory['id'].upper()}", agent_id="a") == memory
