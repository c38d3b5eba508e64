"""Rerankers: a cross-encoder and token vectors, whose scores can be foretold, and the turns of their callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from lorestream.adapters.embedders import model_preparation
from lorestream.adapters.embedders.cross_encoder import open_cross_encoder
from lorestream.adapters.embedders.hash import HashEmbedder
from lorestream.adapters.embedders.late_interaction import max_sim
from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.adapters.embedders.reranker import CHUNK_CHARACTERS, CHUNK_TEXTS, LocalReranker
from lorestream.errors import Misconfigured, Unavailable
from tests.models import write_tiny_cross_encoder, write_tiny_model


def prepared(directory: Path, tmp_path: Path) -> Path:
    return model_preparation.prepare(str(directory), tmp_path / "models", report=print).directory


def sigmoid(number: float) -> float:
    return 1 / (1 + np.exp(-number))


async def test_a_cross_encoder_reads_query_and_text_together(tmp_path: Path) -> None:
    write_tiny_cross_encoder(tmp_path / "tiny")
    async with open_cross_encoder(prepared(tmp_path / "tiny", tmp_path)) as reranker:
        made = await reranker.scores("oak iron", ["gold", "iron", "oak \0oak iron", ""])
        long = await reranker.scores("oak", ["oak " * 100])
    assert made == pytest.approx([sigmoid(n) for n in (0, 1, 3, 0)], abs=1e-2)
    assert long == pytest.approx(
        [sigmoid(12)], abs=1e-2
    )  # 16 tokens, of which 3 are special and 1 the query's


@pytest.mark.parametrize(
    "config", [{"id2label": {"0": "no", "1": "yes"}}, {"id2label": None}, {"max_position_embeddings": None}]
)
def test_a_model_with_other_outputs_is_refused(tmp_path: Path, config: dict[str, object]) -> None:
    write_tiny_cross_encoder(tmp_path / "tiny", **config)
    with pytest.raises(Misconfigured, match="a cross-encoder that gives one number is needed"):
        prepared(tmp_path / "tiny", tmp_path)


def test_embedders_and_rerankers_are_not_confused(tmp_path: Path) -> None:
    write_tiny_cross_encoder(tmp_path / "pairs")
    write_tiny_model(tmp_path / "tiny")
    with pytest.raises(Misconfigured, match="set it as LORESTREAM_RERANKER__MODEL"):
        OpenVinoEmbedder.open(prepared(tmp_path / "pairs", tmp_path))
    with pytest.raises(Misconfigured, match="LORESTREAM_RERANKER__MODEL: tiny is an embedding model"):
        open_cross_encoder(prepared(tmp_path / "tiny", tmp_path))


def test_max_sim_is_the_mean_of_the_best_cosines() -> None:
    axes = np.eye(3, dtype=np.float32)
    assert max_sim(axes[[0, 1]], axes[[1, 2]]) == pytest.approx(0.5)
    assert max_sim(axes[[0]], -axes[[0]]) == 0.0
    assert max_sim(axes[:0], axes) == max_sim(axes, axes[:0]) == 0.0


async def test_an_embedder_compares_token_by_token(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny", prompts={"query": "gold ", "document": "water "})
    async with OpenVinoEmbedder.open(prepared(tmp_path / "tiny", tmp_path)) as embedder:
        made = await embedder.reranker.scores("oak iron", ["iron oak", "oak", "elm"])
    # gold oak iron against water ...: the words in common, without the special tokens.
    assert made == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-2)
    with pytest.raises(Unavailable, match="closed"):
        await embedder.reranker.scores("oak", ["oak"])


async def test_words_in_common_decide_for_the_hash_embedder() -> None:
    async with HashEmbedder() as embedder:
        made = await embedder.reranker.scores("an old oak", ["oak an old", "the old oak", "", "water"])
    assert made[0] == pytest.approx(1)
    assert made[0] > made[1] > made[3] > made[2] == 0


class Recorded:
    """A model that records its chunks, and works while its gate is open."""

    model_id = "recorded"

    def __init__(self) -> None:
        self.chunks: list[tuple[str, list[str]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def with_query(self, query: str) -> Callable[[Sequence[str]], Sequence[float]]:
        def compare(texts: Sequence[str]) -> Sequence[float]:
            assert self.gate.wait(30)
            self.chunks.append((query, list(texts)))
            return [1 / (1 + len(text)) for text in texts]

        return compare


async def test_scores_stand_in_the_order_of_the_texts_whatever_the_chunks() -> None:
    texts = ["x" * (n * 37 % 500) for n in range(50)]
    async with LocalReranker(model := Recorded()) as reranker:
        assert await reranker.scores("q", texts) == [1 / (1 + len(text)) for text in texts]
    sizes = [(len(chunk), len(chunk) * max(map(len, chunk))) for _, chunk in model.chunks]
    assert all(count <= CHUNK_TEXTS and (count == 1 or size <= CHUNK_CHARACTERS) for count, size in sizes)


async def test_callers_take_turns_and_one_that_leaves_stops() -> None:
    async with LocalReranker(model := Recorded()) as reranker:
        model.gate.clear()
        many = asyncio.create_task(reranker.scores("many", ["x" * 2000] * 5))
        leaver = asyncio.create_task(reranker.scores("leaver", ["y" * 2000] * 5))
        few = asyncio.create_task(reranker.scores("few", ["z"]))
        for _ in range(3):
            await asyncio.sleep(0)
        leaver.cancel()
        model.gate.set()
        assert len(await few) == 1
        assert len(await many) == 5
    order = [query for query, _ in model.chunks]
    assert order.count("many") == 5
    assert order.count("leaver") <= 1
    assert order.index("few") < len(order) - 1
