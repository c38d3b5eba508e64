"""What a memory is as a Qdrant point: names that never change, times that keep their order."""

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


def test_ids_are_those_of_every_store_ever_filled():
    assert point_id("default", "a", "m") == "9b33e92f-9d21-5bb8-a025-c34d709adc29"
    assert fact_hash(("metadata", "x"), "oak") == 8621146836663377753


@given(
    first=st.lists(st.text(max_size=4), min_size=3, max_size=3),
    second=st.lists(st.text(max_size=4), min_size=3, max_size=3),
)
@example(first=["a", "b", "c"], second=["a", 'b","c', ""])
def test_no_two_memories_share_a_point(first, second):
    assume(first != second)
    assert point_id(*first) != point_id(*second)
    if first[:2] != second[:2]:
        assert agent_keyword(*first[:2]) != agent_keyword(*second[:2])
    assert parse_agent_keyword(agent_keyword(*first[:2])) == tuple(first[:2])


@given(times, times)
def test_ticks_never_turn_an_order_round(one, other):
    assert (ticks(one) < ticks(other)) <= (one < other)


@given(st.floats(2**30, 2**31, exclude_max=True))
def test_times_of_this_age_have_a_tick_each(time):
    assert ticks(math.nextafter(time, math.inf)) > ticks(time)
    assert ticks(time) < 2**53  # so that Qdrant compares it exactly


def test_times_beyond_all_bounds():
    assert ticks(1e300) == -ticks(-1e300) == 2**62


def test_facts_tell_types_and_places_apart_but_not_equal_numbers():
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
def test_a_memory_is_read_as_it_was_written(fields):
    one = make(**fields)
    assert decode_memory(encode_memory(one)) == one


def test_a_tombstone_keeps_nothing_but_the_id():
    one = Tombstone("default", "a", "m", 1.7e9)
    assert encode_tombstone(one) == {"deleted": ticks(1.7e9), "grave": '["default","a","m",1700000000.0]'}
    assert decode_point(encode_tombstone(one)) == one


@pytest.mark.parametrize(
    "fields", [{"tick": math.nan}, {"timestamp": math.nan}, {"text": "\ud800"}, {"timestamp": None}]
)
def test_what_no_store_could_give_back(fields):
    with pytest.raises(InvalidEvent):
        encode_memory(make(**fields))
