"""The figures of a report as Markdown, for docs/reliability.md: `python -m tests.soak.figures REPORT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def table(report: dict[str, Any]) -> str:
    """A table of the report."""
    sent, store, heal, faults = report["sent"], report["store"], report["heal_s"], report["faults"]
    wrong = ", ".join(f"{store[name]} {name}" for name in ("lost", "doubled", "foreign", "undead", "changed"))
    others = ", ".join(
        f"{kind}: {count}" for kind, count in faults.items() if kind not in {"kill", "cut", "freeze"}
    )
    rows = {
        "date, machine": f"{report['date']}, {report['machine']}",
        "duration": f"{report['seconds']['in all']} s",
        "events accepted": f"{sent['events']:,}, with {sent.get('retries', 0):,} retried requests"
        f" and {sent.get('repeated', 0):,} events repeated on purpose",
        "deletions, erasures": f"{sent.get('deletions', 0):,}, {sent.get('erasures', 0):,}",
        "records in the log": f"{sum(report['log'].values()):,}",
        "kills": f"{faults.get('kill', 0)} ({_counts(report['killed'])})",
        "partitions": f"{faults.get('cut', 0)} links cut, {faults.get('freeze', 0)} processes frozen",
        "other faults": others,
        "processes that ended by themselves": _counts(report["restarted by themselves"]) or "none",
        "memories at the end": f"{store['memories']:,}: {wrong}",
        "time to heal": f"median {heal['p50']} s, 95 % {heal['p95']} s, longest {heal['max']} s",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
