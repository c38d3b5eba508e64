"""The search routes: their results."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.identity import memory_id
from lorestream.tokens import token
from lorestream.wiring import Runtime
from tests.parts import open_parts, put
from tests.retrieval.reader import NOW, Reader, over

SEARCH = "/v1/memories/search"


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_parts(tmp_path) as opened:
        yield opened


@pytest.fixture
async def reader(runtime: Runtime) -> AsyncIterator[Reader]:
    async with over(runtime) as opened:
        yield opened


async def test_a_search_returns_all_fields_of_a_memory(reader: Reader) -> None:
    ann = reader.runtime.pseudonyms.player("default", "ann")
    await reader.remember(
        "I dug a pine",
        event_id="e",
        at=NOW - 5,
        timestamp=NOW - 9,
        type="dig",
        data={"node": "pine", "count": 2},
        metadata={"count": 3},
        pos={"x": 1.0, "y": 2.0, "z": 3.5},
        tick=77.0,
        importance=8.0,
        player=ann,
        expires_at=NOW + 50,
    )
    answer = await reader.search("I dug a pine", explain=True)
    took_ms = answer.pop("took_ms")
    [memory] = answer.pop("memories")
    assert answer == {"cache": "miss", "fresh": True}
    assert took_ms > 0
    assert memory.pop("score") == pytest.approx(1)
    parts = {"dense": pytest.approx(0.6), "keyword": pytest.approx(0.4), "neighbours": 0}
    assert memory.pop("score_details") == parts
    assert memory == {
        "id": memory_id("default", "s", "a", "e"),
        "agent_id": "a",
        "text": "I dug a pine",
        "type": "dig",
        "metadata": {"node": "pine", "count": 3},
        "pos": {"x": 1.0, "y": 2.0, "z": 3.5},
        "tick": 77,
        "timestamp": NOW - 9,
        "importance": 8,
        "server": "s",
        "player": ann,
        "accepted_at": NOW - 5,
        "expires_at": NOW + 50,
        "truncated": False,
    }


async def test_score_details_need_explain(reader: Reader) -> None:
    await reader.remember("one")
    [memory] = (await reader.search("one"))["memories"]
    assert "score_details" not in memory


async def test_at_most_k_the_best_first(reader: Reader) -> None:
    for number in range(9):
        await reader.remember(f"text {number}")
    found = (await reader.search("text 4", k=3.0))["memories"]
    assert found[0]["text"] == "text 4"
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    assert len(found) == 3
    assert len((await reader.search("text 4"))["memories"]) == 5


async def test_equal_scores_are_sorted_newest_first(reader: Reader) -> None:
    for age in (3, 1, 2):
        await reader.remember("the same", event_id=f"{age}", at=NOW - age)
    found = (await reader.search("the same"))["memories"]
    assert [NOW - one["timestamp"] for one in found] == [1, 2, 3]


async def test_without_a_query_the_newest_come_first_with_score_1(reader: Reader) -> None:
    for age in (3, 1, 2):
        await reader.remember(f"{age}", at=NOW - age)
    answer = await reader.search(k=2, explain=True)
    assert [one["text"] for one in answer["memories"]] == ["1", "2"]
    assert [one["score"] for one in answer["memories"]] == [1, 1]
    assert answer["memories"][0]["score_details"] == {}


async def test_null_is_the_same_as_a_missing_field(reader: Reader) -> None:
    await reader.remember("one")
    names = [
        "agent_ids",
        "scope",
        "k",
        "filters",
        "near",
        "mode",
        "weights",
        "min_score",
        "explain",
        "after",
        "wait_ms",
    ]
    assert await reader.texts("one", **dict.fromkeys(names)) == ["one"]


async def test_an_unknown_agent_has_no_memories(reader: Reader) -> None:
    assert await reader.texts("anything") == []


async def test_min_score_excludes_lower_scores(reader: Reader) -> None:
    await reader.remember("one", at=NOW - 2000)
    await reader.remember("two")
    assert await reader.texts("one", min_score=0.5) == ["one"]
    assert await reader.texts("one", min_score=1.5) == []
    assert await reader.texts(min_score=1) == ["two", "one"]
    assert await reader.texts(min_score=1.5) == []


async def test_filters_by_plain_names(reader: Reader) -> None:
    player = reader.runtime.pseudonyms.player
    await reader.remember("by ann", player=player("default", "ann"), type="dig", data={"node": "pine"})
    await reader.remember("by bob", player=player("default", "bob"), type="dig")
    assert await reader.texts(filters={"player": "ann"}) == ["by ann"]
    assert await reader.texts("by", filters={"player": {"ne": "ann"}, "type": "dig"}) == ["by bob"]
    assert await reader.texts(filters={"metadata.node": {"contains": "pin"}}) == ["by ann"]
    assert await reader.texts(filters={"NOT": {"player": ["ann", "bob"]}}) == []


async def test_a_search_covers_exactly_its_scope(reader: Reader) -> None:
    for agent in ("a", "b", "c"):
        await reader.remember(f"of {agent}", agent=agent)
    await reader.remember("foreign", tenant="other")
    assert sorted(await reader.texts("of")) == ["of a"]
    answer = await reader.search("of", agent_ids=["a", "c"])
    assert sorted(one["text"] for one in answer["memories"]) == ["of a", "of c"]
    assert answer["cache"] == "off"
    answer = await reader.search("of", scope="tenant")
    assert sorted(one["text"] for one in answer["memories"]) == ["of a", "of b", "of c"]
    assert answer["cache"] == "off"


async def test_agent_ids_are_returned_as_the_caller_wrote_them(reader: Reader) -> None:
    stored, _ = reader.runtime.pseudonyms.agent("default", "npc:player:ann")
    await reader.remember("mine", agent=stored)
    for scope in ({"agent_id": "npc:player:ann"}, {"agent_ids": ["b", "npc:player:ann"]}):
        [memory] = (await reader.search("mine", **scope))["memories"]
        assert memory["agent_id"] == "npc:player:ann"
    [memory] = (await reader.search("mine", scope="tenant"))["memories"]
    assert memory["agent_id"] == stored
    [memory] = (await reader.search("mine", agent_id=stored))["memories"]
    assert memory["agent_id"] == stored
    page = await reader.get(f"/v1/agents/{quote('npc:player:ann')}/memories")
    assert page["memories"][0]["agent_id"] == "npc:player:ann"
    one = await reader.get(f"/v1/memories/{memory['id']}", agent_id="npc:player:ann")
    assert one["agent_id"] == "npc:player:ann"
    assert (await reader.get("/v1/agents"))["agents"] == [{"agent_id": stored, "total": 1}]


async def test_near_compares_the_exact_distance_in_the_given_coordinates(reader: Reader) -> None:
    await reader.remember("corner", pos={"x": 9.0, "y": 0.0, "z": 9.0})
    await reader.remember("rim", pos={"x": 10.0, "y": 99.0, "z": 0.0})
    await reader.remember("flat", pos={"x": 1.0})
    await reader.remember("nowhere")
    circle = {"x": 0, "z": 0, "radius": 10}
    assert await reader.texts(near=circle) == ["rim"]
    assert await reader.texts("corner", near=circle) == ["rim"]
    assert sorted(await reader.texts(near={"x": 0, "radius": 9.5})) == ["corner", "flat"]
    assert await reader.texts(near={**circle, "y": 0}) == []


async def test_k_memories_are_found_in_a_sphere_among_many_outside(reader: Reader) -> None:
    await reader.write(
        *(put("same", event_id=f"out {n}", at=NOW - n / 100, pos={"x": 9.0, "z": 9.0}) for n in range(300)),
        *(put("same", event_id=f"in {n}", at=NOW - 100 - n, pos={"x": 1.0, "z": 1.0}) for n in range(4)),
    )
    for query in (None, "same"):
        found = (await reader.search(query, k=4, near={"x": 0, "z": 0, "radius": 10}))["memories"]
        assert [one["timestamp"] for one in found] == [NOW - 100 - n for n in range(4)]


async def test_a_weighted_score_is_the_mean_of_its_parts(reader: Reader) -> None:
    await reader.remember("old but vital", at=NOW - 86_400, importance=10.0)
    await reader.remember("new and dull", importance=0.0)
    weights = {"relevance": 2, "recency": 1, "importance": 4, "half_life_s": 43_200}
    for memory in (await reader.search("new and dull", weights=weights, explain=True))["memories"]:
        parts = memory["score_details"]
        mean = (2 * parts["relevance"] + parts["recency"] + 4 * parts["importance"]) / 7
        assert memory["score"] == pytest.approx(mean)
        expected = 0.25 if memory["text"] == "old but vital" else 0.5 ** (1 / 43_200)
        assert parts["recency"] == pytest.approx(expected)
    assert await reader.texts(weights={"importance": 1}) == ["old but vital", "new and dull"]
    assert await reader.texts(weights={"recency": 1}) == ["new and dull", "old but vital"]
    assert await reader.texts(weights={"relevance": 1}) == ["new and dull", "old but vital"]
    assert await reader.texts("new and dull", weights=weights, min_score=0.9) == []


@pytest.mark.parametrize(
    "weights", [{"recency": 1e308, "importance": 1e308}, {"recency": 5e-324, "half_life_s": 5e-324}]
)
async def test_extreme_weights_give_finite_scores(reader: Reader, weights: dict[str, float]) -> None:
    await reader.remember("ancient", at=NOW - 1, timestamp=-1e300)
    await reader.remember("new")
    scores = [one["score"] for one in (await reader.search("new", weights=weights))["memories"]]
    assert all(0 <= score <= 1 for score in scores)
    assert len(scores) == 2


_huge = st.floats(min_value=0, allow_infinity=False) | st.sampled_from([-0.0, 5e-324, 1.7e308, 1.0])
_near_or_far = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, NOW, 1e308])
_weights = st.fixed_dictionaries(
    {},
    optional={
        "relevance": _huge,
        "recency": _huge,
        "importance": _huge,
        "half_life_s": st.floats(min_value=5e-324, allow_infinity=False) | st.just(1.7e308),
    },
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    weights=_weights | st.none(),
    times=st.lists(_near_or_far, min_size=2, max_size=3),
    now=st.floats(0, 1e10),
    asked=st.booleans(),
    min_score=st.none() | _near_or_far,
)
async def test_scores_equal_their_parts_for_any_search(  # noqa: PLR0917 (Hypothesis gives them)
    reader: Reader,
    weights: dict[str, float] | None,
    times: list[float],
    now: float,
    asked: bool,
    min_score: float | None,
) -> None:
    agent = uuid.uuid4().hex
    for n, at in enumerate(times):
        await reader.remember(f"text {n}", agent=agent, timestamp=at, importance=(0.0, -0.0, 10.0)[n])
    reader.clock.time = now
    query = {"query": "text 1"} if asked else {}
    body = {"agent_id": agent, "weights": weights, "min_score": min_score, "explain": True, **query}
    answer = await reader.post(SEARCH, body)
    weigh = {"relevance": 1.0, "recency": 0.0, "importance": 0.0, **(weights or {})}
    if weights is not None and not any(weigh[name] for name in ("relevance", "recency", "importance")):
        assert answer.status_code == 400
        return
    assert answer.status_code == 200, answer.text
    memories = answer.json()["memories"]
    scores = [one["score"] for one in memories]
    assert scores == sorted(scores, reverse=True)
    assert min_score is not None or len(memories) == len(times)
    for one in memories:
        parts = {name: Fraction(part) for name, part in one["score_details"].items()}
        if weights is None:
            assert one["score"] == pytest.approx(float(sum(parts.values())) if asked else 1.0, abs=1e-12)
            continue
        assert all(0 <= part <= 1 for part in parts.values())
        named = {name: Fraction(weigh[name]) for name in parts}
        # Parts without a weight count 0; without any weight all scores are 1.
        mean = sum(named[name] * parts[name] for name in parts) / sum(named.values()) if parts else 1
        assert one["score"] == pytest.approx(float(mean), abs=1e-12)


async def test_fresh_is_whether_the_write_was_indexed(reader: Reader) -> None:
    assert (await reader.search("x", after=token({0: 7}), wait_ms=0))["fresh"] is False
    await reader.runtime.collections.current.publisher.publish({0: 8})
    assert (await reader.search("x", after=token({0: 7}), wait_ms=0))["fresh"] is True


async def test_put_is_accepted_like_post(reader: Reader) -> None:
    await reader.remember("one")
    answer = await reader.client.put(SEARCH, json={"agent_id": "a", "query": "one"})
    assert [one["text"] for one in answer.json()["memories"]] == ["one"]


async def test_each_search_of_a_batch_is_answered_or_rejected_on_its_own(reader: Reader) -> None:
    await reader.remember("one")
    searches = [
        {"agent_id": "a", "query": "one"},
        {"agent_id": "a", "filters": {"type": {"eqq": 1}}},
        {"agent_id": "b", "query": "one"},
        3,
        {"agent_id": "a", "query": "one", "k": 0},
    ]
    answer = await reader.post(f"{SEARCH}/batch", {"searches": searches})
    assert answer.status_code == 200
    first, second, third, fourth, fifth = answer.json()["results"]
    assert first["memories"][0]["text"] == "one"
    assert second["error"]["details"]["path"] == "filters.type.eqq"
    assert third["memories"] == []
    assert fourth["error"]["code"] == "invalid_request"
    assert fifth["error"]["details"]["path"] == "k"


async def test_the_older_form_returns_its_five_fields(reader: Reader) -> None:
    stored, _ = reader.runtime.pseudonyms.agent("default", "player:ann")
    await reader.remember("one", agent=stored, data={"n": 1}, at=NOW - 4)
    for query in ({"query": "one"}, {"query_text": "one"}):
        body = {"agent_id": "player:ann", "k": 1, "filters": {"n": 1}, **query}
        answer = await reader.post("/memory/get", body)
        [memory] = answer.json()["memories"]
        assert memory.pop("score") == pytest.approx(1)
        assert memory == {
            "agent_id": "player:ann",
            "text": "one",
            "metadata": {"n": 1},
            "timestamp": NOW - 4,
        }
        assert answer.json().keys() == {"memories"}
