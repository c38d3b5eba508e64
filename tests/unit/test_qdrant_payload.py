"""Memories as Qdrant points: stable ids and hashes, ordered ticks, lossless encoding."""

import math

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from lorestream.adapters.qdrant.payload import (
    agent_keyword,
    decode_memory,
    decode_point,
    encode_memory,
    encode_tombstone,
    fact_hash,
    parse_agent_keyword,
    point_id,
    ticks,
)
from lorestream.errors import InvalidEvent
from lorestream.ports import Tombstone
from tests.contracts.generated import memories
from tests.contracts.stored import memory as make

times = st.floats(-1e12, 1e12)


def test_point_ids_and_hashes_never_change():
    assert point_id("default", "a", "m") == "9b33e92f-9d21-5bb8-a025-c34d709adc29"
    assert fact_hash(("metadata", "x"), "oak") == 8621146836663377753


@given(
    first=st.lists(st.text(max_size=4), min_size=3, max_size=3),
    second=st.lists(st.text(max_size=4), min_size=3, max_size=3),
)
@example(first=["a", "b", "c"], second=["a", 'b","c', ""])
def test_different_memories_have_different_point_ids(first, second):
    assume(first != second)
    assert point_id(*first) != point_id(*second)
    if first[:2] != second[:2]:
        assert agent_keyword(*first[:2]) != agent_keyword(*second[:2])
    assert parse_agent_keyword(agent_keyword(*first[:2])) == tuple(first[:2])


@given(times, times)
def test_ticks_keep_the_order_of_times(one, other):
    assert (ticks(one) < ticks(other)) <= (one < other)


@given(st.floats(2**30, 2**31, exclude_max=True))
def test_adjacent_times_from_2004_to_2038_have_different_ticks(time):
    assert ticks(math.nextafter(time, math.inf)) > ticks(time)
    assert ticks(time) < 2**53  # so that Qdrant compares it exactly


def test_ticks_are_clamped():
    assert ticks(1e300) == -ticks(-1e300) == 2**62


def test_hashes_differ_by_type_and_path_but_not_for_equal_numbers():
    path = ("metadata", "x")
    assert fact_hash(path, 3) == fact_hash(path, 3.0)
    assert fact_hash(path, -0.0) == fact_hash(path, 0)
    assert fact_hash(path, 2**53) == fact_hash(path, float(2**53)) != fact_hash(path, 2**53 + 1)
    others = [
        fact_hash(path, 1),
        fact_hash(path, "1"),
        fact_hash(path, True),  # noqa: FBT003
        fact_hash(path, 1, element=True),
        fact_hash(("metadata", "y"), 1),
    ]
    assert len(set(others)) == len(others)


@given(fields=memories)
def test_a_memory_is_decoded_as_it_was_encoded(fields):
    one = make(**fields)
    assert decode_memory(encode_memory(one)) == one


def test_a_tombstone_keeps_only_the_id():
    one = Tombstone("default", "a", "m", 1.7e9)
    assert encode_tombstone(one) == {"deleted": ticks(1.7e9), "grave": '["default","a","m",1700000000.0]'}
    assert decode_point(encode_tombstone(one)) == one


@pytest.mark.parametrize(
    "fields", [{"tick": math.nan}, {"timestamp": math.nan}, {"text": "\ud800"}, {"timestamp": None}]
)
def test_memories_that_cannot_be_stored_are_rejected(fields):
    with pytest.raises(InvalidEvent):
        encode_memory(make(**fields))
