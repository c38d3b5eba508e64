"""The measurement of growth: what it writes, and what the page says of the figures."""

from collections import Counter

from tests.load.growth import LARGE, THOUSAND, agents_of, events_of
from tests.load.growth_page import AIMS, LINES, ROWS, aims, expected, exponent, plot, table


def size(memories, **figures):
    every = dict.fromkeys([*ROWS, *LINES, *AIMS], 2.0)
    return {**every, "memories": memories, **figures}


def test_a_tenth_of_the_events_is_of_the_large_agent_and_a_thousand_of_another():
    found = Counter(one["agent_id"] for one in events_of(20_000))
    assert found.total() == 20_000
    assert (found[LARGE], found[THOUSAND]) == (2000, 1000)
    assert len(found) == agents_of(20_000) + 2 == 30
    assert [agents_of(size) for size in (10_000, 100_000, 1_000_000)] == [10, 316, 10_000]


def test_exponents_and_what_is_expected_of_a_million():
    sizes = [size(10_000, start_s=2.0, ingest_s=3.0), size(100_000, start_s=3.0, ingest_s=30.0)]
    assert exponent(sizes, "ingest_s") == 1.0
    assert exponent(sizes, "snapshot_s") == 0.0
    assert expected(sizes, "start_s", 1_000_000) == 13.0
    assert "| start, s | at most 10 | 13.0: **missed** |" in aims(sizes)
    assert "| measured |" in aims([*sizes, size(1_000_000, start_s=9.0)])
    assert "| start, s | at most 10 | 9.00 |" in aims([*sizes, size(1_000_000, start_s=9.0)])
    assert "| start, s | 2.00 | 3.00 | 0.18 |" in table(sizes)
    assert plot(sizes).count("<polyline") == len(LINES) + 1
