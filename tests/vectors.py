"""Measures of the similarity of two sets of vectors."""

from __future__ import annotations

import numpy as np


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine similarity of each pair of rows, shape (n,). The rows must have length 1."""
    return np.sum(left.astype(np.float64) * right, axis=1)


def neighbours_kept(reference: np.ndarray, other: np.ndarray, k: int = 10) -> float:
    """Mean share of the k nearest neighbours of a row in `reference` that are also its k nearest in `other`."""

    def nearest(vectors: np.ndarray) -> np.ndarray:
        similar = vectors @ vectors.T
        np.fill_diagonal(similar, -np.inf)
        return np.argsort(-similar, axis=1)[:, :k]

    pairs = zip(nearest(reference), nearest(other), strict=True)
    return float(np.mean([len(np.intersect1d(left, right)) / k for left, right in pairs]))
