"""The figures of all plays as a table in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.luanti.bench.arenas import Arena, Metric
from tests.luanti.bench.play import Counted

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


@dataclass(frozen=True)
class Spread:
    """Mean, median, least and greatest of the plays."""

    mean: float
    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        """The median with its spread."""
        return f"{_short(self.median)} ({_short(self.least)}..{_short(self.greatest)})"


@dataclass(frozen=True)
class Row:
    """One figure of an arena, with and without memories."""

    arena: Arena
    metric: Metric
    remembering: Spread
    forgetting: Spread

    @property
    def times(self) -> str:
        """The mean with memories in units of the mean without."""
        base = self.forgetting.mean
        return f"{self.remembering.mean / base:.2f}" if base else "-"

    @property
    def reached(self) -> bool:
        """Whether the aim is met, by the means."""
        return self.metric.reached(self.remembering.mean, self.forgetting.mean)


def rows(
    arena: Arena, remembering: Sequence[Counted], forgetting: Sequence[Counted], seconds: float
) -> list[Row]:
    """The rows of an arena from its runs with and without memories; `seconds` of one play, all phases together."""
    return [
        Row(arena, metric, _spread(metric, remembering, seconds), _spread(metric, forgetting, seconds))
        for metric in arena.metrics
    ]


def table(measured: Sequence[Row]) -> str:
    """The table; the figures are medians (least..greatest)."""
    lines = [
        "| who | figure | with memories | without | times | aim | |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    lines += [
        f"| {row.arena.title} | {row.metric.title} | {row.remembering} | {row.forgetting} | {row.times}"
        f" | {row.metric.words()} | {'reached' if row.reached else '**missed**'} |"
        for row in measured
    ]
    return "\n".join(lines)


def inserted(text: str, measured: str) -> str:
    """The text with what is measured between its two marks. Raises ValueError if it has none."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the file has no lines {BEGIN} and {END} for the table")
    return f"{before}{BEGIN}\n{measured}\n{END}{after}"


def _spread(metric: Metric, runs: Sequence[Counted], seconds: float) -> Spread:
    found = [metric.value(counted, seconds) for run in runs for counted in run.values()]
    values = [value for value in found if value is not None] or [0.0]
    return Spread(statistics.fmean(values), statistics.median(values), min(values), max(values))


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
