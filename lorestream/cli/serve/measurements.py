"""Reads the values of this process's own metrics."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorestream.http.operator_schemas import Timing

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.samples import Sample


class Measurements:
    """The samples of a registry as of now."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._samples = defaultdict[str, list["Sample"]](list)
        for family in registry.collect():
            for sample in family.samples:
                self._samples[sample.name].append(sample)

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels; 0 without one."""
        return sum(sample.value for sample in self._samples[name] if labels.items() <= sample.labels.items())

    def timings(self, histogram: str, label: str | None, stage: str = "") -> list[Timing]:
        """The durations of each value of `label`, summed over all other labels; without a label, of all as `stage`."""
        buckets = defaultdict[str, dict[float, float]](lambda: defaultdict(float))
        sums, counts = defaultdict[str, float](float), defaultdict[str, float](float)

        def name_of(sample: Sample) -> str:
            return stage if label is None else sample.labels[label]

        for sample in self._samples[f"{histogram}_bucket"]:
            buckets[name_of(sample)][float(sample.labels["le"])] += sample.value
        for sample in self._samples[f"{histogram}_sum"]:
            sums[name_of(sample)] += sample.value
        for sample in self._samples[f"{histogram}_count"]:
            counts[name_of(sample)] += sample.value
        return [
            Timing(
                name,
                int(counts[name]),
                sums[name],
                quantile(0.5, sorted(bounds.items())),
                quantile(0.95, sorted(bounds.items())),
                [
                    (None if bound == math.inf else bound, int(below))
                    for bound, below in sorted(bounds.items())
                ],
            )
            for name, bounds in buckets.items()
        ]


def quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """The value below which this share of the observations lies, as Prometheus' histogram_quantile estimates it.

    `buckets`: upper bound and number of observations at or below it, by bound. None without observations; the highest
    finite bound where it lies above that.
    """
    if not buckets or buckets[-1][1] == 0:
        return None
    wanted = share * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, cumulative in buckets:
        if cumulative >= wanted:
            if bound == math.inf:
                return lower
            return lower + (bound - lower) * (wanted - below) / (cumulative - below)
        lower, below = bound, cumulative
    return lower
