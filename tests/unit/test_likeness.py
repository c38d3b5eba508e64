"""The map of memories by their likeness: its projection, and the route."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from query_service.likeness import project
from tests.whole_app import open_app


def test_the_first_two_directions_of_the_spread_are_kept() -> None:
    rng = np.random.default_rng(7)
    basis = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    true = rng.normal(size=(300, 2)) * (3.0, 1.0)
    vectors = (true @ basis[:2] + 0.01 * rng.normal(size=(300, 16)) + 5.0).astype(np.float32)
    places, (first, second) = project(list(vectors))
    centred = true - true.mean(axis=0)
    for axis in (0, 1):
        assert abs(np.corrcoef(places[:, axis], centred[:, axis])[0, 1]) > 0.95
    assert first > second > 0
    assert first + second == pytest.approx(1.0, abs=0.01)
    assert np.allclose(project(list(vectors))[0], places)


def test_the_axes_are_those_of_the_exact_decomposition() -> None:
    rng = np.random.default_rng(8)
    vectors = (rng.normal(size=(700, 40)) * np.linspace(3, 0.5, 40)).astype(np.float32)
    places, explained = project(list(vectors))
    centred = vectors - vectors.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    exact = centred @ axes[:2].T
    assert np.allclose(np.abs(places), np.abs(exact), atol=0.02 * np.abs(exact).max())
    assert np.allclose(explained, (lengths**2)[:2] / (lengths**2).sum(), rtol=0.01)


@pytest.mark.parametrize("vectors", [[], [[1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]] * 3])
def test_without_a_spread_all_lie_at_the_origin(vectors: list[list[float]]) -> None:
    places, explained = project([np.array(one, np.float32) for one in vectors])
    assert places.tolist() == [[0.0, 0.0]] * len(vectors)
    assert explained == (0.0, 0.0)


def test_two_vectors_lie_on_one_axis() -> None:
    places, explained = project([np.array([1, 0], np.float32), np.array([0, 1], np.float32)])
    assert np.allclose(np.abs(places[:, 0]), 2**-0.5)
    assert np.allclose(places[:, 1], 0)
    assert explained == (pytest.approx(1.0), pytest.approx(0.0))


async def test_equal_texts_share_a_place_and_the_filters_hold(tmp_path: Path) -> None:
    async with open_app(tmp_path) as app:
        texts = ["pine trees", "pine trees", "iron ore", "a wolf howled"]
        await app.write(
            *(
                {"agent_id": f"npc:{n % 2}", "type": "see", "text": text, "time": 1000.0 + n}
                for n, text in enumerate(texts)
            ),
            {"agent_id": "npc:0", "type": "dig", "text": "dug a hole " + "x" * 300, "time": 2000.0},
            {"agent_id": "npc:0", "type": "message", "text": "not embedded", "recall": False},
        )
        whole = await app.ask("POST", "/v1/memories/likeness", json={"scope": "tenant"})
        assert [one["text"][:10] for one in whole["points"]] == [
            "dug a hole",
            "a wolf how",
            "iron ore",
            "pine trees",
            "pine trees",
        ]
        assert len(whole["points"][0]["text"]) == 160
        assert whole["total"] == 5
        pines = [(one["x"], one["y"]) for one in whole["points"][3:]]
        assert pines[0] == pines[1] != (whole["points"][0]["x"], whole["points"][0]["y"])
        assert 0 < whole["explained"][1] <= whole["explained"][0] < 1

        seen = {"agent_id": "npc:0", "type": "see", "since": 1001.0}
        [ore] = (await app.ask("POST", "/v1/memories/likeness", json=seen))["points"]
        assert (ore["agent_id"], ore["text"], ore["timestamp"]) == ("npc:0", "iron ore", 1002.0)
        two = await app.ask(
            "POST", "/v1/memories/likeness", json={"agent_ids": ["npc:0", "npc:1"], "limit": 2.0}
        )
        assert (len(two["points"]), two["total"]) == (2, 5)
        assert (await app.ask("POST", "/v1/memories/likeness", json={"agent_id": "nobody"}))["points"] == []

        for wrong in (
            {},
            {"agent_id": "a", "scope": "tenant"},
            {"agent_id": "a", "limit": 5001},
            {"agent": "a"},
        ):
            answer = await app.http.post("/v1/memories/likeness", json=wrong)
            assert answer.status_code == 400, wrong
