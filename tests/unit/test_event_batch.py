"""Splitting a batch: the fast way and the lenient way give the same events."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.errors import InvalidRequest
from lorestream.http.request import HttpError
from producers.admission import _extract_events, _split_leniently, split_batch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("events"), inner),
    max_leaves=12,
)


@given(
    st.lists(JSON), st.dictionaries(st.text() | st.sampled_from(["server"]), JSON), st.sampled_from([None, 1])
)
def test_lenient_splitting_gives_the_same_events(
    events: list[object], others: dict[str, object], indent: int | None
) -> None:
    body = json.dumps({**others, "events": events}, indent=indent).encode()
    rest, pieces = _extract_events(body)
    assert [json.loads(piece) for piece in pieces] == events
    assert json.loads(rest) == {**others, "events": []}


async def test_events_keep_their_bytes() -> None:
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
async def test_an_event_of_almost_json_is_one_event(bad: bytes) -> None:
    submission = await split_batch(b'{"events": [ "],[", %s , {"a": ","} ], "server": "s"}' % bad)
    assert [bytes(each).strip() for each in submission.events] == [b'"],["', bad, b'{"a": ","}']
    assert submission.server == "s"


@pytest.mark.parametrize(
    "body", [b'{"events": null}', b'{"events": []}', b'{"events": [ ], "x": 1, "server": null}']
)
async def test_an_empty_lua_table_is_an_empty_batch(body: bytes) -> None:
    submission = await split_batch(body)
    assert list(submission.events) == []
    assert submission.server == "default"
    by_hand = _split_leniently(body)
    assert (by_hand.server, list(by_hand.events)) == ("default", [])


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{}", "events"),
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
async def test_an_invalid_body_names_the_field(body: bytes, path: str | None) -> None:
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
async def test_a_broken_body_is_refused_as_invalid_json(body: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        await split_batch(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("last", [b"1", b"NaN"])
async def test_a_body_has_at_most_1000_events(last: bytes) -> None:
    submission = await split_batch(b'{"events": [%s%s]}' % (b"1," * 999, last))
    assert len(submission.events) == 1000
    with pytest.raises(HttpError) as caught:
        await split_batch(b'{"events": [%s%s]}' % (b"1," * 1000, last))
    assert (caught.value.status, caught.value.code) == (413, "too_many_events")


def test_lenient_splitting_takes_linear_time() -> None:
    # Quadratic, these would take hours, and the suite's limit for a test is three minutes.
    for unit in (b'\\"', b'"', b"\\", b'"\\', b"[", b'{"events":[', b","):
        body = b'{"events": ["' + unit * (2**20 // len(unit))
        assert _extract_events(body) == (body, [])
