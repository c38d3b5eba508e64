"""Tables of the measured figures: by kind of question and over all, mean and spread over the seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.retrieval.bench.metrics import NAMES, Metrics

ALL = "all"
ALL_KINDS = "mean of the kinds"
_BRIEF = ("recall@5", "recall@10", "MRR")
"""What the table by kind shows."""

Table = Mapping[tuple[str, str], Metrics]
"""(kind of question, method) -> measured figures, of one seed."""


def with_totals(table: Table) -> dict[tuple[str, str], Metrics]:
    """With the rows over all questions, and over all kinds with equal weight."""
    by_method: dict[str, list[Metrics]] = {}
    for (_, method), metrics in table.items():
        by_method.setdefault(method, []).append(metrics)
    kinds = {(ALL_KINDS, method): _mean(rows, [1] * len(rows)) for method, rows in by_method.items()}
    everything = {
        (ALL, method): _mean(rows, [row.queries for row in rows]) for method, rows in by_method.items()
    }
    return {**table, **kinds, **everything}


def _mean(rows: Sequence[Metrics], weights: Sequence[int]) -> Metrics:
    columns = zip(*(row.values for row in rows), strict=True)
    means = [
        math.fsum(value * weight for value, weight in zip(column, weights, strict=True)) / sum(weights)
        for column in columns
    ]
    return Metrics(sum(row.queries for row in rows), *means)


def markdown(tables: Mapping[int, Table]) -> str:
    """Two tables: by kind with one column for each method, and the totals with their spread over the seeds."""
    rows = _by_row(tables.values())
    totals = {key: metrics for key, metrics in rows.items() if key[0] in {ALL, ALL_KINDS}}
    kinds = {key: metrics for key, metrics in rows.items() if key not in totals}
    return f"{' / '.join(_BRIEF)}:\n\n{_by_kind(kinds)}\n\n{_in_full(totals)}"


def _by_kind(rows: Mapping[tuple[str, str], Sequence[Metrics]]) -> str:
    methods = list(dict.fromkeys(method for _, method in rows))
    lines = [["questions", "number", *methods]]
    for kind in dict.fromkeys(kind for kind, _ in rows):
        number = sum(row.queries for row in rows[kind, methods[0]])
        cells = []
        for method in methods:
            measured = dict(
                zip(NAMES, zip(*(row.values for row in rows[kind, method]), strict=True), strict=True)
            )
            cells.append(" / ".join(f"{math.fsum(measured[one]) / len(measured[one]):.2f}" for one in _BRIEF))
        lines.append([kind, str(number), *cells])
    return _drawn(lines)


def _in_full(rows: Mapping[tuple[str, str], Sequence[Metrics]]) -> str:
    lines = [["questions", "method", "number", *NAMES]]
    for (kind, method), measured in rows.items():
        cells = [_cell(column) for column in zip(*(row.values for row in measured), strict=True)]
        lines.append([kind, method, str(sum(row.queries for row in measured)), *cells])
    return _drawn(lines)


def _drawn(lines: Sequence[Sequence[str]]) -> str:
    drawn = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in drawn)


def _cell(values: Sequence[float]) -> str:
    mean = f"{math.fsum(values) / len(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"


def document(tables: Mapping[int, Table]) -> list[dict[str, Any]]:
    """The figures of each seed as JSON values."""
    return [
        {"seed": seed, "kind": kind, "method": method, "number": row.queries}
        | dict(zip(NAMES, row.values, strict=True))
        for seed, table in tables.items()
        for (kind, method), row in table.items()
    ]


def _by_row(tables: Iterable[Table]) -> dict[tuple[str, str], list[Metrics]]:
    rows: dict[tuple[str, str], list[Metrics]] = {}
    for table in tables:
        for key, metrics in table.items():
            rows.setdefault(key, []).append(metrics)
    return rows
