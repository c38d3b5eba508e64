"""Retrieval quality of each search method on the village's questions, as a table.

python -m tests.retrieval.quality --memories 10000 [--seeds 8]
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from producers.demo import village
from producers.demo.village import Kind, Question
from tests.retrieval.played import SEED, Played, play

LATEST = {"relevance": 1, "recency": 0.3, "half_life_s": 21_600}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "keyword": {"mode": "keyword"},
    "dense": {"mode": "dense"},
    "hybrid": {"mode": "hybrid"},
    "dense, weighted": {"mode": "dense", "weights": LATEST},
    "hybrid, weighted": {"mode": "hybrid", "weights": LATEST},
}
EXACT_WORDS = "exact words"
DEPTH = 10


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Means over several questions. MRR and NDCG are those of the first ten hits."""

    queries: int
    recall_1: float
    recall_5: float
    recall_10: float
    mrr: float
    ndcg: float

    @classmethod
    def of(cls, answers: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Metrics:
        """From (ids found, ids of the answer) of each question."""
        rows = [
            (*(_recall(found, gold, k) for k in (1, 5, DEPTH)), _mrr(found, gold), _ndcg(found, gold))
            for found, gold in answers
        ]
        return cls(len(rows), *(math.fsum(column) / len(rows) for column in zip(*rows, strict=True)))

    def __str__(self) -> str:
        values = (self.recall_1, self.recall_5, self.recall_10, self.mrr, self.ndcg)
        return " | ".join([str(self.queries), *(f"{value:.3f}" for value in values)])


def _recall(found: Sequence[str], gold: Sequence[str], k: int) -> float:
    return len(set(found[:k]) & set(gold)) / len(gold)


def _mrr(found: Sequence[str], gold: Sequence[str]) -> float:
    return next((1 / rank for rank, one in enumerate(found[:DEPTH], start=1) if one in gold), 0.0)


def _ndcg(found: Sequence[str], gold: Sequence[str]) -> float:
    gains = math.fsum(
        1 / math.log2(rank + 1) for rank, one in enumerate(found[:DEPTH], start=1) if one in gold
    )
    return gains / math.fsum(1 / math.log2(rank + 1) for rank in range(1, len(gold) + 1))


def exact_questions(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, Question]]:
    """Questions in the exact words of price events: four prices of one good differ only in a number."""
    return [
        (
            EXACT_WORDS,
            Question(Kind.FACT, one["agent_id"], " ".join(one["text"].split()[3:]).strip("."), (one["id"],)),
        )
        for one in events
        if one.get("type") == "price"
    ]


async def measure(played: Played) -> dict[tuple[str, str], Metrics]:
    """Metrics by (kind of question or "all", method)."""
    queries = [(one.kind.value, one) for one in played.questions if one.gold] + exact_questions(played.events)
    table: dict[tuple[str, str], Metrics] = {}
    for method, options in METHODS.items():
        answers = [
            (
                kind,
                [found["id"] for found in await played.ask(question, **{**options, "k": DEPTH})],
                [played.ids[one] for one in question.gold],
            )
            for kind, question in queries
        ]
        for kind in dict.fromkeys(kind for kind, *_ in answers):
            table[kind, method] = Metrics.of([(found, gold) for one, found, gold in answers if one == kind])
        table["all", method] = Metrics.of([(found, gold) for _, found, gold in answers])
    return table


def markdown(table: Mapping[tuple[str, str], Metrics]) -> str:
    """The metrics as a Markdown table."""
    head = ["questions", "method", "queries", "recall@1", "recall@5", "recall@10", "MRR", "NDCG@10"]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [f"{kind} | {method} | {metrics}" for (kind, method), metrics in table.items()]
    return "\n".join(f"| {line} |" for line in lines)


def spread(tables: Sequence[Mapping[tuple[str, str], Metrics]]) -> str:
    """For all questions: mean, minimum and maximum of each metric over several villages."""
    head = ["method", "recall@1", "recall@5", "recall@10", "MRR", "NDCG@10"]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for method in METHODS:
        rows = [dataclasses.astuple(table["all", method])[1:] for table in tables]
        columns = zip(*rows, strict=True)
        cells = [f"{math.fsum(one) / len(one):.3f} ({min(one):.3f}-{max(one):.3f})" for one in columns]
        lines.append(" | ".join([method, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


async def _measure(memories: int, seed: int) -> dict[tuple[str, str], Metrics]:
    with tempfile.TemporaryDirectory() as data:
        async with play(Path(data), memories=memories, seed=seed) as played:
            return await measure(played)


async def _main(memories: int, seeds: int) -> None:
    if seeds:
        print(spread([await _measure(memories, seed) for seed in range(1, seeds + 1)]))
    else:
        print(markdown(await _measure(memories, SEED)))


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),  # only the table goes to stdout
    )
    parser = argparse.ArgumentParser(prog="python -m tests.retrieval.quality")
    smallest = len(village.events(1))
    parser.add_argument("--memories", type=int, default=smallest)
    parser.add_argument("--seeds", type=int, default=0, help="number of villages; 0: the one of the docs")
    options = parser.parse_args()
    asyncio.run(_main(options.memories, options.seeds))
