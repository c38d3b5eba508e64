"""Neighbours: what stands next to a relevant memory is found too, and only that."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_service.neighbours import lift
from tests.retrieval.reader import NOW, Reader, open_reader

QUESTION = "Hilda: who forged the iron crown?"
ANSWER = "Odo: my grandmother did, before the flood."


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    async with open_reader(tmp_path) as opened:
        yield opened


async def chat(
    reader: Reader, conversation: str | None = "inn", *, start: float = NOW - 5000, **fields: Any
) -> None:
    """Five lines, the question in the middle, one every 20 s."""
    for n, text in enumerate(["Odo: good day.", "Hilda: rain again.", QUESTION, ANSWER, "Hilda: I see."]):
        talk = {} if conversation is None else {"metadata": {"conversation": conversation}}
        await reader.remember(
            text, event_id=f"{conversation} {start} {n}", at=start + 20 * n, **talk, **fields
        )


async def scores(reader: Reader, **body: Any) -> dict[str, float]:
    found = await reader.search("who forged the iron crown", **{"k": 50, "mode": "hybrid", **body})
    return {one["text"]: one["score"] for one in found["memories"]}


@pytest.mark.parametrize("conversation", ["inn", None])
async def test_the_answer_next_to_the_question_is_lifted(reader: Reader, conversation: str | None) -> None:
    await chat(reader, conversation)
    for n in range(30):
        await reader.remember(f"dug a hole, the {n}th", at=NOW - 100_000 + 1000 * n, type="dig")
    plain, lifted = await scores(reader, neighbours=0), await scores(reader, neighbours=0.5)
    assert next(iter(lifted)) == QUESTION
    assert lifted[ANSWER] == pytest.approx(
        plain[ANSWER] + 0.5 * plain[QUESTION] * (1 - plain[ANSWER]), abs=1e-6
    )
    assert ANSWER in list(lifted)[:5]
    assert await scores(reader) == lifted  # the default of the settings
    assert all(lifted[text] == score for text, score in plain.items() if text.startswith("dug"))


@pytest.mark.parametrize("mode", ["dense", "keyword", "hybrid"])
async def test_the_parts_add_up_and_a_short_answer_begins_a_long_one(reader: Reader, mode: str) -> None:
    await chat(reader)
    for n in range(40):
        await reader.remember(f"iron of the {n}th crown", at=NOW - 4000 + 7 * n)
    body = {"mode": mode, "neighbours": 0.7, "explain": True}
    longest = (await reader.search("who forged the iron crown", k=100, **body))["memories"]
    for one in longest:
        assert math.fsum(one["score_details"].values()) == pytest.approx(one["score"], abs=1e-9)
        assert "neighbours" in one["score_details"]
    for k in (1, 5, 10, 11, 30):
        shorter = (await reader.search("who forged the iron crown", k=k, **body))["memories"]
        assert shorter == longest[:k]


async def test_another_occasion_is_not_next_to_it(reader: Reader) -> None:
    await chat(reader, "inn")
    await reader.remember("the tide", at=NOW - 5000 + 41)
    await reader.remember("a crow", at=NOW - 5000 + 42, metadata={"conversation": "market"})
    await reader.remember("the late one", at=NOW - 4000, metadata={"conversation": "inn"})
    plain, lifted = await scores(reader, neighbours=0), await scores(reader, neighbours=1)
    assert lifted[ANSWER] > plain.get(ANSWER, 0.0)
    assert [lifted.get(text) for text in ("the tide", "a crow")] == [
        plain.get("the tide"),
        plain.get("a crow"),
    ]


async def test_filters_spheres_and_scopes_hold_for_neighbours(reader: Reader) -> None:
    await chat(reader, None, pos={"x": 1.0})
    await reader.remember("whisper", at=NOW - 5000 + 45, type="secret", pos={"x": 1.0})
    await reader.remember("far away", at=NOW - 5000 + 46, pos={"x": 900.0})
    await reader.remember("of another", at=NOW - 5000 + 44, agent="b")
    filtered = await scores(
        reader, neighbours=1, filters={"NOT": {"type": "secret"}}, near={"x": 0, "radius": 10}
    )
    assert ANSWER in filtered
    assert {"whisper", "far away", "of another"}.isdisjoint(filtered)
    both = await reader.search(QUESTION, agent_ids=["a", "b"], k=20, neighbours=1)
    assert {one["agent_id"] for one in both["memories"]} == {"a", "b"}


async def test_weights_rank_the_lifted_relevance(reader: Reader) -> None:
    await chat(reader)
    body = {"mode": "hybrid", "weights": {"relevance": 1, "recency": 0.1}, "explain": True}
    found = (await reader.search("who forged the iron crown", k=20, **body, neighbours=0.9))["memories"]
    plain = (await reader.search("who forged the iron crown", k=20, **body, neighbours=0))["memories"]
    parts = [
        {one["text"]: one["score_details"]["relevance"] for one in memories}[ANSWER]
        for memories in (found, plain)
    ]
    assert parts[0] > parts[1]


async def test_a_context_uses_what_the_budget_has_left_for_neighbours(reader: Reader) -> None:
    await chat(reader, start=NOW - 90_000)
    for n in range(3):
        await reader.remember(f"newest {n}", at=NOW - 10 + n)
    path, body = "/v1/agents/a/context", {"query": QUESTION, "relevant": 1, "recent": 2, "neighbours": 0.5}
    context = (await reader.post(path, body)).json()
    assert [one["text"] for one in context["neighbours"]] == [ANSWER, "Hilda: rain again.", "Hilda: I see."]
    assert [one["text"] for one in context["recent"]] == ["newest 2", "newest 1"]
    shown = [one["text"] for part in ("recent", "relevant", "neighbours") for one in context[part]]
    assert len(context["text"].splitlines()) == len(shown) == len(set(shown))
    small = (await reader.post(path, {**body, "token_budget": context["tokens"] - 1})).json()
    assert len(small["relevant"]) == 1
    assert len(small["recent"]) == 2
    assert len(small["neighbours"]) < 3
    assert (await reader.post(path, {**body, "neighbours": 0})).json()["neighbours"] == []


@given(
    own=st.lists(st.floats(-1, 1), min_size=1, max_size=8),
    strength=st.floats(0, 1),
    pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12),
)
def test_a_lifted_score_stays_in_its_range(
    own: list[float], strength: float, pairs: list[tuple[int, int]]
) -> None:
    scores = {("a", str(n)): one for n, one in enumerate(own)}
    lifts = lift(scores, [(("a", str(one)), ("a", str(other))) for one, other in pairs], strength)
    assert lifts.keys() == scores.keys()
    for key, score in scores.items():
        assert lifts[key] >= 0
        assert score + lifts[key] <= max(1.0, score) + 1e-12
        assert score < 1 or lifts[key] == 0
