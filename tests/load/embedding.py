"""The embedder that serves against sentence-transformers, on the same texts with the same number of threads.

CPU seconds are compared, because others may share the machine; rounds alternate, and the median counts.
Run alone: `python -m tests.load.embedding`.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from lorestream.adapters.embedders.model_preparation import find_source
from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.adapters.embedders.openvino_network import cpu_flags, precision
from lorestream.ports import Priority
from tests.models import REAL_MODEL, real_model
from tests.sentences import game_sentences
from tests.vectors import cosines, neighbours_kept

REFERENCE_BATCH = 64


def measure_embedding(
    *, texts: int = 512, queries: int = 64, rounds: int = 4, threads: int = 1
) -> dict[str, Any]:
    """Texts per CPU second and CPU milliseconds per cold query of both, and how near their vectors are.

    With more than one thread torch's and OpenVINO's waiting threads burn CPU time too: then look at `_wall`.
    """
    sentences, questions = game_sentences(texts, seed=11), game_sentences(queries, seed=12)
    reference = _reference(threads)
    with asyncio.Runner() as runner:
        embedder = OpenVinoEmbedder.open(real_model().directory, threads=threads, cache_entries=0)

        def serve(batch: list[str]) -> np.ndarray:
            return runner.run(embedder.embed(batch)).vectors

        async def ask() -> None:
            for question in questions:
                await embedder.embed([question], Priority.QUERY)

        contenders: dict[str, Callable[[], Any]] = {
            "openvino": lambda: serve(sentences),
            "reference": lambda: reference(sentences),
            "openvino_query": lambda: runner.run(ask()),
            "reference_query": lambda: [reference([question]) for question in questions],
        }
        cpu: dict[str, list[float]] = {name: [] for name in contenders}
        wall: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(rounds + 1):
            for name, run in contenders.items():
                began, began_wall = time.process_time(), time.perf_counter()
                run()
                if number:  # the first round warms up
                    cpu[name].append(time.process_time() - began)
                    wall[name].append(time.perf_counter() - began_wall)
        made, wanted = serve(sentences), reference(sentences)
        runner.run(embedder.close())
    return (
        figures_of(cpu, "cpu", texts, queries)
        | figures_of(wall, "wall", texts, queries)
        | {
            "precision": precision(cpu_flags()),
            "threads": threads,
            "texts": texts,
            "target_texts_ratio": 2.5 if precision(cpu_flags()) == "bf16" else 1.0,
            "target_query_ratio": 0.5,
            "min_cosine": round(float(cosines(wanted, made).min()), 6),
            "top10_kept": round(neighbours_kept(wanted, made), 4),
        }
    )


def figures_of(seconds: dict[str, list[float]], clock: str, texts: int, queries: int) -> dict[str, float]:
    """The figures of one clock. `seconds`: of each round, by what was measured."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        f"openvino_texts_per_s_{clock}": round(texts / median["openvino"], 1),
        f"reference_texts_per_s_{clock}": round(texts / median["reference"], 1),
        f"texts_ratio_{clock}": round(median["reference"] / median["openvino"], 2),
        f"openvino_query_ms_{clock}": round(1000 * median["openvino_query"] / queries, 2),
        f"reference_query_ms_{clock}": round(1000 * median["reference_query"] / queries, 2),
        f"query_ratio_{clock}": round(median["openvino_query"] / median["reference_query"], 2),
    }


def _reference(threads: int) -> Callable[[list[str]], np.ndarray]:
    """sentence-transformers as one uses it: fp32, batches of 64, sorted by length by itself."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with warnings.catch_warnings(action="ignore"):
        import torch  # noqa: PLC0415
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from transformers.utils import logging  # noqa: PLC0415

        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        source = find_source(REAL_MODEL, report=lambda _: None)
        model = SentenceTransformer(str(source.directory), device="cpu", local_files_only=True)

    def encode(batch: list[str]) -> np.ndarray:
        return model.encode(
            batch, batch_size=REFERENCE_BATCH, normalize_embeddings=True, show_progress_bar=False
        )

    return encode


if __name__ == "__main__":
    print(json.dumps(measure_embedding(), indent=2))
