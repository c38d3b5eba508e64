"""The fused score: between 0 and 1, the sum of its shares, never a NaN."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.fusion import DENSE_WEIGHT, fuse

cosines = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-1, 1), max_size=8)
bm25 = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(5e-324, 1e300), max_size=8)


def scores(dense: dict[str, float], keyword: dict[str, float] | None) -> dict[str, float]:
    return {one.key: one.score for one in fuse(dense, keyword)}


def test_first_by_both_scores_1_and_first_by_one_scores_its_share() -> None:
    found = {
        one.key: one for one in fuse({"both": 1.0, "near": 1.0, "word": 0.0}, {"both": 7.0, "word": 7.0})
    }
    assert found["both"].score == 1.0
    assert (found["near"].dense, found["near"].keyword) == (DENSE_WEIGHT, 0.0)
    assert (found["word"].dense, found["word"].keyword) == (0.0, 1 - DENSE_WEIGHT)


def test_a_text_that_equals_the_query_scores_1_though_another_repeats_its_word() -> None:
    found = scores({"iron": 1.0, "iron iron iron": 0.9}, {"iron": 1.0, "iron iron iron": 1.6})
    assert found["iron"] == pytest.approx(1.0, abs=1e-6)
    assert found["iron iron iron"] < 1


def test_without_words_in_the_query_the_cosine_is_the_score() -> None:
    assert scores({"a": 1.0, "b": 0.25, "c": -0.5}, None) == {"a": 1.0, "b": 0.25, "c": 0.0}
    assert scores({"a": 1.0}, {}) == {"a": DENSE_WEIGHT}
    assert fuse({}, {}) == fuse({}, None) == []


@given(cosines, st.none() | bm25)
def test_every_candidate_has_a_score_in_0_to_1_and_they_fall(
    dense: dict[str, float], keyword: dict[str, float] | None
) -> None:
    shared = None if keyword is None else {key: one for key, one in keyword.items() if key in dense}
    found = fuse(dense, shared)
    assert sorted(one.key for one in found) == sorted(dense)
    values = [one.score for one in found]
    assert all(0 <= value <= 1 for value in values)
    assert values == sorted(values, reverse=True)
    assert all(one.dense + one.keyword == one.score for one in found)


@given(cosines, bm25, st.floats(1e-3, 1e3))
def test_the_scale_of_the_word_scores_does_not_matter(
    dense: dict[str, float], keyword: dict[str, float], factor: float
) -> None:
    shared = {key: max(1e-6, min(1e6, one)) for key, one in keyword.items() if key in dense}
    scaled = {key: factor * one for key, one in shared.items()}
    assert scores(dense, scaled) == pytest.approx(scores(dense, shared))
