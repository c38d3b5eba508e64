"""How near two sets of vectors are to each other."""

from __future__ import annotations

import numpy as np


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Row by row, for rows of length 1."""
    return np.sum(left.astype(np.float64) * right, axis=1)


def neighbours_kept(reference: np.ndarray, other: np.ndarray, k: int = 10) -> float:
    """The share of each row's k nearest others that stay among its k nearest."""

    def nearest(vectors: np.ndarray) -> np.ndarray:
        similar = vectors @ vectors.T
        np.fill_diagonal(similar, -np.inf)
        return np.argsort(-similar, axis=1)[:, :k]

    pairs = zip(nearest(reference), nearest(other), strict=True)
    return float(np.mean([len(np.intersect1d(left, right)) / k for left, right in pairs]))
