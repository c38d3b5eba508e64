"""Draws docs/structure.svg: the layers of the code and the imports between them. Run by `make pictures`.

The rows are the import rules in pyproject.toml (import-linter's layers), from the outside in: a package may import only
what is in a lower row. The arrows are the imports that the code really has, as grimp finds them. An arrow that follows
from others (A to C where A to B and B to C exist) is left out. The same rules and imports give the same file, byte by
byte; `--check` compares it with the file that is there and exits with 1 if they differ.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grimp

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "structure.svg"
PACKAGE = "lorestream"
ADAPTERS = "adapters"
APART = ("client", "compat", "langgraph")
"""Modules of the client install: the rules keep them free of the server."""

WIDTH, MARGIN, GAP = 1180, 20, 16
BOX_H, ROW_H = 40, 84
INNER_H, INNER_ROW_H = 34, 58
LABEL_W, SIDE_W = 150, 160

Rows = list[list[str]]
Boxes = dict[str, tuple[float, float, float, float]]
"""The left edge, top, width and height of each box, by the name of its package."""

STYLE = """
  text { font: 14px sans-serif; fill: #1d2733 } .row { font-size: 12px; fill: #66717f }
  .title { font-size: 18px; font-weight: bold } .box { fill: #ffffff; stroke: #2f6f9f; stroke-width: 1.4 }
  .service { fill: #e4f1e4; stroke: #3b7d3b } .adapter { fill: #fdf3e1; stroke: #b27a1c }
  .side { fill: #f0f1f4; stroke: #8b95a3 } .frame { fill: #fffaf1; stroke: #b27a1c; stroke-dasharray: 5 4 }
  .line { fill: none; stroke: #5b7fa3; stroke-width: 1.3; stroke-opacity: .75; marker-end: url(#head) }
"""


def main() -> int:
    """Write the picture, or with `--check` compare it. Returns the exit code."""
    picture = draw(rules(ROOT / "pyproject.toml"), imports())
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(picture, encoding="utf-8")
        return 0
    if PICTURE.read_text(encoding="utf-8") == picture:
        return 0
    sys.stderr.write(
        "docs/structure.svg does not show the present imports: run `make pictures` and commit the file\n"
    )
    return 1


def rules(pyproject: Path) -> Mapping[str, Rows]:
    """Of each container with layers: its rows of module names, the outermost first. "" holds the services."""
    contracts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    found: dict[str, Rows] = {}
    for contract in contracts:
        if contract["type"] == "layers":
            for container in contract.get("containers", [""]):
                found[container] = [_names(layer) for layer in contract["layers"]]
    return found


def _names(layer: str) -> list[str]:
    return [name.strip() for name in layer.replace(":", "|").split("|")]


def imports() -> Mapping[str, set[str]]:
    """The imports between the boxes of the picture: for each box, those that it imports."""
    graph: Any = grimp.build_graph(PACKAGE, "producers", "stream_workers", "query_service", cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        targets = found.setdefault(_box(module), set())
        targets |= {_box(imported) for imported in graph.find_modules_directly_imported_by(module)}
    return {box: targets - {box} for box, targets in found.items()}


def _box(module: str) -> str:
    parts = module.split(".")
    if parts[0] != PACKAGE or len(parts) == 1:
        return parts[0]
    return ".".join(parts[1:3]) if parts[1] == ADAPTERS else parts[1]


def draw(layers: Mapping[str, Rows], targets: Mapping[str, set[str]]) -> str:
    """The picture as SVG."""
    services = layers[""][0]
    outer = layers[PACKAGE]
    families = [[f"{ADAPTERS}.{name}" for name in row] for row in layers[f"{PACKAGE}.{ADAPTERS}"]]
    rows = [outer[0], services, *outer[1:]]
    boxes: Boxes = {}
    out: list[str] = []
    y = 64.0
    frame = (0.0, 0.0)
    for row in rows:
        if row == [ADAPTERS]:
            frame = (y, INNER_ROW_H * len(families) + 12)
            for inner in families:
                _place(boxes, inner, y + 18, INNER_H)
                y += INNER_ROW_H
            y += 12 + ROW_H - BOX_H
        else:
            _place(boxes, row, y, BOX_H)
            y += ROW_H
    placed = {name for row in rows for name in row} | set(boxes)
    side = sorted(set(targets) - placed - set(APART) - {PACKAGE, ADAPTERS})
    height = max(y, 64 + 34 * (len(side) + len(APART)) + 90)
    out.append(_frame(frame))
    reduced = _reduced({box: {t for t in targets.get(box, ()) if t in boxes} for box in boxes})
    out += [_line(boxes[box], boxes[target]) for box in boxes for target in sorted(reduced[box])]
    out += [_rect(name, boxes[name], services) for name in boxes]
    out += _labels(rows, boxes, services)
    out += _side(side)
    return _svg(out, height)


def _place(boxes: Boxes, names: Sequence[str], y: float, height: float) -> None:
    left, right = MARGIN + LABEL_W, WIDTH - MARGIN - SIDE_W - 30
    room = (right - left - GAP * (len(names) - 1)) / len(names)
    width = min(room, 170.0)
    total = width * len(names) + GAP * (len(names) - 1)
    spread = min((right - left - width) / (len(names) - 1), width + 90) if len(names) > 1 else 0.0
    start = (left + right - (spread * (len(names) - 1) + width)) / 2 if spread else (left + right - total) / 2
    for number, name in enumerate(names):
        boxes[name] = (start + number * (spread or width + GAP), y, width, height)


def _reduced(targets: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Without the arrows that follow from others."""

    def reach(box: str, seen: set[str]) -> set[str]:
        for target in targets[box]:
            if target not in seen:
                seen.add(target)
                reach(target, seen)
        return seen

    below = {box: reach(box, set()) for box in targets}
    return {
        box: {t for t in direct if not any(t in below[other] for other in direct - {t})}
        for box, direct in targets.items()
    }


def _line(start: tuple[float, float, float, float], end: tuple[float, float, float, float]) -> str:
    x1, y1 = start[0] + start[2] / 2, start[1] + start[3]
    x2, y2 = end[0] + end[2] / 2, end[1] - 2
    # Ends are moved a little towards the other box, so that arrows of one box do not lie upon each other.
    x1 += max(-start[2] / 3, min(start[2] / 3, (x2 - x1) / 6))
    x2 += max(-end[2] / 3, min(end[2] / 3, (x1 - x2) / 6))
    bend = min(60.0, (y2 - y1) / 2)
    return (
        f'<path class="line" d="M {x1:.0f} {y1:.0f} C {x1:.0f} {y1 + bend:.0f},'
        f' {x2:.0f} {y2 - bend:.0f}, {x2:.0f} {y2:.0f}"/>'
    )


def _rect(name: str, box: tuple[float, float, float, float], services: Sequence[str]) -> str:
    x, y, width, height = box
    kind = "service" if name in services else "adapter" if name.startswith(ADAPTERS) else ""
    label = name.removeprefix(f"{ADAPTERS}.")
    return (
        f'<rect class="box {kind}" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6"/>'
        f'<text x="{x + width / 2:.0f}" y="{y + height / 2 + 5:.0f}" text-anchor="middle">{label}</text>'
    )


def _frame(frame: tuple[float, float]) -> str:
    left, width = MARGIN + LABEL_W - 14, WIDTH - 2 * MARGIN - LABEL_W - SIDE_W - 2
    return (
        f'<rect class="frame" x="{left}" y="{frame[0]:.0f}" width="{width}" height="{frame[1]:.0f}" rx="10"/>'
    )


def _labels(rows: Rows, boxes: Boxes, services: Sequence[str]) -> list[str]:
    meaning = {
        "cli": "command line",
        services[0]: "services",
        "wiring": "composition root",
        ADAPTERS: "adapters, one folder, per backend",
        "grpc": "network edges",
        "admin": "operator tasks",
        "collections": "shared rules",
        "events": "format of the log",
        "ports": "interfaces",
        "memories": "domain types",
    }
    out: list[str] = []
    for row in rows:
        shown = [boxes[name] for name in row if name in boxes] or [
            box for name, box in boxes.items() if name.startswith(f"{row[0]}.")
        ]
        words = meaning.get(row[0], "").split(", ")
        out += [
            f'<text class="row" x="{MARGIN}" y="{shown[0][1] + 24 + 15 * number:.0f}">{word}</text>'
            for number, word in enumerate(words)
        ]
    return out


def _side(names: Sequence[str]) -> list[str]:
    x, y = WIDTH - MARGIN - SIDE_W, 64.0
    out: list[str] = []
    for title, group in (("used by several layers", names), ("client install", APART)):
        out.append(f'<text class="row" x="{x}" y="{y - 6:.0f}">{title}</text>')
        for name in group:
            out.append(
                f'<rect class="box side" x="{x}" y="{y:.0f}" width="{SIDE_W}" height="28" rx="5"/>'
                f'<text x="{x + SIDE_W / 2:.0f}" y="{y + 19:.0f}" text-anchor="middle">{name}</text>'
            )
            y += 34
        y += 36
    return out


def _svg(parts: Sequence[str], height: float) -> str:
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#5b7fa3"/></marker></defs>'
    )
    title = f'<text class="title" x="{MARGIN}" y="32">Lorestream: imports go downwards only</text>'
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}">\n'
        f"<style>{STYLE}</style>\n{head}\n"
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>\n{title}\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    sys.exit(main())
