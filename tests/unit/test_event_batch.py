"""A body taken apart: the fast way and the slow one cut alike."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.errors import InvalidRequest
from lorestream.http.request import HttpError
from producers.admission import _cut, _split_leniently, split_batch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("events"), inner),
    max_leaves=12,
)


@given(
    st.lists(JSON), st.dictionaries(st.text() | st.sampled_from(["server"]), JSON), st.sampled_from([None, 1])
)
def test_the_slow_way_finds_the_same_events(
    events: list[object], others: dict[str, object], indent: int | None
) -> None:
    body = json.dumps({**others, "events": events}, indent=indent).encode()
    rest, pieces = _cut(body)
    assert [json.loads(piece) for piece in pieces] == events
    assert json.loads(rest) == {**others, "events": []}


async def test_events_are_left_as_they_were_sent() -> None:
    submission = await split_batch(b'{"server": "s", "other": [1], "events": [{"a" : 1}, 3 ,"x"]}')
    assert submission.server == "s"
    assert [bytes(each) for each in submission.events] == [b'{"a" : 1}', b"3", b'"x"']


@pytest.mark.parametrize(
    "bad",
    [
        b'{"tick": NaN}',
        b'{"text": "\\ud800"}',
        b'{"text": "a\x00b"}',
        b"[" * 5000 + b"]" * 5000,
        b"-Infinity",
    ],
)
async def test_what_is_almost_json_stays_one_piece(bad: bytes) -> None:
    submission = await split_batch(b'{"events": [ "],[", %s , {"a": ","} ], "server": "s"}' % bad)
    assert [bytes(each).strip() for each in submission.events] == [b'"],["', bad, b'{"a": ","}']
    assert submission.server == "s"


@pytest.mark.parametrize(
    "body", [b'{"events": null}', b'{"events": []}', b'{"events": [ ], "x": 1, "server": null}']
)
async def test_an_empty_table_of_lua_is_no_events(body: bytes) -> None:
    submission = await split_batch(body)
    assert list(submission.events) == []
    assert submission.server == "default"
    by_hand = _split_leniently(body)
    assert (by_hand.server, list(by_hand.events)) == ("default", [])


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{}", None),
        (b"[]", None),
        (b"3", None),
        (b'"events": [1]', None),
        (b"[" * 100_000, None),
        (b'{"events": {}}', "events"),
        (b'{"events": [], "server": 3}', "server"),
        (b'{"events": [], "server": ""}', "server"),
        (b'{"events": [NaN], "server": 3}', "server"),
    ],
)
async def test_a_wrong_shape_names_the_field(body: bytes, path: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await split_batch(body)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b'{"events": [',
        b'{"events": [{"a": 1}',
        b'{"events": [{"a": 1}]',
        b'{"events": []}}',
        b'{"events": [NaN], "x": NaN}',
        b'{"events": [NaN], "server": "\xff"}',
        b'{"x": ' + b"[" * 100_000,
    ],
)
async def test_a_broken_body_is_no_json(body: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        await split_batch(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("last", [b"1", b"NaN"])
async def test_a_body_holds_at_most_1000_events(last: bytes) -> None:
    submission = await split_batch(b'{"events": [%s%s]}' % (b"1," * 999, last))
    assert len(submission.events) == 1000
    with pytest.raises(HttpError) as caught:
        await split_batch(b'{"events": [%s%s]}' % (b"1," * 1000, last))
    assert (caught.value.status, caught.value.code) == (413, "too_many_events")


def test_no_body_makes_the_cut_look_at_a_byte_again_and_again() -> None:
    # Quadratic, these would take hours, and the suite's limit for a test is three minutes.
    for unit in (b'\\"', b'"', b"\\", b'"\\', b"[", b'{"events":[', b","):
        body = b'{"events": ["' + unit * (2**20 // len(unit))
        assert _cut(body) == (body, [])
