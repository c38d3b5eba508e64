"""Why a search returns a memory, or does not; and how many memories are where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lorestream.identity import memory_id
from lorestream.limits import MAX_K
from lorestream.tokens import token
from query_service import aggregates, places
from tests.parts import put
from tests.retrieval.reader import NOW, Reader, open_reader


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    async with open_reader(tmp_path) as opened:
        yield opened


def id_of(event_id: str, agent: str = "a") -> str:
    return memory_id("default", "s", agent, event_id)


async def explained(reader: Reader, event_id: str, **body: Any) -> dict[str, Any]:
    answer = await reader.post("/v1/memories/explain", {"agent_id": "a", "id": id_of(event_id), **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def codes(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(reason["code"], reason["path"]) for reason in answer["reasons"]]


async def fill(reader: Reader) -> None:
    for number in range(8):
        await reader.remember(
            f"pine tree {'pine ' * number} {number}",
            event_id=f"{number}",
            type="dig" if number % 2 else "note",
            pos={"x": 10.0 * number, "y": 0.0, "z": 0.0},
            importance=number,
            data={"zone": "north" if number < 4 else "south"},
        )
    await reader.remember("gold in the river", event_id="gold", type="note")


SEARCHES: list[dict[str, Any]] = [
    {"query": "pine tree 3", "mode": "hybrid"},
    {"query": "pine tree 3", "mode": "dense", "weights": {"relevance": 1, "importance": 1}},
    {"query": "pine tree 3", "mode": "keyword"},
    {"query": "pine tree 3", "near": {"x": 30, "radius": 25}},
    {"weights": {"importance": 1}},
    {},
]


async def test_ranks_and_scores_are_those_of_the_search(reader: Reader) -> None:
    await fill(reader)
    for search in SEARCHES:
        found = (await reader.search(**{"query": None, **search}, k=100, explain=True))["memories"]
        assert found
        for place, memory in enumerate(found):
            body = {"agent_id": "a", **search, "id": memory["id"], "k": 3}
            answer = (await reader.post("/v1/memories/explain", body)).json()
            assert (answer["rank"], answer["found"], answer["ranked"]) == (place + 1, place < 3, len(found))
            assert answer["memory"]["score"] == pytest.approx(memory["score"])
            assert answer["memory"]["score_details"] == pytest.approx(memory["score_details"])
            assert answer["last_score"] == pytest.approx(found[min(2, len(found) - 1)]["score"])
            assert codes(answer) == ([] if place < 3 else [("rank", "k")]), search


async def test_every_reason_names_its_field(reader: Reader) -> None:
    await fill(reader)
    filters = {"zone": "north", "type": ["dig", "chat"], "importance": {"gte": 0}}
    assert codes(await explained(reader, "6", query="pine", filters=filters)) == [
        ("filters", "filters.zone"),
        ("filters", "filters.type"),
    ]
    assert codes(await explained(reader, "1", query="pine", filters={"NOT": {"zone": "north"}})) == [
        ("filters", "filters.NOT")
    ]
    far = await explained(reader, "6", query="pine", near={"x": 0, "radius": 25})
    assert codes(far) == [("near", "near")]
    assert "60.0 nodes away" in far["reasons"][0]["message"]
    assert codes(await explained(reader, "gold", query="pine", near={"x": 0, "radius": 25})) == [
        ("near", "near")
    ]
    by_words = await explained(reader, "gold", query="pine", mode="keyword")
    assert (codes(by_words), by_words["rank"]) == ([("not_ranked", "query")], None)
    low = await explained(reader, "gold", query="pine tree", min_score=0.5, k=100)
    assert (low["found"], codes(low)) == (False, [("min_score", "min_score")])
    assert low["memory"]["score"] < 0.5


async def test_a_record_is_in_no_search_by_meaning(reader: Reader) -> None:
    await reader.remember("worth 3", event_id="r", type="reward", recall=False)
    assert codes(await explained(reader, "r", query="worth 3")) == [("record", "query")]


async def test_an_explanation_tells_whether_the_write_was_waited_for(reader: Reader) -> None:
    await reader.remember("gold in the river", event_id="gold")
    for after, fresh in ((None, True), (token({0: 7}), False)):
        assert (await explained(reader, "gold", query="gold", after=after, wait_ms=0))["fresh"] is fresh


async def test_unknown_memories_and_whole_tenants_are_refused(reader: Reader) -> None:
    await fill(reader)
    await reader.remember("theirs", event_id="t", agent="b")
    for asked in (id_of("t", "b"), "nonsense"):
        answer = await reader.post("/v1/memories/explain", {"agent_id": "a", "query": "x", "id": asked})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    for body, path in (
        ({"scope": "tenant", "query": "x", "id": "i"}, "scope"),
        ({"agent_id": "a", "query": "x"}, "id"),
        ({"agent_id": "a", "query": "x", "id": "i", "filters": {"a": {"near": 1}}}, "filters.a.near"),
    ):
        answer = await reader.post("/v1/memories/explain", body)
        assert (answer.status_code, answer.json()["error"]["details"].get("path")) == (400, path)


async def located(reader: Reader, **body: Any) -> dict[str, Any]:
    answer = await reader.post("/v1/memories/places", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_memories_are_counted_where_they_are(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"places": [], "cells": 0, "total": 0, "bounds": None}
    assert await located(reader, agent_id="a") == nowhere
    spots = [(-0.5, 4, 0), (15.9, 5, 15.9), (0, 60, 0), (16, 5, -16)]
    for number, (x, y, z) in enumerate(spots):
        pos = {"x": float(x), "y": float(y), "z": float(z)}
        await reader.remember(f"{number}", pos=pos, type="dig", timestamp=NOW - 100 + number)
    await reader.remember("no position")
    await reader.remember("no height", pos={"x": 0.0, "z": 0.0}, agent="b", timestamp=NOW - 50)
    found = await located(reader, agent_id="a")
    assert found == {
        "places": [
            {"x": 0, "z": 0, "count": 2, "newest": NOW - 98},
            {"x": -16, "z": 0, "count": 1, "newest": NOW - 100},
            {"x": 16, "z": -16, "count": 1, "newest": NOW - 97},
        ],
        "cells": 3,
        "total": 4,
        "bounds": {"x": [-0.5, 16], "y": [4, 60], "z": [-16, 15.9]},
    }
    assert (await located(reader, agent_id="a", y_from=4, y_to=5))["total"] == 3
    assert (await located(reader, agent_id="a", since=NOW - 98, type="dig"))["total"] == 2
    assert (await located(reader, agent_id="a", cell=1000, filters={"type": "chat"})) == nowhere
    assert (await located(reader, agent_ids=["a", "b"]))["total"] == 5
    assert (await located(reader, scope="tenant"))["places"][0]["count"] == 3
    monkeypatch.setattr(places, "MAX_PLACES", 1)
    shown = await located(reader, agent_id="a")
    assert (len(shown["places"]), shown["cells"], shown["total"]) == (1, 3, 4)
    monkeypatch.setattr(aggregates, "MAX_RECORDS", 3)
    refused = await reader.post("/v1/memories/places", {"agent_id": "a"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "too_many_records")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "agent_id"),
        ({"agent_id": "a", "scope": "tenant"}, "scope"),
        ({"agent_id": "a", "cell": 0}, "cell"),
        ({"agent_id": "a", "y_from": 2, "y_to": 1}, "y_to"),
        ({"agent_id": "a", "near": {"x": 1, "radius": 2}}, "near"),
    ],
)
async def test_wrong_requests_for_places_name_the_field(
    reader: Reader, body: dict[str, Any], path: str
) -> None:
    answer = await reader.post("/v1/memories/places", body)
    assert (answer.status_code, answer.json()["error"]["details"].get("path")) == (400, path)


async def test_a_hybrid_search_is_explained_with_its_own_lists(reader: Reader) -> None:
    """A search by meaning ranks all of these; the lists that a hybrid one joins end before the last of them."""
    await reader.write(
        *(put(f"pine {'tree ' * (number + 1)}", event_id=f"{number}", at=NOW - 1) for number in range(220))
    )
    by_meaning = await explained(reader, "219", query="pine", mode="dense")
    assert (by_meaning["ranked"], codes(by_meaning)) == (220, [("rank", "k")])
    hybrid = await explained(reader, "219", query="pine", mode="hybrid")
    assert (hybrid["ranked"], codes(hybrid)) == (MAX_K, [("not_ranked", "query")])
