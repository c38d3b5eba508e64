"""Agents `ROLE:NAME` of a player NAME, through the whole application: stored, found, listed, erased."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lorestream.ports import Tombstone
from tests.whole_app import WholeApp, open_app

AGENT = "woodcutter:zed"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[WholeApp]:
    async with open_app(tmp_path, player_key="k2:new,k1:old") as opened:
        yield opened


async def texts(app: WholeApp, agent_id: str) -> list[str]:
    found = await app.ask("POST", "/v1/memories/search", json={"agent_id": agent_id})
    assert {memory["agent_id"] for memory in found["memories"]} <= {agent_id}
    return sorted(memory["text"] for memory in found["memories"])


async def stored(app: WholeApp) -> list[Any]:
    memories, _ = await app.runtime.store.scan(None, 1000)
    return [memory for memory in memories if not isinstance(memory, Tombstone)]


@pytest.mark.parametrize(
    ("agent_id", "player"), [(AGENT, "zed"), ("town:smith:steam:7656", "steam:7656"), ("a:b:c", "c")]
)
async def test_an_agent_with_a_role_and_its_players_name_is_named_after_the_player(
    app: WholeApp, agent_id: str, player: str
) -> None:
    [memory_id] = await app.write({"agent_id": agent_id, "player": player, "text": "one", "id": "e"})
    assert await app.write({"agent_id": agent_id, "player": player, "text": "again", "id": "e"}) == [
        memory_id
    ]
    [memory] = await stored(app)
    pseudonym = app.runtime.pseudonyms.player("default", player)
    assert memory.agent_id == agent_id.removesuffix(player) + pseudonym
    assert memory.agent_player == memory.player == pseudonym
    assert await texts(app, agent_id) == ["one"]
    one = await app.ask("GET", f"/v1/memories/{memory_id}", params={"agent_id": agent_id})
    assert one["agent_id"] == agent_id
    [listed] = (await app.ask("GET", "/v1/agents"))["agents"]
    assert listed["agent_id"] == memory.agent_id
    assert await texts(app, listed["agent_id"]) == ["one"]
    await app.erase(player=player)
    assert await texts(app, agent_id) == []


async def test_events_with_and_without_the_player_are_of_one_agent(app: WholeApp) -> None:
    await app.write(
        {"agent_id": AGENT, "player": "zed", "text": "with"},
        {"agent_id": AGENT, "text": "without"},
        {"agent_id": AGENT, "player": "ann", "text": "met ann"},
        {"agent_id": "woodcutter:ann", "player": "ann", "text": "another agent"},
    )
    assert await texts(app, AGENT) == ["met ann", "with", "without"]
    page = await app.ask("GET", f"/v1/agents/{AGENT}/memories?limit=1")
    assert page["total"] == 3
    summary = await app.ask("GET", f"/v1/agents/{AGENT}/summary")
    assert (summary["agent_id"], summary["total"]) == (AGENT, 3)
    await app.erase(player="zed")
    assert await texts(app, AGENT) == ["met ann", "without"]
    await app.erase(agent_id=AGENT)
    assert await texts(app, AGENT) == []
    assert await texts(app, "woodcutter:ann") == ["another agent"]


async def test_an_agent_with_a_role_is_named_after_the_pseudonym_in_its_id(app: WholeApp) -> None:
    [old] = app.runtime.pseudonyms.players("default", "zed")[1:]
    await app.write({"agent_id": f"woodcutter:{old}", "text": "written under the older key"})
    assert await texts(app, AGENT) == ["written under the older key"]
    await app.erase(player="zed")
    assert await stored(app) == []


async def test_deleting_one_memory_needs_only_the_plain_id(app: WholeApp) -> None:
    first, _ = await app.write(
        {"agent_id": AGENT, "player": "zed", "text": "goes"},
        {"agent_id": AGENT, "player": "zed", "text": "stays"},
    )
    await app.erase(agent_id=AGENT, memory_id=first)
    assert await texts(app, AGENT) == ["stays"]


@pytest.mark.parametrize("writes", [{"player": "zed"}, {}], ids=["with the player", "without"])
async def test_an_answer_over_two_stored_forms_is_cached_until_a_write_to_either(
    app: WholeApp, writes: dict[str, str]
) -> None:
    async def state() -> str:
        found = await app.ask("POST", "/v1/memories/search", json={"agent_id": AGENT, "query": "one"})
        return found["cache"]

    await app.write({"agent_id": AGENT, "text": "one"}, {"agent_id": AGENT, "player": "zed", "text": "two"})
    assert [await state(), await state()] == ["miss", "hit"]
    await app.write({"agent_id": AGENT, "text": "three", **writes})
    assert [await state(), await state()] == ["miss", "hit"]


async def test_the_name_is_in_no_generated_text(app: WholeApp) -> None:
    cases: list[dict[str, Any]] = [
        {"type": "trade", "data": {"with": ["singleplayer"]}},
        {"type": "trade", "data": {"singleplayer": 3}},
        {"type": "trade", "data": {"with": "player:singleplayer", "gave_singleplayer": 1}},
        {"type": "feast", "data": {"guests": [["singleplayer", 2], "singleplayer's dog"]}},
        {"type": "chat", "data": {"message": "I am singleplayer!"}},
    ]
    await app.write(
        *({"agent_id": "npc:1", "player": "singleplayer", **case} for case in cases),
        *({"agent_id": "baker:singleplayer", "player": "singleplayer", **case} for case in cases),
        *({"agent_id": "player:singleplayer", **case} for case in cases),
        {"agent_id": "npc:2", "player": "singleplayer", "type": "dig", "data": {"node": "a:singleplayers"}},
    )
    memories = await stored(app)
    assert len(memories) == 3 * len(cases) + 1
    for memory in memories:
        assert "singleplayer" not in memory.text.split("dug")[0], memory.text
        assert memory.text.startswith("a player ")
    assert any("a player" in memory.text.removeprefix("a player") for memory in memories)
