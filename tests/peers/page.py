"""docs/benchmarks.md and docs/benchmarks.svg from the file of `make bench-peers`: `python -m tests.peers.page FILE.json`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/benchmarks.md"
PLOT = ROOT / "docs/benchmarks.svg"

FIGURES: Mapping[str, str] = {
    "distinct_events_per_cpu_s": "events per CPU second, texts all different",
    "game_events_per_cpu_s": "events per CPU second, deeds of a game",
    "played_events_per_cpu_s": "events per CPU second, a recorded game",
    "cold_query_cpu_ms": "a new question, CPU ms",
    "cold_query_p50_ms": "a new question, ms (median)",
    "repeated_query_cpu_ms": "a question asked again, CPU ms",
    "repeated_query_p50_ms": "a question asked again, ms (median)",
    "recall_at_10": "recall@10",
}
NAMES: Mapping[str, str] = {
    "lorestream": "Lorestream (hybrid)",
    "lorestream, dense": "Lorestream (dense)",
    "service": "FastAPI service",
    "service + redis": "FastAPI service, Redis",
    "chroma": "Chroma",
    "langgraph": "LangGraph store",
    "mem0": "mem0",
    "mcp-memory-service": "mcp-memory-service",
}
_BAR, _ROW, _LEFT, _WIDTH = 18, 26, 190, 760


def table(figures: Mapping[str, Any]) -> str:
    """The medians, with the lowest and highest round behind those that spread by more than a tenth, as Markdown."""
    lines = ["| | " + " | ".join(FIGURES.values()) + " |", "| --- |" + " --- |" * len(FIGURES)]
    for name, found in figures["figures"].items():
        lines.append(f"| {NAMES[name]} | " + " | ".join(_cell(found[figure]) for figure in FIGURES) + " |")
    return "\n".join(lines)


def about(figures: Mapping[str, Any]) -> str:
    """On what, when and with what it was measured."""
    machine, versions = figures["machine"], figures["versions"]
    others = ", ".join(f"{name} {version}" for name, version in versions.items())
    busy = (
        ""
        if machine["noise"] < 1.1
        else f" Other programs took CPU time: a second of computing took {machine['noise']:.1f} s."
    )
    return (
        f"{figures['date']}, {machine['processor']}, {machine['cores']} cores, one thread for each contender, model in"
        f" {machine['precision']} in Lorestream, float32 in the others; {figures['rounds']} rounds of {figures['events']} events of"
        f" each kind and {figures['queries']} questions. Versions: {others}."
        f" Load average at the end: {machine['load_average']:.1f}.{busy}"
    )


def plot(figures: Mapping[str, Any]) -> str:
    """Two rows of bars: events per CPU second, and CPU time of a new question."""
    parts: list[str] = []
    top = 30
    for figure, title in (
        ("distinct_events_per_cpu_s", "Events per CPU second (all texts different): more is better"),
        ("cold_query_cpu_ms", "CPU milliseconds for a new question: less is better"),
    ):
        parts.append(f'<text x="10" y="{top}" font-weight="bold">{title}</text>')
        most = max(one[figure]["median"] for one in figures["figures"].values())
        for name, found in figures["figures"].items():
            top += _ROW
            value = found[figure]["median"]
            width = max(1.0, value / most * (_WIDTH - _LEFT - 90))
            colour = "#2f6f4f" if name.startswith("lorestream") else "#9aa5b1"
            parts += [
                f'<text x="{_LEFT - 8}" y="{top}" text-anchor="end">{NAMES[name]}</text>',
                f'<rect x="{_LEFT}" y="{top - 13}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>',
                f'<text x="{_LEFT + width + 6:.1f}" y="{top}">{_number(value)}</text>',
            ]
        top += 2 * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top - _ROW}" font-family="sans-serif"'
        f' font-size="13"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _cell(value: Mapping[str, float]) -> str:
    spread = value["most"] - value["least"] > 0.1 * abs(value["median"])
    behind = f" ({_number(value['least'])}-{_number(value['most'])})" if spread else ""
    return f"{_number(value['median'])}{behind}"


def _number(value: float) -> str:
    """With three significant digits."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f}"


def main(file: Path) -> None:
    """Write the figures into the page, and draw the plot."""
    figures = json.loads(file.read_text())
    before, rest = PAGE.read_text().split("<!-- figures -->\n")
    after = rest.partition("<!-- /figures -->")[2]
    PAGE.write_text(
        f"{before}<!-- figures -->\n{table(figures)}\n\n{about(figures)}\n<!-- /figures -->{after}"
    )
    PLOT.write_text(plot(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
