"""Admission: which events are valid, the errors of the others, and the envelopes."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest

from lorestream.errors import EventTooLarge, InvalidEvent
from lorestream.http.request import HttpError
from lorestream.identity import Pseudonyms, memory_id
from lorestream.limits import MAX_DEPTH, MAX_EVENT_BYTES, MAX_RECORD_BYTES
from producers.admission import Admission, parse_event

NOW = 1_760_000_000.0
OLD_AND_NEW = Pseudonyms.parse("k2:new,k1:old")


def event(**fields: Any) -> bytes:
    return json.dumps({"agent_id": "a", "text": "x"} | fields).encode()


def admitted(ttl_s: float | None = None, **fields: Any) -> Any:
    admission = Admission(OLD_AND_NEW, ttl_s)
    return admission.admit(parse_event(event(**fields)), tenant="default", server="s", accepted_at=NOW)


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"agent_id": None}, "agent_id"),
        ({"agent_id": ""}, "agent_id"),
        ({"agent_id": "a" * 257}, "agent_id"),
        ({"agent_id": 7}, "agent_id"),
        ({"text": 7}, "text"),
        ({"text": None}, "text"),
        ({"text": ""}, "text"),
        ({"type": "t" * 65}, "type"),
        ({"type": "lorestream.erase"}, "type"),
        ({"id": "i" * 257}, "id"),
        ({"id": 7}, "id"),
        ({"data": [1]}, "data"),
        ({"data": "x"}, "data"),
        ({"data": {"n": 2**63}}, "data.n"),
        ({"metadata": {"n": [{"m": -(2**63) - 1}]}}, "metadata.n[0].m"),
        ({"metadata": {"n": [1, 2**64]}}, "metadata.n[1]"),
        ({"metadata": 3}, "metadata"),
        ({"pos": 3}, "pos"),
        ({"pos": [1, 2, 3]}, "pos"),
        ({"pos": {"x": "3"}}, "pos.x"),
        ({"pos": {"x": True}}, "pos.x"),
        ({"tick": "3"}, "tick"),
        ({"tick": True}, "tick"),
        ({"time": []}, "time"),
        ({"importance": 10.5}, "importance"),
        ({"importance": -1}, "importance"),
        ({"importance": False}, "importance"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": "1d"}, "ttl"),
        ({"player": "p" * 257}, "player"),
        ({"player": ["p"]}, "player"),
    ],
)
def test_an_invalid_field_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse_event(event(**fields))
    assert caught.value.code == "invalid_event"
    if caught.value.path is None:
        assert named in caught.value.message
    else:
        assert caught.value.path == named


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("field", ["tick", "time", "importance", "ttl"])
def test_nan_and_infinity_are_refused(field: str, value: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse_event(b'{"agent_id": "a", "text": "x", "%s": %s}' % (field.encode(), value.encode()))
    assert caught.value.path == field


@pytest.mark.parametrize(
    "value", [b"NaN", b"1e999", b"9" * 5000, b'"\\ud800"', b'"\xff"', b'{"\\udfff": 1}', b'"\xed\xa0\x80"']
)
@pytest.mark.parametrize("field", [b"data", b"metadata"])
def test_data_and_metadata_must_be_storable(field: bytes, value: bytes) -> None:
    with pytest.raises(InvalidEvent):
        parse_event(b'{"agent_id": "a", "text": "x", "%s": {"a": [%s]}}' % (field, value))


@pytest.mark.parametrize("field", ["agent_id", "id", "text", "type", "player"])
def test_strings_must_be_valid_unicode(field: str) -> None:
    for text in (rb"\ud800", rb"\udc00 x", b"\xff", b"\xed\xa0\x80"):
        with pytest.raises(InvalidEvent):
            parse_event(b'{"agent_id": "a", "text": "x", "%s": "%s"}' % (field.encode(), text))


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1, 900, 5000])
def test_data_and_metadata_have_at_most_32_levels(levels: int) -> None:
    raw = b'{"agent_id": "a", "text": "x", "data": {"a": %s}}' % (b"[" * (levels - 1) + b"]" * (levels - 1))
    if levels <= MAX_DEPTH:
        assert parse_event(raw).data
    else:
        with pytest.raises(InvalidEvent, match="deep"):
            parse_event(raw)


def test_levels_are_counted_through_objects_and_lists() -> None:
    assert parse_event(event(metadata={"a": nested(MAX_DEPTH - 1)})).metadata
    with pytest.raises(InvalidEvent) as caught:
        parse_event(event(metadata={"a": nested(MAX_DEPTH)}))
    assert caught.value.path == "metadata"


@pytest.mark.parametrize(
    "raw", [b"{", b'{"agent_id" "a"}', b"", b"tru", b'{"agent_id": "a", "tick": 01}', b"}{"]
)
def test_invalid_json_is_an_http_error(raw: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        parse_event(raw)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("raw", [b"3", b"null", b"[]", b'"text"', b"NaN", b"{}"])
def test_json_other_than_an_event_is_rejected(raw: bytes) -> None:
    with pytest.raises(InvalidEvent):
        parse_event(raw)


def test_an_event_has_at_most_16_kib_as_it_was_sent() -> None:
    room = MAX_EVENT_BYTES - len(event(text=""))
    assert parse_event(event(text="x" * room)).text == "x" * room
    with pytest.raises(EventTooLarge) as caught:
        parse_event(event(text="x" * (room + 1)))
    assert caught.value.code == "event_too_large"


def test_lua_forms_of_empty_tables_and_integers_are_accepted() -> None:
    for empty in (None, [], {}):
        put = admitted(data=empty, metadata=empty, pos=empty, player=None, tick=3.0, ttl=None)
        assert (put.data, put.metadata, put.pos, put.tick) == (None, None, None, 3.0)


def test_unknown_fields_and_missing_coordinates_are_ignored() -> None:
    put = admitted(pos={"x": 1, "y": None, "w": "?"}, mood="grim")
    assert put.pos == {"x": 1.0}


def test_a_type_alone_is_enough_and_control_characters_stay() -> None:
    assert admitted(text="", type="dig").text is None
    assert admitted(text="\0\x1b(c@#f00)red\x7f").text == "\0\x1b(c@#f00)red\x7f"


def test_the_acceptance_time_replaces_a_missing_or_future_time() -> None:
    assert admitted().timestamp == NOW
    assert admitted(time=NOW + 301).timestamp == NOW
    assert admitted(time=NOW + 300).timestamp == NOW + 300
    assert admitted(time=-5).timestamp == -5


def test_the_ttl_counts_from_acceptance() -> None:
    assert admitted(ttl_s=100).expires_at == NOW + 100
    assert admitted(ttl_s=100, ttl=None).expires_at == NOW + 100
    assert admitted(ttl_s=100, ttl=7, time=5).expires_at == NOW + 7
    assert admitted(ttl_s=100, ttl=0).expires_at is None
    assert admitted(ttl_s=None).expires_at is None
    assert admitted(ttl_s=None, ttl=7).expires_at == NOW + 7


def test_importance_defaults_to_5() -> None:
    assert admitted().importance == 5
    assert admitted(importance=None).importance == 5
    assert admitted(importance=0).importance == 0
    assert admitted(importance=10).importance == 10


def test_admission_replaces_every_player_name() -> None:
    put = admitted(agent_id="survival:player:Bob", player="Bob")
    assert put.player == put.agent_player == OLD_AND_NEW.player("default", "Bob")
    assert put.agent_id == f"survival:player:{put.player}"
    assert "Bob" not in repr(put)


def test_the_memory_id_is_derived_from_the_event_id_or_random() -> None:
    assert admitted(id="1").memory_id == memory_id("default", "s", "a", "1")
    first, second = admitted().memory_id, admitted().memory_id
    assert first != second
    assert uuid.UUID(first).version == 4


def test_empty_strings_count_as_missing() -> None:
    put = admitted(text="it rained", type="", id="", player="")
    assert (put.type, put.player) == (None, None)
    assert put.memory_id != admitted(text="it rained", type="", id="", player="").memory_id


def test_a_text_is_generated_at_once_only_from_data_with_the_players_name() -> None:
    found = admitted(
        text="", type="trade", player="Sam", data={"with": "Sam", "item": "Samovar", "l": ["Sam"]}
    )
    assert found.text == "a player traded Samovar, with a player, l a player"
    assert found.data == {"with": "Sam", "item": "Samovar", "l": ["Sam"]}
    assert admitted(agent_id="player:Sam", text="", type="duel", data={"by": "Sam"}).text == (
        "a player duel, by a player"
    )
    assert admitted(agent_id="npc:Sam", text="", type="duel", data={"by": "npc:Sam"}).text is None
    assert admitted(text="", type="duel", player="Sam", data={"by": "Tom"}).text is None
    assert admitted(text="by Sam", player="Sam", data={"by": "Sam"}).text == "by Sam"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            {"player": "张三", "type": "chat", "data": {"message": "我是张三你好"}},
            "a player said: 我是a player你好",
        ),
        (
            {"player": "철수", "type": "chat", "data": {"message": "철수가 왔다"}},
            "a player said: a player가 왔다",
        ),
        (
            {"player": "Ян", "type": "chat", "data": {"message": "Ян: Январь"}},
            "a player said: a player: Январь",
        ),
        (
            {"player": "Jos\u00e9", "type": "me", "data": {"message": "Jose\u0301 sits"}},
            "a player a player sits",
        ),
        (
            {"player": "Jose\u0301", "type": "me", "data": {"message": "Jos\u00e9 sits"}},
            "a player a player sits",
        ),
        ({"player": "Zed", "type": "duel_Zed"}, "a player duel a player"),
        (
            {"player": "dig", "type": "dig", "data": {"by": "dig", "node": "tree"}},
            "a player dug tree, by a player",
        ),
        (
            {
                "player": "Al",
                "about": ["\u674e", "Alan", "Bo"],
                "type": "note",
                "data": {"a": "Alan, player:\u674e\u674e Bob Al"},
            },
            "a player note, a a player, a playera player Bob a player",
        ),
        (
            {"agent_id": "npc:smith", "about": ["Bob"], "type": "talk", "data": {"message": "Bob owes me"}},
            "said: a player owes me",
        ),
    ],
)
def test_a_generated_text_has_no_name_in_any_script_form_or_place(event: dict[str, Any], text: str) -> None:
    assert admitted(text="", **event).text == text


def test_many_names_in_a_long_text_are_searched_quickly() -> None:
    """With a look at what precedes each name, for each of them at each word, these took 2 seconds."""
    names = [f"a{number}" for number in range(64)]
    messages = [" ".join(["a"] * 7000), " ".join([*names, *["a"] * 6900])]
    began = time.thread_time()
    for message in messages * 8:
        admitted(text="", type="chat", about=names, data={"message": message})
    assert time.thread_time() - began < 1.0


# --- records -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tool", "reward", "interaction", "agent_state"])
def test_some_types_are_records_unless_recall_is_true(kind: str) -> None:
    assert not admitted(type=kind).recall
    assert not admitted(type=kind, recall=None).recall
    assert admitted(type=kind, recall=True).recall
    assert admitted(type="message").recall
    assert not admitted(type="message", recall=False).recall


def test_a_record_is_never_narrated() -> None:
    record = admitted(type="tool", text=None, player="bob", data={"input": "bob"})
    assert (record.text, record.data, record.recall) == (None, {"input": "bob"}, False)


@pytest.mark.parametrize(
    ("kind", "name", "bad", "good"),
    [
        ("message", "role", 1, "user"),
        ("message", "name", ["x"], "Hilda"),
        ("message", "conversation", 1.5, 3.0),
        ("message", "conversation", True, "c1"),
        ("tool", "tool", 1, "dig"),
        ("tool", "ok", "yes", False),
        ("tool", "took_ms", "3", 3.5),
        ("tool", "took_ms", True, 3),
        ("reward", "value", "1", -1e300),
        ("reward", "value", True, 0),
        ("reward", "components", {"a": "1"}, {"a": 1, "b": -0.5}),
        ("reward", "components", [1], []),
        ("agent_state", "bytes", "a", ""),
        ("agent_state", "bytes", "YQ==\n", "YQ=="),
        ("agent_state", "bytes", "ä", "____".replace("_", "/")),
        ("agent_state", "bytes", 7, None),
        ("agent_state", "codec", 7, "gzip"),
        ("agent_state", "encoder_version", {}, 7.0),
    ],
)
@pytest.mark.parametrize("place", ["data", "metadata"])
def test_the_known_fields_of_known_types_are_checked(
    kind: str, name: str, bad: Any, good: Any, place: str
) -> None:
    with pytest.raises(InvalidEvent) as caught:
        admitted(type=kind, **{place: {name: bad}})
    assert caught.value.path == f"{place}.{name}"
    for value in (good, None):
        assert getattr(admitted(type=kind, **{place: {name: value, "own": 1}}), place) == {
            name: value,
            "own": 1,
        }
    assert getattr(admitted(type="other", **{place: {name: bad}}), place) == {name: bad}


def test_a_record_may_have_64_kib_and_other_events_16() -> None:
    def sized(size: int, **fields: Any) -> bytes:
        padding = size - len(event(**fields, data={"p": ""}))
        return event(**fields, data={"p": "x" * padding})

    for fields in ({"type": "tool"}, {"recall": False}):
        assert parse_event(sized(MAX_RECORD_BYTES, **fields))
        with pytest.raises(EventTooLarge, match=str(MAX_RECORD_BYTES)):
            parse_event(sized(MAX_RECORD_BYTES + 1, **fields))
    for fields in ({}, {"type": "tool", "recall": True}, {"type": "message"}):
        assert parse_event(sized(MAX_EVENT_BYTES, **fields))
        with pytest.raises(EventTooLarge, match=str(MAX_EVENT_BYTES)):
            parse_event(sized(MAX_EVENT_BYTES + 1, **fields))
