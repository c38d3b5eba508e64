"""Spheres, blends and top k: bounds, extreme values, order."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from lorestream.adapters.qdrant.exact_filter import matches
from lorestream.memories import Memory
from query_service.ranking import Ranked, Sphere, blend_all, normalised, parse_weights, top_k
from query_service.schemas import Near, Weights

_number = st.floats(allow_nan=False, allow_infinity=False)
_weight = st.none() | st.floats(min_value=0, allow_infinity=False)
_coordinate = st.none() | _number | st.floats(-20, 20)


def memory(**fields: object) -> Memory:
    values = {"id": "m", "tenant": "t", "agent_id": "a", "text": "x", "timestamp": 0.0, "accepted_at": 0.0}
    return Memory(**{**values, **fields})  # type: ignore[arg-type]


@given(
    st.builds(
        Weights, _weight, _weight, _weight, st.none() | st.floats(min_value=5e-324, allow_infinity=False)
    ),
    st.floats(-1, 1),
    _number,
    _number,
)
def test_blended_scores_are_in_0_to_1(weights: Weights, cosine: float, timestamp: float, now: float) -> None:
    for with_query in (True, False):
        blend = parse_weights(weights, with_query=with_query)
        if blend is not None:
            [ranked] = blend_all(blend, [Ranked(memory(timestamp=timestamp), cosine, {})], now)
            assert 0 <= ranked.score <= 1 + 1e-9
            assert all(0 <= part <= 1 for part in ranked.details.values())


def test_no_blend_for_relevance_alone_without_a_query() -> None:
    assert parse_weights(Weights(relevance=2), with_query=False) is None
    assert parse_weights(Weights(), with_query=True) is not None


def test_recency_is_a_half_after_the_half_life() -> None:
    blend = parse_weights(Weights(relevance=0, recency=1), with_query=True)
    assert blend is not None
    for timestamp, now, score in ((100.0, 100.0 + 86_400, 0.5), (500.0, 100.0, 1.0)):
        [ranked] = blend_all(blend, [Ranked(memory(timestamp=timestamp), 1.0, {})], now)
        assert ranked.score == score


@given(st.lists(st.floats(-1, 1), max_size=8))
def test_normalised_scores_reach_from_0_to_1_in_the_same_order(scores: list[float]) -> None:
    pool = [Ranked(memory(id=str(n)), score, {}) for n, score in enumerate(scores)]
    found = normalised(pool)
    assert [one.memory for one in found] == [one.memory for one in pool]
    values = [one.score for one in found]
    if len(set(scores)) > 1:
        assert (min(values), max(values)) == (0, 1)
        rising = sorted(range(len(scores)), key=scores.__getitem__)
        assert [values[n] for n in rising] == sorted(values)
    else:
        assert values == [1.0] * len(scores)


@given(
    st.builds(
        Near, st.floats(min_value=0, allow_infinity=False), x=_coordinate, y=_coordinate, z=_coordinate
    ),
    st.dictionaries(st.sampled_from("xyz"), _number | st.floats(-20, 20)),
)
def test_the_bounding_box_contains_the_sphere(near: Near, pos: dict[str, float]) -> None:
    sphere, one = Sphere.from_near(near), memory(pos=pos)
    if sphere.contains(one):
        assert matches(sphere.bounding_box, one)


def test_a_sphere_contains_places_up_to_its_radius() -> None:
    sphere = Sphere.from_near(Near(5, x=0, y=0))
    assert sphere.contains(memory(pos={"x": 3.0, "y": 4.0, "z": 1e9}))
    assert not sphere.contains(memory(pos={"x": 3.0, "y": math.nextafter(4, 5)}))
    assert not sphere.contains(memory(pos={"x": 3.0, "z": 0.0}))
    assert not sphere.contains(memory(pos=None))


def test_equal_scores_are_ordered_by_time_then_acceptance_then_id() -> None:
    blend = parse_weights(Weights(relevance=1), with_query=True)
    assert blend is not None
    ones = [
        memory(id=name, timestamp=timestamp, accepted_at=accepted)
        for name, timestamp, accepted in [("a", 1.0, 5.0), ("b", 2.0, 1.0), ("c", 2.0, 2.0), ("d", 2.0, 2.0)]
    ]
    ranked = top_k(blend_all(blend, [Ranked(one, 0.5, {}) for one in ones], 10), 3)
    assert [one.memory.id for one in ranked] == ["d", "c", "b"]
