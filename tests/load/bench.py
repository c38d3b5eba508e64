"""`make bench`: every figure that Lorestream promises, measured here, as a table and as JSON.

A benchmark and not a test: it fails only when it cannot measure. Ratios are taken within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lorestream.adapters.embedders.openvino_network import cpu_flags, precision
from tests.load.batches import measure_batches
from tests.load.distributed import measure_distributed, measure_limit
from tests.load.embedding import measure_embedding
from tests.load.gateway import measure_gateway
from tests.load.reads import MODES, measure_reads
from tests.load.state import measure_state
from tests.load.store import measure_store
from tests.load.system import measure_system
from tests.luanti.cost import measure_mod

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Aim:
    """What a figure should be: at least, or at most."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    def __str__(self) -> str:
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"


def _parts(data: Path) -> dict[str, tuple[Callable[[], dict[str, Any]], tuple[Aim, ...]]]:
    return {
        "embedding": (
            measure_embedding,
            (
                Aim("texts_ratio_cpu", at_least=2.5 if precision(cpu_flags()) == "bf16" else 1.0),
                Aim("query_ratio_cpu", at_most=0.5),
                Aim("min_cosine", at_least=0.999),
                Aim("top10_kept", at_least=0.98),
            ),
        ),
        "store": (
            measure_store,
            (Aim("search_p50_ms", at_most=1), Aim("disk_bytes_per_memory_beside_text", at_most=4096)),
        ),
        "gateway": (measure_gateway, (Aim("events_per_cpu_s", at_least=10_000),)),
        "system": (
            lambda: measure_system(data),
            (
                Aim("ready_s", at_most=5),
                Aim("stop_s", at_most=5),
                Aim("pipeline_over_bare_embedder", at_least=0.9),
                Aim("visible_p99_below_s", at_most=1),
                Aim("get_cached_p50_ms", at_most=1),
                Aim("get_uncached_p99_ms", at_most=20),
            ),
        ),
        "distributed": (
            lambda: measure_distributed(data),
            (
                Aim("gateway.events_per_cpu_s", at_least=10_000),
                Aim("worker_cpu_over_bare_embedder", at_least=0.9),
                Aim("lost", at_most=0),
                Aim("differences_from_the_log", at_most=0),
            ),
        ),
        "limit": (
            lambda: measure_limit(data),
            (Aim("lost", at_most=0), Aim("differences_from_the_log", at_most=0)),
        ),
        "batches": (lambda: measure_batches(data), ()),
        "reads": (
            lambda: measure_reads(data),
            (
                *(
                    aim
                    for mode in MODES
                    for aim in (
                        Aim(f"quiet.{mode}.cached_p50_ms", at_most=1),
                        Aim(f"over_bare.{mode}.quiet_uncached_p99_ms", at_most=1.5),
                        Aim(f"over_bare.{mode}.ingesting_uncached_p99_ms", at_most=2),
                        Aim(f"over_bare.{mode}.quiet_cached_p99_ms", at_most=3),
                    )
                ),
                Aim("over_fastapi", at_least=4),
            ),
        ),
        "state": (measure_state, (Aim("over_memories.records", at_least=10),)),
        "mod": (
            measure_mod,
            (
                Aim("capture_us_mean", at_most=50),
                Aim("step_cpu_ms_max", at_most=1),
                Aim("step_ms_max_undisturbed", at_most=1),
                Aim("outage.step_cpu_ms_max", at_most=1),
                Aim("full.step_cpu_ms_max", at_most=1),
            ),
        ),
    }


def _rows(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        rows += _rows(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return rows


def _absolute(path: str) -> Path:
    """The processes that are measured have working directories of their own."""
    return Path(path).absolute()


def main() -> None:
    """Measure the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        help="embedding store gateway system distributed limit batches reads state mod (default: all)",
    )
    parser.add_argument("--json", type=Path, default=ROOT / "bench.json", help="where the figures go")
    parser.add_argument("--data", type=_absolute, default=ROOT / "data", help="where the prepared model lies")
    options = parser.parse_args()
    parts = _parts(options.data)
    figures: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "processor": platform.processor()}}
    console = Console()
    for name in options.parts or parts:
        measure, aims = parts[name]
        with console.status(f"measuring {name}"):
            figures[name] = measure()
        table = Table("figure", "value", "aim", "", title=name, title_justify="left")
        by_figure = {aim.figure: aim for aim in aims}
        for figure, value in _rows(figures[name]):
            aim = by_figure.get(figure)
            shown = f"{value:,.3f}" if isinstance(value, float) else str(value)
            verdict = "" if aim is None else ("[green]met[/]" if aim.met(value) else "[red]missed[/]")
            table.add_row(figure, shown, "" if aim is None else str(aim), verdict)
        console.print(table)
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {options.json}")


if __name__ == "__main__":
    main()
