"""Envelopes: encoding, decoding, and the reasons why a record is unreadable."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from lorestream import events
from lorestream.errors import InvalidEvent
from lorestream.events import Delete, Envelope, Erase, Put
from lorestream.memories import SubjectKind
from lorestream.ports import Record
from tests.parts import put, records

FULL = put(
    "x",
    type="dig",
    data={"a": 1, "b": [None, True, "ä"]},
    metadata={"a": 2.5},
    player="k1:p",
    agent_player="k1:q",
    pos={"x": 1.5},
    tick=3.0,
    importance=0.0,
    expires_at=9.5,
)
DELETE = Delete("t", "a", "m", 5.0)
ERASE = Erase("t", "e", "player", ("k2:p", "k1:p"), 5.0)


@pytest.mark.parametrize("envelope", [FULL, put("x"), put(type="dig"), DELETE, ERASE])
def test_envelopes_survive_encoding_and_decoding(envelope: Envelope) -> None:
    [record] = records(envelope)
    assert events.decode(record) == envelope
    assert record.headers["kind"].decode() == json.loads(record.value)["op"]


def test_records_are_keyed_by_agent_and_erasures_by_first_subject() -> None:
    keys = [record.key for record in records(FULL, DELETE, ERASE)]
    assert keys == [b'["default","a"]', b'["t","a"]', b'["t","k2:p"]']


def test_headers_have_the_event_id_and_traceparent_if_given() -> None:
    bare = events.encode(DELETE).headers
    assert bare == {"schema": b"1", "kind": b"delete", "tenant": b"t"}
    full = events.encode(DELETE, event_id="ä1", traceparent=b"00-x").headers
    assert full == {**bare, "event_id": "ä1".encode(), "traceparent": b"00-x"}


def test_unknown_fields_are_ignored() -> None:
    [record] = records(FULL)
    value = json.loads(record.value) | {"mood": {"grim": 1}}
    later = Record(0, 0, record.key, json.dumps(value).encode(), record.headers, 0.0)
    assert events.decode(later) == FULL


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"rubbish",
        b"\xff",
        b"[]",
        b"{}",
        b'{"op": "update"}',
        b'{"op": "put"}',
        b'{"op": "delete", "tenant": "t", "agent_id": "a", "memory_id": 3, "accepted_at": 1}',
        b'{"op": "delete", "tenant": "\xff", "agent_id": "a", "memory_id": "m", "accepted_at": 1}',
        b'{"op": "erase", "tenant": "t", "erasure_id": "e", "kind": "world", "subjects": [], "accepted_at": 1}',
        b'{"op": "put", "data": %s' % (b"[" * 100_000),
    ],
)
def test_an_invalid_value_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidEvent):
        events.decode(Record(0, 0, b"", value, {"schema": b"1"}, 0.0))


@pytest.mark.parametrize("headers", [{}, {"schema": b"2"}, {"schema": b""}])
def test_an_unknown_version_is_refused(headers: dict[str, bytes]) -> None:
    with pytest.raises(InvalidEvent, match="schema version"):
        events.decode(Record(0, 0, b"", msgspec.json.encode(FULL), headers, 0.0))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"headers": {"schema": b"2"}}, "unknown_schema"),
        ({"value": b""}, "empty"),
        ({"value": b"rubbish"}, "undecodable"),
        ({"value": b'{"op": "put", "text": "%s"}' % (b"x" * events.MAX_VALUE_BYTES)}, "too_large"),
        ({"key": b'["t","somebody else"]'}, "wrong_key"),
        ({"key": b""}, "wrong_key"),
    ],
)
def test_an_unreadable_record_has_a_reason(change: dict[str, Any], reason: str) -> None:
    [record] = records(FULL)
    with pytest.raises(events.Unreadable) as caught:
        events.decode(replace(record, **change))
    assert caught.value.reason == reason


def test_metadata_of_a_memory_overrides_the_data() -> None:
    memory = FULL.memory("told")
    assert memory.metadata == {"a": 2.5, "b": [None, True, "ä"]}
    assert (memory.text, memory.id, memory.server) == ("told", FULL.memory_id, "s")
    assert (memory.player, memory.agent_player, memory.expires_at) == ("k1:p", "k1:q", 9.5)
    assert (memory.importance, memory.tick, memory.pos) == (0.0, 3.0, {"x": 1.5})
    assert Put.memory(put("x"), "x").metadata == {}


def test_deletions_become_tombstones_and_ledger_entries() -> None:
    tombstone, erasure = DELETE.tombstone(), ERASE.erasure()
    assert (tombstone.tenant, tombstone.agent_id, tombstone.memory_id, tombstone.deleted_at) == (
        "t",
        "a",
        "m",
        5.0,
    )
    assert (erasure.id, erasure.kind, erasure.subjects) == ("e", SubjectKind.PLAYER, ("k2:p", "k1:p"))
