# ruff: noqa: RUF001 (characters that look like others are what is tested)
"""Texts as sparse vectors of words: what is the same word, and what a query asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.adapters.qdrant import words as module
from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT, FIRST_LAYOUT, PIVOT, layout_of, open_words
from lorestream.errors import Misconfigured
from lorestream.settings import load_settings
from lorestream.settings.backends import LANGUAGES

ENGLISH = open_words(DEFAULT_LAYOUT)
BOTH = open_words(layout_of(("english", "german")))


def score(query: str, text: str, words: module.Words = ENGLISH) -> float:
    """The BM25 score with an IDF of 1 for every word."""
    asked, stored = words.query(query), words.document(text)
    if asked is None or stored is None:
        return 0.0
    weights = dict(zip(stored.indices, stored.values, strict=True))
    return sum(
        weights.get(index, 0.0) * value for index, value in zip(asked.indices, asked.values, strict=True)
    )


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("mining", "The smith mined iron."),
        ("CAFÉ", "a cafe\u0301 by the mill"),
        ("café", "A CAFÉ BY THE MILL"),
        ("fire", "\ufb01re in the mill"),  # the ligature fi
        ("Ｉｒｏｎ", "iron"),
        ("Straße", "in der STRASSE"),
        ("İstanbul", "a rug of istanbul"),
        ("rose", "\x1b(c@#ff0000)rose\x1b(c@#ffffff) garden"),
        ("pine tree", "default:pine_tree"),
        ("猫", "我的猫很可爱"),
        ("苹果", "昨天他买了苹果。"),
        ("東京", "私は東京に住んでいます"),
        ("고양이", "고양이가 좋아요"),
        ("ｶﾞﾗｽ", "ガラス"),
        ("Где живёт кузнец", "кузнец ушёл"),
        ("who are you", "you are late"),
        ("will", "the smith will come"),
        ("will", "I saw Will there"),
        ("Will", "I saw Will there"),
        ("Don?", "He asked Don."),
        ("Where does Will live?", "I saw Will there"),
        ("Where does Will live?", "Will said that he is ill"),
        ("Where does Will live?", "He asked: Will's sword"),
        ("Where does Will live?", "Will: I am here"),
        ("Who met Don", "they gave (by mistake) Don an axe"),
    ],
)
def test_found(query: str, text: str) -> None:
    assert score(query, text) > 0


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("Where does Will live?", "the smith will come"),
        ("Where does the smith live?", "where does the other one go"),
        ("Will the smith come?", "I saw Will there"),
        ("苹果", "香蕉"),
        ("who are you", "iron"),
        ("...", "..."),
        ("", "iron"),
        ("iron", ""),
        ("iron", "\x1b(c@iron)"),
    ],
)
def test_not_found(query: str, text: str) -> None:
    assert score(query, text) == 0


def test_adjacent_characters_count_more_than_scattered_ones() -> None:
    assert score("苹果", "他买了苹果") > score("苹果", "他买了果苹子")


def test_a_text_is_not_preferred_for_being_short_and_a_long_one_has_a_handicap() -> None:
    def padded(words: int) -> str:
        return " ".join(["iron", *(f"w{n}" for n in range(words - 1))])

    first, second, third, fourth = (
        score("iron", padded(words)) for words in (1, PIVOT, 2 * PIVOT, 4 * PIVOT)
    )
    assert first == second > third > fourth > 0


def test_a_word_that_occurs_twice_counts_more_but_not_twice_as_much() -> None:
    once, twice = score("iron", "iron and coal"), score("iron", "iron, iron")
    assert once < twice < 2 * once


@pytest.mark.parametrize("text", ["Er verkaufte zwei Schwerter", "She sold two swords"])
def test_several_languages_at_once(text: str) -> None:
    for query in ("Schwert", "swords sold") if "Er" not in text else ("Schwert",):
        assert (score(query, text, BOTH) > 0) == ((query == "Schwert") == ("Er" in text))


def test_a_word_with_two_stems_counts_once() -> None:
    """Not more than one that is the same in both languages, if it is written in the same way."""
    assert score("verkaufte", "verkaufte", BOTH) == pytest.approx(score("iron", "iron", BOTH))


def test_a_stop_word_of_one_of_the_languages_is_asked_for_only_if_nothing_else_is() -> None:
    """The German word for "was" is an English noun."""
    assert score("Who fell in the war?", "after the war", BOTH) == 0
    assert score("the war", "after the war", BOTH) > 0


def test_the_cache_of_words_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CACHED_WORDS", 3)
    small = open_words(DEFAULT_LAYOUT)
    for text in ("Then Will came", "he met Will, and Don", "a" * 100 + " iron", "Then Will came"):
        assert small.document(text) == open_words(DEFAULT_LAYOUT).document(text)
        assert small.document(text) == ENGLISH.document(text)
        assert len(small._terms) <= 3 + len(text.split())  # type: ignore[attr-defined]


@given(st.text(st.characters()))
def test_any_text_has_words_or_none_and_finds_itself(text: str) -> None:
    stored, asked = ENGLISH.document(text), ENGLISH.query(text)
    if stored is None:
        assert asked is None
        return
    assert len(set(stored.indices)) == len(stored.indices)
    assert all(0 < value < 2 for value in stored.values)
    assert asked is not None
    assert all(0 < value <= 1 for value in asked.values)
    assert score(text, text) > 0


# --- layouts --------------------------------------------------------------------------------------------------


def test_the_first_layout_is_the_one_of_older_collections() -> None:
    first = open_words(FIRST_LAYOUT)
    assert first.layout == FIRST_LAYOUT
    assert score("mined", "The smith mined iron.", first) > 0
    assert score("mining", "The smith mined iron.", first) == 0
    assert first.query("will") is None


@pytest.mark.parametrize("layout", ["3:english", "2:klingon", "2:", "x"])
def test_an_unknown_layout_is_refused(layout: str) -> None:
    with pytest.raises(Misconfigured, match="start the version that made it"):
        open_words(layout)


def test_every_language_of_the_settings_is_known() -> None:
    together = layout_of(sorted(LANGUAGES))
    assert open_words(together).layout == together


def test_the_setting_takes_several_languages_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORESTREAM_KEYWORD__LANGUAGE", "German, english,german")
    assert load_settings().keyword.languages == ("english", "german")
    monkeypatch.setenv("LORESTREAM_KEYWORD__LANGUAGE", "klingon")
    with pytest.raises(Misconfigured, match=r"LORESTREAM_KEYWORD__LANGUAGE.*klingon.*english"):
        load_settings()


def test_the_vectors_of_a_layout_never_change() -> None:
    """They are stored: another result is another layout, with a version of its own."""
    stored = ENGLISH.document("Then Will sold 3 swords, and the Käse")
    assert stored is not None
    assert sorted(stored.indices) == [
        264741300,
        306495248,
        947530751,
        1132748958,
        1515372845,
        1529464404,
        1964702546,
        2124904319,
    ]
