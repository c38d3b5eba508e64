"""The figures of the table as an SVG: one pair of bars for each, with the spread over the plays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.luanti.bench.report import Row, Spread

LEFT, WIDTH, RIGHT = 270, 400, 130
TOP, ROW, BAR = 66, 56, 15
WITH, WITHOUT = "#2f6fb2", "#b3aca0"


def svg(measured: Sequence[Row], subtitle: str) -> str:
    """The picture. At least one row is needed. Bars are as long as the mean, in units of the longest of their row."""
    height = TOP + ROW * len(measured) + 20
    width = LEFT + WIDTH + RIGHT
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
            ' font-family="system-ui, sans-serif" font-size="13" fill="#30343a">'
        ),
        '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>',
        (
            '<text x="20" y="28" font-size="17" font-weight="600">Characters'
            f' <tspan fill="{WITH}">with</tspan> and <tspan fill="#8d8678">without</tspan> memories</text>'
        ),
        f'<text x="20" y="47" fill="#6b7078">{subtitle}</text>',
    ]
    for number, row in enumerate(measured):
        parts += _pair(row, TOP + ROW * number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _pair(row: Row, top: int) -> list[str]:
    longest = max(row.remembering.greatest, row.forgetting.greatest) or 1.0
    return [
        f'<text x="{LEFT - 14}" y="{top + 15}" text-anchor="end" font-weight="600">{row.arena.title}</text>',
        f'<text x="{LEFT - 14}" y="{top + 31}" text-anchor="end" fill="#6b7078">{row.metric.title}</text>',
        *_bar(row.remembering, longest, top + 3, WITH),
        *_bar(row.forgetting, longest, top + 3 + BAR + 3, WITHOUT),
        f'<text x="{LEFT + WIDTH + 90}" y="{top + 26}" text-anchor="end" font-size="15" font-weight="600">&#215; {row.times}</text>',
    ]


def _bar(spread: Spread, longest: float, top: int, colour: str) -> list[str]:
    def x(value: float) -> str:
        return f"{LEFT + WIDTH * max(value, 0.0) / longest:.1f}"

    middle = top + BAR / 2
    return [
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH * max(spread.mean, 0.0) / longest:.1f}" height="{BAR}" fill="{colour}"/>',
        (
            f'<path d="M{x(spread.least)} {middle}H{x(spread.greatest)}M{x(spread.least)} {middle - 4}v8'
            f'M{x(spread.greatest)} {middle - 4}v8" stroke="#30343a" opacity="0.55" fill="none"/>'
        ),
    ]
