"""Searches by words and by both, through the service: fused scores, weights, places, what stays hidden."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lorestream.memories import Erasure, SubjectKind
from tests.parts import put
from tests.retrieval.reader import NOW, Reader, open_reader


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    async with open_reader(tmp_path) as opened:
        yield opened


def details(memory: dict[str, Any]) -> dict[str, float]:
    return memory["score_details"]


async def test_results_of_each_mode(reader: Reader) -> None:
    for text in ("oak tree", "the weather is fine", "old oak"):
        await reader.remember(text)
    assert await reader.texts("weather", mode="keyword") == ["the weather is fine"]
    assert len(await reader.texts("weather", mode="dense")) == 3
    [first, *others] = (await reader.search("weather", mode="hybrid", explain=True))["memories"]
    assert (first["text"], len(others)) == ("the weather is fine", 2)
    assert details(first)["keyword"] == 0.4
    assert all(details(one)["keyword"] == 0 for one in others)


async def test_keyword_scores_are_explained_and_compared_with_min_score(reader: Reader) -> None:
    for text in ("oak oak oak", "oak and elm", "elm"):
        await reader.remember(text)
    found = (await reader.search("oak", mode="keyword", explain=True))["memories"]
    assert [one["text"] for one in found] == ["oak oak oak", "oak and elm"]
    assert [details(one) for one in found] == [{"relevance": one["score"]} for one in found]
    least = found[0]["score"]
    assert await reader.texts("oak", mode="keyword", min_score=least) == ["oak oak oak"]
    assert await reader.texts("oak and elm", mode="hybrid", min_score=1) == ["oak and elm"]


async def test_blend_of_fused_scores(reader: Reader) -> None:
    await reader.remember("oak tree", at=NOW - 10_000, importance=1)
    await reader.remember("oak", at=NOW, importance=9)
    weights = {"relevance": 1, "recency": 3, "importance": 1, "half_life_s": 5000}
    found = (await reader.search("oak tree", mode="hybrid", weights=weights, explain=True))["memories"]
    assert [one["text"] for one in found] == ["oak", "oak tree"]
    assert details(found[1]) == {"relevance": 1.0, "recency": 0.25, "importance": 0.1}
    for one in found:
        parts = details(one)
        mean = (parts["relevance"] + 3 * parts["recency"] + parts["importance"]) / 5
        assert one["score"] == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("mode", ["keyword", "hybrid", "dense"])
async def test_near_is_a_sphere_in_every_mode(reader: Reader, mode: str) -> None:
    for n in range(30):
        await reader.remember(f"oak {n}", pos={"x": float(n), "y": float(n), "z": 0.0})
    near = {"x": 0, "y": 0, "radius": 7.1}  # the box holds 8, the sphere 6
    found = await reader.texts("oak", mode=mode, near=near, k=20)
    assert set(found) == {f"oak {n}" for n in range(6)}
    blend = {} if mode == "keyword" else {"weights": {"recency": 1}}
    assert len(await reader.texts("oak", mode=mode, near=near, k=5, **blend)) == 5
    assert len(await reader.texts("oak", mode=mode, near=near, k=8, **blend)) == 6


@pytest.mark.parametrize(
    "how",
    [
        {"mode": "keyword"},
        {"mode": "hybrid"},
        {"mode": "dense"},
        {"mode": "hybrid", "weights": {"recency": 1}},
        {"mode": "dense", "weights": {"recency": 1}},
    ],
)
async def test_erased_memories_still_in_the_store_do_not_count_in_k(
    reader: Reader, how: dict[str, Any]
) -> None:
    for n in range(20):
        await reader.remember(f"oak {n}", at=NOW - n)
    erasure = Erasure("e", "default", SubjectKind.AGENT, ("a",), NOW - 10)
    await reader.runtime.ledger.add(erasure)
    assert set(await reader.texts("oak", k=12, **how)) == {f"oak {n}" for n in range(10)}
    assert len(await reader.texts("oak", k=9, **how)) == 9


async def test_keyword_mode_does_not_embed(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    await reader.remember("oak")

    async def embed(*_: object, **__: object) -> None:
        raise AssertionError("nobody needs it")

    monkeypatch.setattr(type(reader.recall.embedder), "embed", embed)
    assert await reader.texts("oak", mode="keyword") == ["oak"]
    body = {"searches": [{"agent_id": "a", "query": "oak tree", "mode": "keyword"}]}
    [answer] = (await reader.post("/v1/memories/search/batch", body)).json()["results"]
    assert len(answer["memories"]) == 1


async def test_blends_in_the_engine_equal_blends_in_the_service(reader: Reader) -> None:
    for n in range(40):
        await reader.remember(f"oak {n % 7}", event_id=f"e{n}", at=NOW - 40 * n, importance=n % 11)
    weights = {"relevance": 1, "recency": 2, "importance": 0.5, "half_life_s": 600}
    whole = {"x": 0, "radius": 1e9}  # a sphere is ranked in the service
    for n in range(40):
        await reader.remember(
            f"elm {n % 7}", event_id=f"p{n}", at=NOW - 39 * n, importance=n % 10, pos={"x": 1.0}
        )
    only = {"filters": {"pos.x": {"exists": True}}}
    in_engine = (await reader.search("elm 3", weights=weights, k=10, explain=True, **only))["memories"]
    in_service = (await reader.search("elm 3", weights=weights, k=10, explain=True, near=whole))["memories"]
    assert [one["id"] for one in in_engine] == [one["id"] for one in in_service]
    for one, other in zip(in_engine, in_service, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)
        assert details(one) == pytest.approx(details(other), abs=1e-6)


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
async def test_normalised_relevance_reaches_from_0_to_1(reader: Reader, mode: str) -> None:
    for n, text in enumerate(("old oak by the mill", "elm", "ash", "fir")):
        await reader.remember(text, at=NOW - 10_000 + 1000 * n)
    weights = {"relevance": 1, "recency": 0.5, "half_life_s": 5000}
    for normalise in (False, True):
        how = {**weights, "normalise": normalise}
        found = (await reader.search("oak mill", mode=mode, weights=how, explain=True))["memories"]
        relevances = [details(one)["relevance"] for one in found]
        assert ((min(relevances), max(relevances)) == (0, 1)) is normalise
        for one in found:
            parts = details(one)
            assert one["score"] == pytest.approx((parts["relevance"] + 0.5 * parts["recency"]) / 1.5)


HOWS: list[dict[str, Any]] = [
    {},
    {"mode": "keyword"},
    {"mode": "dense"},
    {"min_score": 0.3},
    {"filters": {"type": "even"}},
    {"filters": {"n": {"gte": 20}}},
    {"near": {"x": 60, "radius": 50}},
    {"weights": {"recency": 0.4, "half_life_s": 50}},
    {"weights": {"importance": 0.5, "normalise": True}},
    {"mode": "dense", "weights": {"recency": 0.4, "half_life_s": 50, "normalise": True}},
    {"near": {"x": 60, "radius": 50}, "weights": {"recency": 0.2}},
]


async def test_a_small_k_is_the_beginning_of_a_larger_one(reader: Reader) -> None:
    words = ("iron", "coal", "gold", "tin", "stone", "wood", "near", "the lake")
    await reader.write(
        *(
            put(
                f"sold {words[n % 7]} and {words[n * n % 8]}",
                event_id=f"e{n}",
                at=NOW - 1 - n % 50,
                type="even" if n % 2 else "odd",
                importance=n % 11,
                pos={"x": float(n)},
                data={"n": n % 40},
            )
            for n in range(130)
        )
    )
    for how in HOWS:
        longest = [one["id"] for one in (await reader.search("iron near the lake", k=100, **how))["memories"]]
        assert len(longest) > 3
        for k in (1, 5, 25):
            found = (await reader.search("iron near the lake", k=k, **how))["memories"]
            assert [one["id"] for one in found] == longest[:k], how
