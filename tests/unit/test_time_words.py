"""Time words: which spans they mean, and that they rank without leaving anything out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_service.time_words import TimeSpan, parse_time_words
from tests.retrieval.reader import NOW, open_reader

WEDNESDAY = datetime(2026, 4, 15, 14, 30, tzinfo=UTC)


def at(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("question", "start", "end"),
    [
        ("What did I dig today?", (2026, 4, 15), (2026, 4, 16)),
        ("who came yesterday", (2026, 4, 14), (2026, 4, 15)),
        ("the day  before yesterday", (2026, 4, 13), (2026, 4, 14)),
        ("day before yesterday", (2026, 4, 13), (2026, 4, 14)),
        ("What happened this morning?", (2026, 4, 15, 5), (2026, 4, 15, 12)),
        ("who sang last night", (2026, 4, 14, 20), (2026, 4, 15, 6)),
        ("Yesterday evening, who sang?", (2026, 4, 14, 17), (2026, 4, 15)),
        ("two days ago", (2026, 4, 13), (2026, 4, 14)),
        ("a couple of hours ago", (2026, 4, 15, 12), (2026, 4, 15, 13)),
        ("3 weeks ago", (2026, 3, 22, 2, 30), (2026, 3, 29, 2, 30)),
        ("two months ago", (2026, 2, 1), (2026, 3, 1)),
        ("a year ago", (2024, 10, 1), (2025, 10, 1)),
        ("2 years ago", (2023, 10, 1), (2024, 10, 1)),
        ("in the last 3 days", (2026, 4, 12, 14, 30), (2026, 4, 15, 14, 30)),
        ("this week", (2026, 4, 13), (2026, 4, 20)),
        ("last week", (2026, 4, 6), (2026, 4, 13)),
        ("last month", (2026, 3, 1), (2026, 4, 1)),
        ("last year", (2025, 1, 1), (2026, 1, 1)),
        ("on Monday", (2026, 4, 13), (2026, 4, 14)),
        ("last Wednesday", (2026, 4, 8), (2026, 4, 9)),
        ("last spring", (2025, 3, 1), (2025, 6, 1)),
        ("this spring", (2026, 3, 1), (2026, 6, 1)),
        ("in the winter", (2025, 12, 1), (2026, 3, 1)),
        ("in winter 2023", (2023, 12, 1), (2024, 3, 1)),
        ("in May", (2025, 5, 1), (2025, 6, 1)),
        ("last April", (2025, 4, 1), (2025, 5, 1)),
        ("in march", (2026, 3, 1), (2026, 4, 1)),
        ("June 2024", (2024, 6, 1), (2024, 7, 1)),
        ("the fair in May 2023", (2023, 5, 1), (2023, 6, 1)),
        ("last May, 2023", (2023, 5, 1), (2023, 6, 1)),
        ("the fair of May of 2023", (2023, 5, 1), (2023, 6, 1)),
        ("since May 5", (2025, 5, 5), (2025, 5, 6)),
        ("since May 5th, 2023", (2023, 5, 5), (2023, 5, 6)),
        ("in May 100 dwarves came", (2025, 5, 1), (2025, 6, 1)),
        ("since 2025-10-09", (2025, 10, 9), (2025, 10, 10)),
        ("on 29 February", (2024, 2, 29), (2024, 3, 1)),
        ("on 8 May, 2023", (2023, 5, 8), (2023, 5, 9)),
        ("May 8th", (2025, 5, 8), (2025, 5, 9)),
        ("on 2025-10-09", (2025, 10, 9), (2025, 10, 10)),
        ("in 2024", (2024, 1, 1), (2025, 1, 1)),
    ],
)
def test_what_words_mean(question: str, start: tuple[int, ...], end: tuple[int, ...]) -> None:
    assert parse_time_words(question, WEDNESDAY.timestamp()) == TimeSpan(at(*start), at(*end))


@pytest.mark.parametrize(
    "question",
    [
        "May I march to the fall?",
        "who may come",
        "second watch",
        "31 June",
        "0 May",
        "the 12 dwarves",
        "9999 years ago",
        "",
    ],
)
def test_what_is_no_time(question: str) -> None:
    assert parse_time_words(question, WEDNESDAY.timestamp()) is None


@given(
    st.text(max_size=60)
    | st.from_regex(r"(last|in|on) (\d{1,4} )?(may|days|week|spring)( ago)?", fullmatch=True)
)
def test_any_text_is_read(text: str) -> None:
    span = parse_time_words(text, WEDNESDAY.timestamp())
    assert span is None or span.start < span.end


async def test_a_search_ranks_the_right_time_first_and_leaves_nothing_out(tmp_path: Path) -> None:
    async with open_reader(tmp_path) as reader:
        days = [0.5, 1.5, 40.0]
        for n in days:
            await reader.remember("sold a barrel of herring", event_id=str(n), at=NOW - 86_400 * n)
        query = {"query": "who sold herring two days ago", "k": 3, "explain": True, "mode": "hybrid"}
        plain = (await reader.search(**query))["memories"]
        timed = (await reader.search(**query, time_words=True))["memories"]
        assert len(plain) == len(timed) == 3
        assert plain[0]["timestamp"] > timed[0]["timestamp"] == NOW - 86_400 * 1.5
        for one in timed:
            assert sum(one["score_details"].values()) == pytest.approx(one["score"])
        lifts = [one["score_details"]["time"] for one in timed]
        assert lifts == sorted(lifts, reverse=True)
        assert all("time" not in one["score_details"] for one in plain)
        first = (await reader.search(**{**query, "k": 1}, time_words=True))["memories"]
        assert first == timed[:1]
        without = {**query, "query": "who sold herring"}
        assert (await reader.search(**without, time_words=True))["memories"] == (
            await reader.search(**without)
        )["memories"]


def test_time_words_are_not_searched_for_as_words() -> None:
    question = "who sold herring two days ago?"
    span = parse_time_words(question, WEDNESDAY.timestamp())
    assert span is not None
    assert span.without_words(question).split() == ["who", "sold", "herring", "?"]
    alone = parse_time_words("Yesterday?", WEDNESDAY.timestamp())
    assert alone is not None
    assert alone.without_words("Yesterday?") == "Yesterday?"
