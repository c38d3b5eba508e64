"""Corrections, whom memories are about, what they rest on, and reads as of a time, over the whole application."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from query_service import relations
from tests.whole_app import WholeApp, open_app

SMITH = "npc:smith"
SEARCH = "/v1/memories/search"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[WholeApp]:
    async with open_app(tmp_path) as opened:
        yield opened


async def supersede(app: WholeApp, old: str, text: str, **event: Any) -> str:
    """Supersede a memory of the smith, and wait until the new one can be found; its id."""
    path = f"/v1/memories/{old}/supersede"
    params = {"agent_id": SMITH, "wait": "indexed"}
    answer = await app.ask("POST", path, params=params, json={"text": text, **event})
    assert answer["indexed"]
    return answer["id"]


async def undo(app: WholeApp, memory_id: str) -> None:
    await app.erase(agent_id=SMITH, memory_id=memory_id)


async def recent(app: WholeApp, **params: Any) -> list[dict[str, Any]]:
    page = await app.ask("GET", f"/v1/agents/{SMITH}/memories", params=params)
    assert page["total"] == len(page["memories"])
    return page["memories"]


async def search(app: WholeApp, query: str | None = None, **body: Any) -> list[dict[str, Any]]:
    asked = {"agent_id": SMITH, "k": 50, **({} if query is None else {"query": query}), **body}
    return (await app.ask("POST", SEARCH, json=asked))["memories"]


def texts(memories: list[dict[str, Any]]) -> list[str]:
    return sorted(one["text"] for one in memories)


async def context(app: WholeApp, **body: Any) -> dict[str, Any]:
    return await app.ask("POST", f"/v1/agents/{SMITH}/context", json={"query": "forge", **body})


async def test_a_correction_and_its_undoing_are_seen_by_every_read(app: WholeApp) -> None:
    [old] = await app.write({"agent_id": SMITH, "text": "the forge is red", "type": "t"})
    new = await supersede(app, old, "the forge is blue", type="t", player="Anna")
    for read in (search(app, "forge"), search(app, "forge", mode="keyword"), search(app), recent(app)):
        [found] = await read
        assert (found["text"], found["supersedes"]) == ("the forge is blue", old)
        assert "superseded_by" not in found
    answer = await context(app)
    assert "red" not in answer["text"]
    assert "blue" in answer["text"]
    summary = await app.ask("GET", f"/v1/agents/{SMITH}/summary")
    assert (summary["total"], summary["by_type"]) == (1, {"t": 1})
    assert (await app.ask("GET", "/v1/agents"))["agents"] == [{"agent_id": SMITH, "total": 1}]
    both = ["the forge is blue", "the forge is red"]
    asked = await search(app, "forge", superseded=True)
    assert texts(asked) == texts(await recent(app, superseded="true")) == both
    assert "red" in (await context(app, superseded=True))["text"]
    [shown] = [one for one in asked if one["id"] == old]
    assert shown["superseded_by"] == new
    by_id = await app.ask("GET", f"/v1/memories/{old}", params={"agent_id": SMITH})
    assert by_id["superseded_by"] == new
    await undo(app, new)
    [back] = await search(app, "forge")
    assert back["id"] == old
    assert "superseded_by" not in back
    assert texts(await recent(app)) == ["the forge is red"]


async def test_the_answer_as_of_a_time_has_what_was_known_then(app: WholeApp) -> None:
    [first] = await app.write({"agent_id": SMITH, "text": "forge one", "time": 1.0})
    second = await supersede(app, first, "forge two", ttl=1000)
    [hidden] = await app.write({"agent_id": SMITH, "text": "forge three", "type": "x"})
    at = {}
    for one in await recent(app, superseded="true"):
        at[one["id"]] = one["accepted_at"]
    for when, known in (
        (at[first] - 1, []),
        (at[first], ["forge one"]),
        (at[second], ["forge two"]),
        (at[hidden], ["forge three", "forge two"]),
        (at[second] + 2000, ["forge three", "forge two"]),  # a time in the future is the present
    ):
        assert texts(await search(app, "forge", as_of=when)) == known
        assert texts(await search(app, as_of=when, weights={"recency": 1})) == known
        assert texts(await recent(app, as_of=when)) == known
        answer = await context(app, as_of=when)
        assert [text for text in ("forge one", "forge three", "forge two") if text in answer["text"]] == known
    assert texts(await search(app, "forge", as_of=at[second], superseded=True)) == ["forge one", "forge two"]
    # The answer of another time is another one in the cache.
    assert texts(await search(app, "forge")) == ["forge three", "forge two"]


async def test_whom_a_memory_is_about_and_what_it_rests_on(app: WholeApp) -> None:
    [source] = await app.write({"agent_id": SMITH, "text": "hammering"})
    about = ["npc:baker", "Anna", "player:Anna", "pet:player:Bert", "steam:1", "npc:baker"]
    [memory] = await app.write(
        {
            "agent_id": SMITH,
            "text": "a talk",
            "player": "steam:1",
            "about": about,
            "sources": [source.upper()],
        }
    )
    [found] = [one for one in await recent(app) if one["id"] == memory]
    baker, anna, pet, steam = found["about"]
    assert baker == "npc:baker"
    assert anna.startswith("k1:")
    assert pet.startswith("pet:player:k1:")
    assert steam == found["player"]
    assert "Anna" not in str(found)
    assert found["sources"] == [source]
    for filters in (
        {"about": {"contains": "Anna"}},
        {"about": {"contains": "player:Anna"}},
        {"about": "pet:player:Bert"},
        {"about": ["steam:1", "nobody"]},
        {"about": {"contains": anna}},
        {"sources": {"contains": source.upper()}},
        {"about": {"exists": True}, "sources": {"exists": True}},
    ):
        assert texts(await search(app, filters=filters)) == ["a talk"], filters
    assert texts(await search(app, filters={"about": {"ne": "Anna"}})) == ["hammering"]
    assert texts(await search(app, filters={"about": {"contains": "Ann"}})) == []
    for condition in ({"gt": 1}, {"contains": 1}):
        answer = await app.http.post(SEARCH, json={"agent_id": SMITH, "filters": {"about": condition}})
        assert answer.json()["error"]["code"] == "invalid_filter"
    await app.erase(player="Anna")
    [left] = [one for one in await recent(app) if one["id"] == memory]
    assert left["about"] == [baker, pet, steam]


async def test_relations_are_counted_over_about_and_player(app: WholeApp) -> None:
    await app.write(
        {
            "agent_id": SMITH,
            "text": "1",
            "about": ["npc:baker", "Anna"],
            "metadata": {"valence": 1},
            "time": 10,
        },
        {
            "agent_id": SMITH,
            "text": "2",
            "about": ["player:Anna"],
            "player": "Anna",
            "metadata": {"valence": 0.5},
            "time": 5,
        },
        {"agent_id": SMITH, "text": "3", "player": "Anna", "time": 7, "metadata": {"valence": "no number"}},
        {"agent_id": SMITH, "text": "4", "about": [SMITH]},
        {"agent_id": "npc:other", "text": "5", "about": ["npc:baker"]},
    )
    path = f"/v1/agents/{SMITH}/relations"
    found = (await app.ask("GET", path))["relations"]
    assert [{**one, "with": one["with"][:9]} for one in found] == [
        {"with": found[0]["with"][:9], "total": 3, "last": 10.0, "valence": 1.5},
        {"with": "npc:baker", "total": 1, "last": 10.0, "valence": 1.0},
    ]
    assert found[0]["with"].startswith("k1:")
    assert (await app.ask("GET", path, params={"limit": 1}))["relations"] == found[:1]
    assert (await app.ask("GET", "/v1/agents/nobody/relations"))["relations"] == []


async def test_a_sum_of_valences_that_no_float_holds_is_null_as_in_aggregates(app: WholeApp) -> None:
    most = sys.float_info.max
    valences = {"npc:baker": [most, most], "npc:miner": [most, most, -most]}
    await app.write(
        *(
            {
                "agent_id": SMITH,
                "text": f"{other} {place}",
                "about": [other],
                "metadata": {"valence": valence},
            }
            for other, several in valences.items()
            for place, valence in enumerate(several)
        )
    )
    found = (await app.ask("GET", f"/v1/agents/{SMITH}/relations"))["relations"]
    for one in found:
        wanted = {"field": "valence", "filters": {"about": {"contains": one["with"]}}}
        [bucket] = (await app.ask("POST", f"/v1/agents/{SMITH}/aggregate", json=wanted))["buckets"]
        assert one["valence"] == bucket["sum"]
    assert {one["with"]: one["valence"] for one in found} == {"npc:baker": None, "npc:miner": most}


async def test_relations_are_computed_again_after_a_write_and_bounded(
    app: WholeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/agents/{SMITH}/relations"
    for written in (1, 2):
        await app.write({"agent_id": SMITH, "text": str(written), "about": ["npc:baker"]})
        for _ in range(2):  # the second time from the cache
            [found] = (await app.ask("GET", path))["relations"]
            assert found["total"] == written
    monkeypatch.setattr(relations, "MAX_MEMORIES", 1)
    answer = await app.http.get(path, params={"limit": 2})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "too_many_records"


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ({"about": [""]}, "about"),
        ({"about": "Anna"}, "about"),
        ({"about": ["x"] * 65}, "about"),
        ({"about": ["x:" + "y" * 300]}, "about[0]"),
        ({"sources": ["no id"]}, "sources[0]"),
        ({"supersedes": "no id"}, "supersedes"),
    ],
)
async def test_a_bad_link_is_rejected_with_its_path(app: WholeApp, event: dict[str, Any], path: str) -> None:
    answer = await app.ask("POST", "/v1/events", json={"events": [{"agent_id": SMITH, "text": "x", **event}]})
    [rejected] = answer["rejected"]
    assert rejected["code"] == "invalid_event"
    assert path in rejected["message"]


async def test_a_bad_correction_is_refused(app: WholeApp) -> None:
    unknown = "5f0c1f0e-6d0a-5d0b-9b59-0c7f6a1d2e3f"
    [own] = await app.write({"agent_id": SMITH, "text": "x", "id": "a"})
    for memory_id, params, body, path in (
        ("no-id", {"agent_id": SMITH}, {"text": "x"}, "id"),
        (unknown, {}, {"text": "x"}, "agent_id"),
        (unknown, {"agent_id": SMITH}, {"text": "x", "agent_id": "npc:baker"}, "agent_id"),
        (unknown, {"agent_id": SMITH}, {"text": "x", "supersedes": own}, "supersedes"),
        (unknown, {"agent_id": SMITH}, {"metadata": {}}, None),
        (own, {"agent_id": SMITH}, {"text": "x", "id": "a"}, "supersedes"),
    ):
        answer = await app.http.post(f"/v1/memories/{memory_id}/supersede", params=params, json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["details"].get("path") == path
    # Without a memory of that id it is accepted, and another agent's memory stays.
    params = {"agent_id": "npc:baker", "wait": "indexed"}
    answer = await app.http.put(f"/v1/memories/{own.upper()}/supersede", params=params, json={"text": "y"})
    assert answer.status_code == 200
    assert texts(await recent(app)) == ["x"]


async def test_the_client_supersedes_and_shows_what_was_known(app: WholeApp) -> None:
    async with app.client() as memories:
        first = await memories.add(SMITH, "the forge is red", event={"about": ["npc:baker"]}, wait_s=5)
        old = str(first.ids[0])
        new = await memories.supersede(old, SMITH, "the forge is blue", event={"sources": [old]}, wait_s=5)
        assert new.indexed
        page = await memories.recent(SMITH, superseded=True)
        assert [(one.supersedes, one.superseded_by) for one in page.memories] == [(old, None), (None, new.id)]
        assert [one.about for one in page.memories] == [[], ["npc:baker"]]
        assert page.memories[0].sources == [old]
        then = page.memories[1].accepted_at
        assert [one.id for one in (await memories.search(SMITH, "forge", as_of=then)).memories] == [old]
        assert "red" in (await memories.context(SMITH, "forge", as_of=then)).text
        assert [one.other for one in await memories.relations(SMITH)] == []
