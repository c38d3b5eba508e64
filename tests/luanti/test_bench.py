"""The report of the benchmark of characters: spread, aims, table and picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.luanti.bench.arenas import Aim, Arena, Metric
from tests.luanti.bench.picture import svg
from tests.luanti.bench.report import inserted, rows, table

ARENA = Arena(
    "mine",
    "miner",
    "lorestream_miner",
    (
        Metric("ore", "ore per minute", Aim.MORE, 1.3),
        Metric("damage", "damage per minute", Aim.LESS, 0.5),
        Metric("known", "known of those who returned", Aim.ALL, per="returned"),
    ),
)
REMEMBERING = [{1: {"ore": 40, "damage": 4, "known": 3, "returned": 4}, 2: {"ore": 60}}, {1: {"ore": 80}}]
FORGETTING = [{1: {"ore": 20, "damage": 8}, 2: {"ore": 60, "damage": 16}}]


def test_the_table_has_median_spread_and_whether_the_aim_is_met() -> None:
    """Amounts are per minute of 2 minutes; a share counts only the plays that have its divisor."""
    ore, damage, known = table(rows(ARENA, REMEMBERING, FORGETTING, 120)).splitlines()[2:]
    assert ore == (
        "| miner | ore per minute | 30.0 (20.0..40.0) | 20.0 (10.0..30.0) | 1.50 | at least 1.3 times | reached |"
    )
    assert damage.endswith("| 0.00 (0.00..2.00) | 6.00 (4.00..8.00) | 0.11 | at most 0.5 times | reached |")
    assert known.endswith("| 0.75 (0.75..0.75) | 0.00 (0.00..0.00) | - | all | **missed** |")


def test_the_table_replaces_the_one_before() -> None:
    """Between its marks only."""
    page = "a\n<!-- measured -->\nold\n<!-- /measured -->\nb\n"
    assert inserted(page, "new") == "a\n<!-- measured -->\nnew\n<!-- /measured -->\nb\n"
    with pytest.raises(ValueError, match="no lines"):
        inserted("a", "new")


def test_the_picture_is_well_formed() -> None:
    """Two bars for each figure."""
    picture = ET.fromstring(svg(rows(ARENA, REMEMBERING, FORGETTING, 120), "two seeds"))
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) == 1 + 2 * len(ARENA.metrics)
