"""Fusion of two relevances, by meaning and by words, into one score. Pure functions, independent of any store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DENSE_WEIGHT = 0.6
"""The share of the cosine in a fused score; the rest is that of the words. Measured in docs/retrieval.md."""
_EQUAL_COSINE = 1 - 1e-5
"""A text with this cosine to the query is taken as equal to it. Cosines have 32 bits."""


@dataclass(frozen=True, slots=True)
class Fused:
    """A candidate's score in [0, 1]: the sum of its shares by meaning and by words. `key`: its id."""

    key: str
    dense: float
    keyword: float

    @property
    def score(self) -> float:
        """The fused score."""
        return self.dense + self.keyword


def best_words(dense: Mapping[str, float], keyword: Mapping[str, float]) -> float:
    """The BM25 score that counts as 1: the best of the candidates; 0 if none shares a word with the query.

    If a text equals the query, its BM25 counts as the best: a text that repeats a word can have more.
    """
    equal = [keyword[key] for key, cosine in dense.items() if cosine >= _EQUAL_COSINE and key in keyword]
    return max(equal or keyword.values(), default=0.0)


def fuse(
    dense: Mapping[str, float], keyword: Mapping[str, float] | None, best: float | None = None
) -> list[Fused]:
    """The candidates by falling score; equal ones in the order of `dense`.

    `dense`: the cosine of each candidate. `keyword`: the BM25 score, above 0, of those that share a word with the
    query; None if the query has no words to compare, then the cosine alone decides. `best`: the BM25 score that counts
    as 1, by default that of `best_words`.

    The score is 0.6 times the cosine, negative ones as 0, plus 0.4 times BM25 over the best.
    """
    if keyword is None:
        fused = [Fused(key, _share(cosine), 0.0) for key, cosine in dense.items()]
    else:
        best = best_words(dense, keyword) if best is None else best
        fused = [
            Fused(
                key,
                DENSE_WEIGHT * _share(cosine),
                (1 - DENSE_WEIGHT) * _share(keyword.get(key, 0.0) / best) if best > 0 else 0.0,
            )
            for key, cosine in dense.items()
        ]
    return sorted(fused, key=lambda one: one.score, reverse=True)


def _share(value: float) -> float:
    return max(0.0, min(1.0, value))
