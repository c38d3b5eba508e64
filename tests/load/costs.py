"""Fits the costs of `lorestream plan` to measurements, and writes the tables of docs/scaling.md from them.

make bench BENCH_ARGS="embedding store distributed reads"
python -m tests.load.costs bench.json      # the costs that these parts measure; the others stay as they are
python -m tests.load.costs                 # only the tables
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lorestream.planning
from lorestream.planning.costs import Costs, measured_costs
from lorestream.planning.sizing import Plan, Workload, plan

COSTS = Path(lorestream.planning.__file__).with_name("costs.json")
PAGE = Path(__file__).parents[2] / "docs/scaling.md"
WORKLOADS: Mapping[str, Workload] = {
    "a village": Workload(agents=200, events_per_s=50, searches_per_s=20, servers=1),
    "ten million memories": Workload(
        agents=10_000, events_per_s=100, searches_per_s=100, servers=10, keep=1_000
    ),
    "a network": Workload(agents=20_000, events_per_s=50_000, searches_per_s=5_000, servers=200),
    "the same, 80 % of the texts seen before": Workload(
        agents=20_000, events_per_s=50_000, searches_per_s=5_000, servers=200, repeated=0.8
    ),
    "a world": Workload(
        agents=1_000_000, events_per_s=1_000_000, searches_per_s=100_000, servers=10_000, log_days=1
    ),
}


def fitted(figures: Mapping[str, Any]) -> dict[str, float]:
    """The costs that follow from the JSON file of `make bench`."""
    found: dict[str, float] = {}
    if embedding := figures.get("embedding"):
        found["model_text_ms"] = 1000 / embedding["openvino_texts_per_s_cpu"]
    if distributed := figures.get("distributed"):
        found["gateway_event_ms"] = 1000 / distributed["gateway"]["events_per_cpu_s"]
        if "model_text_ms" in found:
            beside = 1 / distributed["worker_cpu_over_bare_embedder"] - 1
            found["worker_event_ms"] = max(0.0, beside) * found["model_text_ms"]
    if reads := figures.get("reads"):
        found["query_search_ms"] = reads["one_by_one"]["hybrid"]["cpu_ms"]
        found["query_cached_ms"] = 1000 / reads["look_ups_per_cpu_s"]["lorestream"]
    if store := figures.get("store"):
        found["memory_disk_bytes"] = store["disk_bytes_per_memory_beside_text"]
    return found


def tables(costs: Costs) -> str:
    """The costs, and the plans of WORKLOADS, as Markdown."""
    lines = ["| cost | value | measured by |", "| --- | --- | --- |"]
    for name in Costs.__struct_fields__:
        one = getattr(costs, name)
        lines.append(f"| `{name}` | {_shown(one.value)} {one.unit} | {one.source} |")
    plans = {name: plan(workload, costs) for name, workload in WORKLOADS.items()}
    lines += ["", "| | " + " | ".join(plans) + " |", "| --- |" + " --- |" * len(plans)]
    rates = [
        f"{one.events_per_s:,.0f} events/s, {one.searches_per_s:,.0f} searches/s"
        for one in WORKLOADS.values()
    ]
    lines.append("| | " + " | ".join(rates) + " |")
    for number, part in enumerate(next(iter(plans.values())).parts):
        lines.append(f"| {part.name} | " + " | ".join(_cell(one, number) for one in plans.values()) + " |")
    lines.append(
        "| partitions; shards | "
        + " | ".join(f"{p.partitions:,}; {p.shards:,}" for p in plans.values())
        + " |"
    )
    firsts = [f"{one.limits[0].name}, at {one.limits[0].headroom:,.1f} times this" for one in plans.values()]
    lines.append("| first to give out | " + " | ".join(firsts) + " |")
    return "\n".join(lines)


def page(text: str, costs: Costs) -> str:
    """The text of docs/scaling.md with new tables."""
    before, rest = text.split("<!-- tables -->\n")
    _, after = rest.split("<!-- /tables -->")
    return f"{before}<!-- tables -->\n{tables(costs)}\n<!-- /tables -->{after}"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _cell(found: Plan, number: int) -> str:
    part = found.parts[number]
    disk = f", {part.disk_gb:,.0f} GB disk" if part.disk_gb >= 1 else ""
    return f"{part.count:,}: {part.cores:,.1f} cores, {part.memory_gb:,.1f} GB{disk}"


def main(arguments: list[str]) -> None:
    """Fit the costs to the file that is named, if one is, and write the page."""
    if arguments:
        costs = json.loads(COSTS.read_text())
        for name, value in fitted(json.loads(Path(arguments[0]).read_text())).items():
            costs[name]["value"] = float(f"{value:.3g}")
        COSTS.write_text(json.dumps(costs, indent=2) + "\n")
    PAGE.write_text(page(PAGE.read_text(), measured_costs()))


if __name__ == "__main__":
    main(sys.argv[1:])
