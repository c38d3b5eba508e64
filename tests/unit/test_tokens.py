"""Tokens, receipts and cursors: they survive encoding, and other strings are refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream import tokens
from lorestream.errors import InvalidCursor, InvalidToken

POSITIONS = st.dictionaries(st.integers(0, 1000), st.integers(0, 2**63 - 1), max_size=40)
TIMES = st.floats(allow_nan=False, allow_infinity=False)


@given(POSITIONS)
def test_a_token_has_the_offset_of_every_partition(positions: dict[int, int]) -> None:
    assert tokens.parse_token(tokens.token(positions)) == positions


@given(st.text(), TIMES, POSITIONS)
def test_a_receipt_has_tenant_time_and_offsets(tenant: str, at: float, positions: dict[int, int]) -> None:
    assert tokens.parse_receipt(tokens.receipt(tenant, at, positions)) == (tenant, at, positions)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=40))
def test_the_id_of_a_streams_event_has_the_position_of_every_partition(offsets: list[int]) -> None:
    positions = dict(enumerate(offsets))
    assert tokens.parse_stream_id(tokens.stream_id(positions)) == positions


@given(TIMES, TIMES, st.text(), st.text())
def test_a_cursor_has_a_position(timestamp: float, accepted_at: float, memory_id: str, agent_id: str) -> None:
    position = (timestamp, accepted_at, memory_id, agent_id)
    assert tokens.parse_cursor(tokens.cursor(position)) == position


@given(st.text() | st.text("s1w1c1d.AB=_-", max_size=30))
def test_other_strings_are_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        tokens.parse_token(text)
    with pytest.raises(InvalidCursor):
        tokens.parse_cursor(text)
    with pytest.raises(InvalidToken):
        tokens.parse_stream_id(text)
    assert tokens.parse_receipt(text) is None


@given(POSITIONS, st.data())
def test_a_changed_character_is_detected(positions: dict[int, int], data: st.DataObject) -> None:
    token = tokens.token(positions)
    place = data.draw(st.integers(3, len(token) - 2))
    other = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda each: each != token[place]))
    with pytest.raises(InvalidToken):
        tokens.parse_token(token[:place] + other + token[place + 1 :])


def test_kinds_are_distinguished() -> None:
    token, cursor, receipt = (
        tokens.token({0: 1}),
        tokens.cursor((1.0, 1.0, "x")),
        tokens.receipt("t", 1.0, {}),
    )
    for text in (cursor, receipt, "w1" + cursor[2:], "w1" + receipt[2:]):
        with pytest.raises(InvalidToken):
            tokens.parse_token(text)
    for text in (token, receipt, "c1" + token[2:]):
        with pytest.raises(InvalidCursor):
            tokens.parse_cursor(text)
    for text in (token, cursor, "d1" + token[2:]):
        assert tokens.parse_receipt(text) is None


@pytest.mark.parametrize(
    "value",
    [None, 3, {}, [3], [[1]], [[1, 2, 3]], [[1, "2"]], [[-1, 2]], [[1, -2]], [[1, 2**63]], [[1.5, 2]]],
)
def test_a_value_of_another_type_is_refused_as_token(value: object) -> None:
    with pytest.raises(InvalidToken):
        tokens.parse_token(tokens._encode("w1", value))
    assert tokens.parse_receipt(tokens._encode("d1", ["t", 1.0, value])) is None


@pytest.mark.parametrize("value", [None, [], [1.0, 1.0], [1.0, 1.0, 3], ["1", 1.0, "x"], [None, 1.0, "x"]])
def test_a_value_of_another_type_is_refused_as_cursor(value: object) -> None:
    with pytest.raises(InvalidCursor):
        tokens.parse_cursor(tokens._encode("c1", value))


def test_tokens_need_no_escaping_in_urls_and_json() -> None:
    token = tokens.token({partition: 2**40 + partition for partition in range(64)})
    assert json.dumps(token) == f'"{token}"'
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert tokens.parse_token(token)[63] == 2**40 + 63
