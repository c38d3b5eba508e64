"""A second look at the best candidates: scores, deadline, refusals; through the service with the hash embedder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.adapters.embedders import model_preparation
from lorestream.cli.doctor import checks
from lorestream.cli.doctor.checks import Verdict
from lorestream.errors import ModelMissing, Unavailable
from query_service.ranking import Ranked
from query_service.rerank import RERANK_WEIGHT, Reranking, rescored
from tests.contracts.stored import memory
from tests.models import write_tiny_cross_encoder
from tests.parts import open_parts
from tests.retrieval.reader import NOW, Reader, over

MODES = ("dense", "hybrid", "keyword")


class Given:
    """A reranker whose scores are given by text; it fails or hangs on demand."""

    model_id = "given"

    def __init__(self, scores: dict[str, float], error: Exception | None = None) -> None:
        self._scores = scores
        self.error = error
        self.hangs = False
        self.calls: list[Sequence[str]] = []

    async def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        self.calls.append(texts)
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        return [self._scores.get(text, 0.0) for text in texts]


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    async with open_parts(tmp_path) as runtime, over(runtime) as opened:
        yield opened


def order(found: dict[str, Any]) -> list[str]:
    return [one["text"] for one in found["memories"]]


# --- the stage -------------------------------------------------------------------------------------------


@given(
    first=st.lists(st.floats(-1, 1), min_size=1, max_size=12),
    scores=st.lists(st.floats(0, 1), max_size=8),
)
def test_parts_add_up_and_what_was_not_compared_stays_behind(first: list[float], scores: list[float]) -> None:
    first = sorted(first, reverse=True)
    scores = scores[: len(first)]
    one = memory("text")
    found = rescored(
        [Ranked(one, score, {"dense": score / 2, "keyword": score / 2}) for score in first], scores
    )
    for ranked in found:
        assert sum(ranked.details.values()) == pytest.approx(ranked.score, abs=1e-9)
        assert -1 <= ranked.score <= 1
    compared, others = found[: len(scores)], found[len(scores) :]
    assert [one.score for one in others] == sorted((one.score for one in others), reverse=True)
    if compared and others:
        assert min(one.score for one in compared) >= others[0].score
    if scores:
        assert max(one.details["rerank"] for one in compared) == RERANK_WEIGHT


# --- through the service ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_the_second_look_orders_the_best_anew(reader: Reader, mode: str) -> None:
    texts = [f"oak {'and elm ' * n}" for n in range(5)]
    for text in texts:
        await reader.remember(text)
    reader.recall.reranking = Reranking(Given({texts[4]: 0.9, texts[2]: 0.5}))
    plain = await reader.search("oak", mode=mode, k=5)
    found = await reader.search("oak", mode=mode, k=5, rerank=True, explain=True)
    assert order(found)[0] == texts[4] != order(plain)[0]
    for one in found["memories"]:
        assert sum(one["score_details"].values()) == pytest.approx(one["score"], abs=1e-9)
        assert "rerank" in one["score_details"]
    assert order(await reader.search("oak", mode=mode, k=2, rerank=True)) == order(found)[:2]
    least = found["memories"][1]["score"]
    assert len(order(await reader.search("oak", mode=mode, rerank=True, min_score=least))) == 2


@pytest.mark.parametrize("mode", MODES)
async def test_a_short_answer_is_the_beginning_of_a_long_one(reader: Reader, mode: str) -> None:
    for n in range(80):
        await reader.remember(f"oak {n % 7} {n % 5} tree", event_id=str(n), at=NOW - n)
    answers = [await reader.search("oak 3 tree 2", mode=mode, k=k, rerank=True) for k in (3, 49, 51, 100)]
    ids = [[one["id"] for one in answer["memories"]] for answer in answers]
    assert len(ids[-1]) == 80
    assert all(some == ids[-1][: len(some)] for some in ids)
    assert len(ids[1]) == 49


async def test_weights_blend_what_the_second_look_found(reader: Reader) -> None:
    for n, text in enumerate(["oak", "oak and elm"]):
        await reader.remember(text, at=NOW - 10_000 * n)
    reader.recall.reranking = Reranking(Given({"oak and elm": 1.0}))
    weights = {"relevance": 1, "recency": 0.1}
    assert order(await reader.search("oak", rerank=True, weights=weights))[0] == "oak and elm"
    near = await reader.search(
        "oak", rerank=True, weights={"relevance": 0.01, "recency": 1, "half_life_s": 1}
    )
    assert order(near)[0] == "oak"


@pytest.mark.parametrize("error", [None, Unavailable("the model failed")])
async def test_the_first_order_stands_after_the_deadline_or_a_failure(
    reader: Reader, error: Exception | None
) -> None:
    for text in ("oak", "oak and elm", "oak and elm and ash"):
        await reader.remember(text)
    plain = await reader.search("oak", explain=True)
    slow = Given({"oak and elm": 1.0}, error)
    slow.hangs = error is None
    reader.recall.reranking = Reranking(slow, timeout_s=0.01)
    found = await reader.search("oak", rerank=True, explain=True)
    assert found["memories"] == plain["memories"]
    # It is not kept: the next search tries again.
    slow.hangs, slow.error = False, None
    reader.recall.reranking = Reranking(slow, timeout_s=60)
    again = await reader.search("oak", rerank=True, explain=True)
    assert (again["cache"], order(again)[0]) == ("miss", "oak and elm")
    assert (await reader.search("oak", rerank=True, explain=True))["cache"] == "hit"


async def test_a_cross_encoder_is_chosen_by_the_settings(tmp_path: Path) -> None:
    write_tiny_cross_encoder(tmp_path / "tiny")
    made = model_preparation.prepare(str(tmp_path / "tiny"), tmp_path / "models", report=print)
    assert checks.reranker(str(made.directory), tmp_path).verdict is Verdict.OK
    async with (
        open_parts(tmp_path, reranker={"model": str(made.directory)}) as runtime,
        over(runtime) as reader,
    ):
        assert made.model_id.encode() in reader.recall.reranking.identity
        for n, text in enumerate(["gold", "water", "iron oak"]):
            await reader.remember(text, event_id=str(n))
        found = await reader.search("oak iron", mode="dense", rerank=True, explain=True)
        assert order(found)[0] == "iron oak"
        assert [one["score_details"]["rerank"] > 0 for one in found["memories"]].count(True) == 1
    with pytest.raises(ModelMissing, match=r"run `lorestream model prepare people/none`"):
        async with open_parts(tmp_path, models_dir=tmp_path, reranker={"model": "people/none"}):
            pass
    assert checks.reranker("people/none", tmp_path).fix == "lorestream model prepare people/none"


async def test_without_reranker_or_query_it_is_refused(reader: Reader) -> None:
    await reader.remember("oak")
    answer = await reader.post("/v1/memories/search", {"agent_id": "a", "rerank": True})
    assert (answer.status_code, answer.json()["error"]["details"]) == (400, {"path": "rerank"})
    reader.recall.reranking = Reranking(None)
    answer = await reader.post("/v1/memories/search", {"agent_id": "a", "query": "oak", "rerank": True})
    assert answer.status_code == 400
    assert "LORESTREAM_RERANKER__MODEL" in answer.json()["error"]["message"]
    batch = {"searches": [{"agent_id": "a", "query": "oak", "rerank": flag} for flag in (True, False)]}
    results = (await reader.post("/v1/memories/search/batch", batch)).json()["results"]
    assert ["error" in one for one in results] == [True, False]
