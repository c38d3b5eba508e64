"""What is valid, and that each door and each reader uses the same definition."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from lorestream import limits
from lorestream.adapters.qdrant.payload import decode_memory, encode_memory
from lorestream.admin.export_format import ExportedMemory, parse_line
from lorestream.client.models import FoundMemory
from lorestream.errors import InvalidEvent, InvalidRequest, InvalidToken
from lorestream.grpc import server as grpc_server
from lorestream.identity import Pseudonyms
from lorestream.langgraph.items import agent_of, item
from lorestream.memories import Memory
from lorestream.tokens import parse_token, token
from producers.admission import Admission, parse_event
from query_service.queries import resolve_agents
from stream_workers.rebuild.replay import ReplayArguments

NOW = 1_760_000_000.0
PSEUDONYMS = Pseudonyms.parse("k1:test")


def event(**fields: Any) -> bytes:
    return json.dumps({"agent_id": "a", "text": "x"} | fields).encode()


def admitted(**fields: Any) -> Memory:
    """The memory that an event becomes."""
    admission = Admission(PSEUDONYMS, None)
    put = admission.admit(parse_event(event(**fields)), tenant="default", server="s", accepted_at=NOW)
    return put.memory(put.text or "")


def exported(memory: Memory) -> bytes:
    return msgspec.json.encode(ExportedMemory.from_memory(memory))


def nested(levels: int) -> dict[str, Any]:
    """An object with this number of levels, itself included, and a number in the innermost."""
    value: Any = 1
    for level in range(levels - 1):
        value = [value] if level % 2 else {"a": value}
    return {"n": value}


@pytest.mark.parametrize("time", [-1e19, -1e300, -62_135_596_800.5, 253_402_300_800, 1e19, 1.76e15])
def test_a_time_outside_the_years_1_to_9999_is_refused(time: float) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse_event(event(time=time))
    assert caught.value.path == "time"


@pytest.mark.parametrize("time", [limits.MIN_TIME, -1.5, 0, NOW])
def test_a_time_in_the_years_1_to_9999_is_kept(time: float) -> None:
    assert admitted(time=time).timestamp == time


@pytest.mark.parametrize(("time", "year"), [(-1e300, 1), (-1e19, 1), (1e19, 9999), (0.0, 1970)])
def test_readers_clamp_the_time_of_an_old_memory(time: float, year: int) -> None:
    """Such times were accepted once: gRPC and LangGraph clamp them, an import keeps them."""
    old = Memory("m", "default", "a", "x", time, NOW)
    message = grpc_server._message(grpc_server.Hit("a", old, 1.0))
    assert limits.utc(message.timestamp).year == year
    assert message.time == time
    assert item(FoundMemory("m", "a", "x", time)).updated_at.year == year
    imported = parse_line(exported(old), NOW)
    assert imported.timestamp == time


def test_what_32_levels_of_metadata_are_is_counted_alike_by_the_door_the_store_and_the_import() -> None:
    deepest = admitted(metadata=nested(limits.MAX_DEPTH), data={"d": [{}]})
    assert decode_memory(encode_memory(deepest)) == deepest
    line = parse_line(exported(deepest), NOW)
    assert line.to_event().memory(line.text) == deepest
    deeper = Memory("m", "default", "a", "x", NOW, NOW, metadata=nested(limits.MAX_DEPTH + 1))
    with pytest.raises(InvalidEvent, match="levels") as caught:
        parse_event(event(metadata=dict(deeper.metadata)))
    assert caught.value.path == "metadata"
    with pytest.raises(InvalidEvent, match="levels"):
        encode_memory(deeper)
    with pytest.raises(InvalidRequest, match="levels"):
        parse_line(exported(deeper), NOW)


def test_an_agent_that_is_listed_with_318_characters_can_be_asked_for() -> None:
    named = "L" * 240 + ":player:bob"
    stored = admitted(agent_id=named).agent_id
    assert len(stored) > limits.MAX_AGENT_ID_CHARS
    assert resolve_agents(PSEUDONYMS, "default", [stored]).scope.agents == (stored,)
    assert agent_of((stored,)) == stored
    assert admitted(agent_id=stored).agent_id == stored


@pytest.mark.parametrize(
    "agent_id", ["", "a" * 257, "a" * 257 + ":k1:" + "0" * 64, "a" * 200 + ":k1:" + "0" * 64 + "\n"]
)
def test_an_agent_id_that_is_named_too_long_is_refused(agent_id: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve_agents(PSEUDONYMS, "default", [agent_id])
    assert caught.value.path == "agent_id"
    with pytest.raises(InvalidEvent) as refused:
        parse_event(event(agent_id=agent_id))
    assert refused.value.path == "agent_id"


@pytest.mark.parametrize("partitions", [250, limits.MAX_EVENTS])
def test_a_token_may_name_as_many_partitions_as_a_write_can_touch(partitions: int) -> None:
    positions = {9_999 - number: 2**63 - 1 - number for number in range(partitions)}
    assert parse_token(token(positions)) == positions
    with pytest.raises(InvalidToken):
        parse_token(token(positions) + "A" * 64 * 1024)


@pytest.mark.parametrize(
    ("line", "field"),
    [(ExportedMemory("m", "b\n", "a", "x", NOW, NOW), "tenant"), (ReplayArguments("b\n"), "to")],
)
def test_a_name_with_a_line_break_at_its_end_is_refused(line: msgspec.Struct, field: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.json.decode(msgspec.json.encode(line), type=type(line))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, {"b": float("nan")}]}, "m.a[1].b"),
        ({"a": float("-inf")}, "m.a"),
        ({"a": 2**63}, "m.a"),
        ({"a": ["\ud800"]}, "m.a[0]"),
        ({"a": {"\udfff": 1}}, "m.a"),
    ],
)
def test_the_path_of_what_cannot_be_stored_is_named(value: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        limits.check_json(value, "m")
    assert caught.value.path == path


def test_what_json_can_hold_can_be_stored() -> None:
    limits.check_json({"a": [None, True, -(2**63), 2**63 - 1, 1.5, "木\u2028\x00"], "": {}}, "m")
