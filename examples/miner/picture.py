"""The picture of a run as SVG: how the reward rose, and the way through the cave that the miner learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples.miner.cave import MOVES, Cave

CELL = 44
LEFT, TOP, WIDTH = 70, 60, 430
"""The area of the chart, in pixels; it is as high as the cave."""
COLOURS = {"#": "#5b5f66", "L": "#e4572e", "O": "#e0b030", "M": "#f4efe6", ".": "#f4efe6"}


@dataclass(frozen=True)
class Bucket:
    """The rewards of some successive episodes of all game servers: the first episode, and mean, least and greatest."""

    episode: float
    mean: float
    least: float
    greatest: float


def svg(cave: Cave, buckets: Sequence[Bucket], policy: Mapping[str, str], *, subtitle: str) -> str:
    """The picture. `policy`: state -> action. At least one bucket is needed."""
    height = CELL * len(cave.rows)
    cave_left = LEFT + WIDTH + 60
    width = cave_left + CELL * max(map(len, cave.rows)) + 30
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + height + 60}" width="{width}"'
            ' font-family="system-ui, sans-serif" font-size="13" fill="#30343a">'
        ),
        '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="28" font-size="17" font-weight="600">Reward of an episode</text>',
        f'<text x="{LEFT}" y="47" fill="#6b7078">{subtitle}</text>',
        f'<text x="{cave_left}" y="28" font-size="17" font-weight="600">What the miner has learned</text>',
        f'<text x="{cave_left}" y="47" fill="#6b7078">the action with the highest value of each cell</text>',
        *_chart(buckets, height),
        *_cave(cave, policy, cave_left),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _chart(buckets: Sequence[Bucket], height: int) -> list[str]:
    low = min(bucket.least for bucket in buckets)
    high = max(bucket.greatest for bucket in buckets)
    last = max(buckets[-1].episode, buckets[0].episode + 1)

    def x(episode: float) -> str:
        return f"{LEFT + WIDTH * (episode - buckets[0].episode) / (last - buckets[0].episode):.1f}"

    def y(reward: float) -> str:
        return f"{TOP + height * (high - reward) / ((high - low) or 1.0):.1f}"

    upper = [f"{x(bucket.episode)},{y(bucket.greatest)}" for bucket in buckets]
    lower = [f"{x(bucket.episode)},{y(bucket.least)}" for bucket in reversed(buckets)]
    means = [f"{x(bucket.episode)},{y(bucket.mean)}" for bucket in buckets]
    lines: list[str] = []
    for reward in sorted({low, 0.0, high} if low < 0 < high else {low, high}):
        lines += [
            f'<path d="M{LEFT} {y(reward)}H{LEFT + WIDTH}" stroke="#d8dbe0"/>',
            f'<text x="{LEFT - 10}" y="{y(reward)}" dy="4" text-anchor="end">{reward:g}</text>',
        ]
    return [
        *lines,
        f'<polygon points="{" ".join(upper + lower)}" fill="#2f6fb2" opacity="0.15"/>',
        (
            f'<polyline points="{" ".join(means)}" fill="none" stroke="#2f6fb2" stroke-width="3"'
            ' stroke-linejoin="round"/>'
        ),
        f'<text x="{LEFT}" y="{TOP + height + 24}">episode {buckets[0].episode:g}</text>',
        f'<text x="{LEFT + WIDTH}" y="{TOP + height + 24}" text-anchor="end">episode {last:g}</text>',
        (
            f'<text x="{LEFT + WIDTH / 2}" y="{TOP + height + 44}" text-anchor="middle" fill="#6b7078">'
            "line: mean; area: least to greatest</text>"
        ),
    ]


def _cave(cave: Cave, policy: Mapping[str, str], left: int) -> list[str]:
    parts: list[str] = []
    way = _way(cave, policy)
    for row, symbols in enumerate(cave.rows):
        for column, symbol in enumerate(symbols):
            x, y = left + CELL * column, TOP + CELL * row
            parts.append(
                f'<rect x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="5"'
                f' fill="{COLOURS[symbol]}"/>'
            )
            state = f"{column},{row}"
            if state in policy:
                colour = "#2f6fb2" if state in way else "#b3aca0"
                parts.append(_action(policy[state], x + CELL / 2, y + CELL / 2, colour))
    labels = {"M": "start", "O": "ore"}
    for symbol, label in labels.items():
        x, y = cave.position(symbol)
        parts.append(
            f'<text x="{left + CELL * x + CELL / 2}" y="{TOP + CELL * (y + 1) - 4}" font-size="9"'
            f' text-anchor="middle">{label}</text>'
        )
    note = "orange: lava; grey: rock; blue: the way from the start"
    parts.append(f'<text x="{left}" y="{TOP + CELL * len(cave.rows) + 24}" fill="#6b7078">{note}</text>')
    return parts


def _way(cave: Cave, policy: Mapping[str, str]) -> set[str]:
    """The states that the policy passes from the start."""
    state: str | None = "{},{}".format(*cave.position("M"))
    passed: set[str] = set()
    while state is not None and state in policy and state not in passed:
        passed.add(state)
        state = cave.act(state, policy[state]).following
    return passed


def _action(action: str, x: float, y: float, colour: str) -> str:
    """An arrow, or a dot for `dig`, around (x, y)."""
    if action not in MOVES:
        return f'<circle cx="{x}" cy="{y}" r="7" fill="{colour}"/>'
    turn = {"east": 0, "south": 90, "west": 180, "north": 270}[action]
    return (
        f'<path d="M-9 0H8M2 -6L9 0L2 6" transform="translate({x} {y}) rotate({turn})" fill="none"'
        f' stroke="{colour}" stroke-width="3" stroke-linecap="round" stroke-linejoin="round"/>'
    )
