"""docs/growth.md and docs/growth.svg from the file of `tests.load.growth`: `python -m tests.load.growth_page FILE.json`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.load.machine import busy

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/growth.md"
PLOT = ROOT / "docs/growth.svg"
MILLION = 1_000_000

ROWS: Mapping[str, str] = {
    "agents": "agents",
    "ingest_events_per_s": "events per second, until they are found",
    "ingest_cpu_ms_per_event": "CPU ms of an event",
    "disk_mib_of_log": "disk, log, MiB",
    "disk_mib_of_store": "disk, store, MiB",
    "start_s": "start, s",
    "resident_mib_after_start": "resident after the start, MiB",
    "of_which_not_files_mib": "of it not pages of files, MiB",
    "resident_mib_after_reads": "resident after the reads, MiB",
    "snapshot_s": "snapshot, s",
    "replay_events_per_s": "replay beside searches, events per second",
    "agents.cpu_ms": "list of agents, CPU ms",
    **{
        f"{agent}.{read}.cpu_ms": f"{name}: {read}, CPU ms"
        for agent, name in (("agent_of_1000", "agent of 1,000"), ("largest_agent", "largest agent"))
        for read in ("dense", "keyword", "hybrid", "context", "recent")
    },
    **{
        f"{agent}.{read}.p50_ms": f"{name}: {read}, ms (median)"
        for agent, name in (("agent_of_1000", "agent of 1,000"), ("largest_agent", "largest agent"))
        for read in ("dense", "hybrid", "context")
    },
}
LINES: Mapping[str, str] = {
    "ingest_s": "ingest",
    "disk_mib_of_store": "disk of the store",
    "resident_mib_after_start": "resident memory",
    "start_s": "start",
    "snapshot_s": "snapshot",
    "agents.cpu_ms": "list of agents",
    "largest_agent.hybrid.cpu_ms": "hybrid, an agent with a tenth of all",
    "agent_of_1000.hybrid.cpu_ms": "hybrid, an agent of 1,000",
}
AIMS: Mapping[str, tuple[str, float]] = {
    "start_s": ("start, s", 10),
    "agent_of_1000.hybrid.p50_ms": ("hybrid search, an agent of 1,000, ms (median)", 20),
    "largest_agent.hybrid.p50_ms": ("hybrid search, an agent of 100,000, ms (median)", 50),
    "resident_mib_after_reads": ("resident memory, MiB", 2048),
}
COLOURS = ("#2f6f4f", "#b5651d", "#3b5b92", "#8a2f5b", "#5b8a2f", "#92823b", "#555555", "#2f8a8a")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM, _TOP = 760, 440, 50, 270, 45, 35

Sizes = Sequence[Mapping[str, float]]


def table(sizes: Sizes) -> str:
    """All figures by size, and how they grow from the first size to the last, as Markdown."""
    heads = [f"{one['memories']:,} memories" for one in sizes]
    lines = ["| | " + " | ".join(heads) + " | exponent |", "| --- |" + " --- |" * (len(heads) + 1)]
    for figure, name in ROWS.items():
        if not any(figure in one for one in sizes):
            continue
        cells = [_number(one[figure]) if figure in one else "" for one in sizes]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {_shown_exponent(sizes, figure)} |")
    return "\n".join(lines)


def aims(sizes: Sizes) -> str:
    """What was aimed at for a million, and what was measured, or follows from the last two sizes."""
    measured = sizes[-1]["memories"] == MILLION
    lines = [
        f"| for a million memories | aim | {'measured' if measured else 'expected'} |",
        "| --- | --- | --- |",
    ]
    for figure, (name, most) in AIMS.items():
        value = sizes[-1][figure] if measured else expected(sizes, figure, MILLION)
        verdict = "" if value <= most else ": **missed**"
        lines.append(f"| {name} | at most {most:,g} | {_number(value)}{verdict} |")
    if not measured:
        lines += ["", "Expected: on the straight line through the last two sizes."]
    return "\n".join(lines)


def expected(sizes: Sizes, figure: str, memories: float) -> float:
    """The figure at another size, on the straight line through the last two."""
    before, last = sizes[-2], sizes[-1]
    slope = (last[figure] - before[figure]) / (last["memories"] - before["memories"])
    return max(last[figure], last[figure] + slope * (memories - last["memories"]))


def exponent(sizes: Sizes, figure: str) -> float | None:
    """x, if the figure grows as the x-th power of the memories: 0 stays, 1 is proportional."""
    found = [one for one in sizes if one.get(figure, 0) > 0]
    if len(found) < 2:
        return None
    first, last = found[0], found[-1]
    return math.log(last[figure] / first[figure]) / math.log(last["memories"] / first["memories"])


def about(found: Mapping[str, Any]) -> str:
    """On what and when it was measured."""
    machine = found["machine"]
    return (
        f"{found['date']}, Lorestream {found['version']}, {machine['processor']}, {machine['cores']} cores, vectors in {found.get('vectors', 'float32')}."
        f" Load average at"
        f" the end: {machine['load_average']:.1f}.{busy(machine)}"
    )


def plot(sizes: Sizes) -> str:
    """Each line as multiples of its value at the first size, both axes logarithmic; dashed: proportional."""
    first, last = sizes[0]["memories"], sizes[-1]["memories"]
    most = last / first

    def place(memories: float, times: float) -> str:
        across = (_WIDTH - _LEFT - _RIGHT) * math.log(memories / first) / math.log(most)
        up = (_HEIGHT - _TOP - _BOTTOM) * math.log(max(0.5, times) / 0.5) / math.log(2 * most)
        return f"{_LEFT + across:.1f},{_HEIGHT - _BOTTOM - up:.1f}"

    parts = [
        f'<text x="10" y="20" font-weight="bold">Growth from {first:,.0f} to {last:,.0f} memories</text>',
        f'<polyline points="{place(first, 1)} {place(last, most)}" fill="none" stroke="#9aa5b1" stroke-dasharray="5 4"/>',
    ]
    for one in sizes:
        x = place(one["memories"], 1).partition(",")[0]
        parts.append(f'<text x="{x}" y="{_HEIGHT - 20}" text-anchor="middle">{one["memories"]:,.0f}</text>')
    for power in range(math.floor(math.log10(most)) + 1):
        y = float(place(first, 10**power).partition(",")[2])
        parts += [
            f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" stroke="#e3e7eb"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{10**power:,} x</text>',
        ]
    ends: list[tuple[float, str, str]] = []
    for (figure, name), colour in zip(LINES.items(), COLOURS, strict=True):
        known = [(one["memories"], one[figure] / sizes[0][figure]) for one in sizes if one.get(figure)]
        if len(known) < len(sizes):
            continue
        points = " ".join(place(*one) for one in known)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        ends.append((float(points.rpartition(",")[2]), f"{name} ({known[-1][1]:.1f} x)", colour))
    below = 0.0
    for y, name, colour in sorted(ends):
        below = max(y, below + 16)
        parts.append(f'<text x="{_WIDTH - _RIGHT + 8}" y="{below + 4}" fill="{colour}">{name}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif"'
        f' font-size="13"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _shown_exponent(sizes: Sizes, figure: str) -> str:
    found = exponent(sizes, figure)
    return "" if found is None or figure == "agents" else f"{found:.2f}"


def _number(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f}"


def main(file: Path) -> None:
    """Write the figures into the page, and draw the plot."""
    found = json.loads(file.read_text())
    sizes = [one for one in found["sizes"] if "replay_s" in one]
    before, rest = PAGE.read_text().split("<!-- figures -->\n")
    after = rest.partition("<!-- /figures -->")[2]
    inside = f"{aims(sizes)}\n\n{table(sizes)}\n\n{about(found)}\n"
    PAGE.write_text(f"{before}<!-- figures -->\n{inside}<!-- /figures -->{after}")
    PLOT.write_text(plot(sizes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
