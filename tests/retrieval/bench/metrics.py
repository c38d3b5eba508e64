"""Measures of one search method: recall, reciprocal rank and discounted gain of the gold events."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

DEPTH = 10
"""How many hits are asked for and judged."""
NAMES = ("recall@1", "recall@5", "recall@10", "MRR", "NDCG@10")


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
        """From (ids found, ids of the gold events) of each question."""
        rows = [
            (*(_recall(found, gold, k) for k in (1, 5, DEPTH)), _mrr(found, gold), _ndcg(found, gold))
            for found, gold in answers
        ]
        return cls(len(rows), *(math.fsum(column) / len(rows) for column in zip(*rows, strict=True)))

    @property
    def values(self) -> tuple[float, ...]:
        """The measures in the order of NAMES."""
        return (self.recall_1, self.recall_5, self.recall_10, self.mrr, self.ndcg)


def _recall(found: Sequence[str], gold: Sequence[str], k: int) -> float:
    return len(set(found[:k]) & set(gold)) / len(gold)


def _mrr(found: Sequence[str], gold: Sequence[str]) -> float:
    return next((1 / rank for rank, one in enumerate(found[:DEPTH], start=1) if one in gold), 0.0)


def _ndcg(found: Sequence[str], gold: Sequence[str]) -> float:
    gains = math.fsum(
        1 / math.log2(rank + 1) for rank, one in enumerate(found[:DEPTH], start=1) if one in gold
    )
    return gains / math.fsum(1 / math.log2(rank + 1) for rank in range(1, min(len(gold), DEPTH) + 1))
