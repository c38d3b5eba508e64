"""How unevenly the events of agents spread over partitions, where some agents have many more events than others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEEDS = 3


def agent_shares(agents: int, skew: float, most: float = 1.0) -> NDArray[np.float64]:
    """The share of each agent in all events, the busiest first: Zipf's law with the exponent `skew`, 0 = all equal.

    No agent has more than `most`; what that cuts off, the others have. All are equal where that is not enough.
    """
    if most * agents <= 1:
        return np.full(agents, 1 / agents)
    shares = np.arange(1, agents + 1, dtype=np.float64) ** -skew
    shares /= shares.sum()
    while shares[0] > most * (1 + 1e-9):
        capped = shares >= most
        shares[capped] = most
        shares[~capped] *= (1 - most * capped.sum()) / shares[~capped].sum()
    return shares


def partition_shares(shares: NDArray[np.float64], partitions: int, seed: int) -> NDArray[np.float64]:
    """The share of each partition in all events, if a hash spreads the agents over them."""
    chosen = np.random.default_rng(seed).integers(0, partitions, len(shares))
    return np.bincount(chosen, weights=shares, minlength=partitions).astype(np.float64)


def busiest_share(shares: NDArray[np.float64], partitions: int, workers: int) -> float:
    """The share of the busiest worker in all events, the largest of SEEDS random placements of the agents.

    Each worker has partitions one `workers` apart, so their numbers differ by at most one.
    """
    worker = np.arange(partitions) % workers
    return max(
        float(np.bincount(worker, weights=partition_shares(shares, partitions, seed)).max())
        for seed in range(SEEDS)
    )
