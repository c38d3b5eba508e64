"""The clients' calls of documents, records and learning against a scripted server."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from lorestream.client import (
    BadRequest,
    InvalidValue,
    MemoryClient,
    NotFound,
    Unreachable,
    VersionConflict,
    VersionGone,
    documents,
    learning,
    records,
)
from tests.scripted_server import ACCEPTED, HANG_UP, BlockingAdapter, refused, scripted_server

RECEIPT = {"event_id": "e1", "token": "t"}
APPLIED = {**RECEIPT, "applied": True, "version": 7}
ENTITY = {"type": "character", "id": "npc:ada", "version": 7, "data": {"name": "Ada"}, "updated_at": 5.0}
EMPTY_PAGE = {"memories": [], "total": 0, "next_cursor": None}
NAN = float("nan")


@pytest.fixture(params=[MemoryClient, BlockingAdapter], ids=["threads", "tasks"])
def connect(request: pytest.FixtureRequest) -> Any:
    """The constructor of either client."""
    return request.param


WRITES = [
    pytest.param(
        lambda c: c.put_entity("character", "npc:ada", {"name": "Ada"}, tick=3, if_version=0, event_id="e1"),
        ("PUT", "/v1/entities/character/npc%3Aada"),
        {"data": {"name": "Ada"}, "tick": 3, "if_version": 0, "event_id": "e1"},
        id="put_entity",
    ),
    pytest.param(
        lambda c: c.patch_entity("character", "a/b", {"mood": None}, event_id="e1"),
        ("PATCH", "/v1/entities/character/a%2Fb"),
        {"data": {"mood": None}, "event_id": "e1"},
        id="patch_entity",
    ),
    pytest.param(
        lambda c: c.delete_entity("character", "npc:ada", if_version=6, event_id="e1"),
        ("POST", "/v1/entities/character/npc%3Aada/delete"),
        {"if_version": 6, "event_id": "e1"},
        id="delete_entity",
    ),
    pytest.param(
        lambda c: c.rollback("character", "npc:ada", 5, event_id="e1"),
        ("POST", "/v1/entities/character/npc%3Aada/rollback"),
        {"to": 5, "event_id": "e1"},
        id="rollback",
    ),
    pytest.param(
        lambda c: c.q_update(
            "npc:ada",
            [{"state": "s1", "action": "dig", "op": "toward", "value": 1.0, "alpha": 0.1}],
            table="deep",
            event_id="e1",
        ),
        ("POST", "/v1/q/npc%3Aada/update"),
        {
            "table": "deep",
            "event_id": "e1",
            "updates": [{"state": "s1", "action": "dig", "op": "toward", "value": 1.0, "alpha": 0.1}],
        },
        id="q_update",
    ),
    pytest.param(
        lambda c: c.put_policy(
            "npc:ada", b"\x00\xff", name="walk", format="raw", if_version=2, event_id="e1"
        ),
        ("PUT", "/v1/policies/npc%3Aada?name=walk&format=raw&if_version=2&event_id=e1"),
        b"\x00\xff",
        id="put_policy",
    ),
    pytest.param(
        lambda c: c.rollback_policy("npc:ada", 1, name="walk", event_id="e1"),
        ("POST", "/v1/policies/npc%3Aada/rollback?name=walk"),
        {"to": 1, "event_id": "e1"},
        id="rollback_policy",
    ),
    pytest.param(
        lambda c: c.delete_policy("npc:ada", event_id="e1"),
        ("POST", "/v1/policies/npc%3Aada/delete"),
        {"event_id": "e1"},
        id="delete_policy",
    ),
]


@pytest.mark.parametrize(("write", "line", "body"), WRITES)
def test_a_write_sends_its_fields_and_goes_to_the_gateway(connect, write, line, body):
    with (
        scripted_server((202, RECEIPT)) as server,
        connect(server.url, query_url="http://127.0.0.1:1") as client,
    ):
        receipt = write(client)
    (request,) = server.requests
    assert (request["method"], request["path"]) == line
    assert request["body"] == body
    assert (receipt.event_id, receipt.token, receipt.applied, receipt.version) == ("e1", "t", False, None)


@pytest.mark.parametrize(
    "fault", [(HANG_UP, None), (429, refused("overloaded", retry_after_ms=1)), (503, refused("x"))]
)
@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.put_entity("character", "a", {}, wait_s=2),
        lambda c: c.patch_entity("character", "a", {}, wait_s=2),
        lambda c: c.delete_entity("character", "a", wait_s=2),
        lambda c: c.rollback("character", "a", 1, wait_s=2),
        lambda c: c.q_update("a", [{"state": "s", "action": "b", "op": "add", "value": 1.0}], wait_s=2),
        lambda c: c.put_policy("a", b"x", wait_s=2),
        lambda c: c.rollback_policy("a", 1, wait_s=2),
        lambda c: c.delete_policy("a", wait_s=2),
    ],
)
def test_a_retry_is_the_same_write(fault, write):
    """With another event id, a write whose answer was lost would be applied twice."""
    with scripted_server(fault, (200, APPLIED)) as server, MemoryClient(server.url) as client:
        receipt = write(client)
    first, second = server.requests
    assert first == second
    assert "wait=applied&timeout_ms=2000" in first["path"]
    assert "event_id" in (first["path"] if isinstance(first["body"], bytes) else first["body"])
    assert (receipt.applied, receipt.version) == (True, 7)


def test_each_write_has_an_event_id_of_its_own(connect):
    with scripted_server((202, RECEIPT)) as server, connect(server.url) as client:
        client.put_entity("character", "a", {})
        client.put_entity("character", "a", {})
    first, second = (request["body"]["event_id"] for request in server.requests)
    assert first != second


def test_a_version_conflict_says_the_present_version(connect):
    conflict = refused("version_conflict", details={"current": 9})
    with (
        scripted_server((409, conflict)) as server,
        connect(server.url) as client,
        pytest.raises(VersionConflict) as caught,
    ):
        client.put_entity("character", "a", {}, if_version=6, wait_s=1)
    assert (caught.value.current, caught.value.status) == (9, 409)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(404, "not_found", NotFound), (410, "version_gone", VersionGone), (409, "too_many_states", BadRequest)],
)
def test_each_refusal_has_its_exception(connect, status, code, kind):
    with (
        scripted_server((status, refused(code))) as server,
        connect(server.url) as client,
        pytest.raises(kind) as caught,
    ):
        client.entity("character", "a", version=3)
    assert type(caught.value) is kind
    assert caught.value.code == code


READS = [
    pytest.param(
        lambda c: c.entity("character", "npc:ada", version=7, after="t", wait_s=0.5),
        "/v1/entities/character/npc%3Aada?version=7&after=t&wait_ms=500",
        ENTITY,
        lambda found: (
            (found.version, found.data, found.tick, found.fresh) == (7, {"name": "Ada"}, None, True)
        ),
        id="entity",
    ),
    pytest.param(
        lambda c: c.entities("character", prefix="npc:", limit=2, cursor="c"),
        "/v1/entities/character?prefix=npc%3A&limit=2&cursor=c",
        {"entities": [ENTITY], "next_cursor": "d"},
        lambda page: ([one.id for one in page.entities], page.next_cursor) == (["npc:ada"], "d"),
        id="entities",
    ),
    pytest.param(
        lambda c: c.versions("character", "npc:ada"),
        "/v1/entities/character/npc%3Aada/versions?limit=20",
        {"versions": [{**ENTITY, "version": 8, "data": None, "deleted": True}, ENTITY], "next_cursor": None},
        lambda page: [(one.version, one.data) for one in page.versions] == [(8, None), (7, {"name": "Ada"})],
        id="versions",
    ),
    pytest.param(
        lambda c: c.entity_write("character", "npc:ada", "e/1", after="t"),
        "/v1/entities/character/npc%3Aada/writes/e%2F1?after=t",
        {"applied": False, "code": "version_conflict", "current": 7},
        lambda outcome: (outcome.applied, outcome.code, outcome.current) == (False, "version_conflict", 7),
        id="entity_write",
    ),
    pytest.param(
        lambda c: c.q_table("npc:ada", cursor="c"),
        "/v1/q/npc%3Aada?cursor=c",
        {"values": {"s1": {"dig": {"q": 0.4, "n": 12}}}, "next_cursor": "d"},
        lambda page: (page.values["s1"]["dig"].q, page.next_cursor) == (0.4, "d"),
        id="q_table",
    ),
    pytest.param(
        lambda c: c.q_write("npc:ada", "e1", table="deep"),
        "/v1/q/npc%3Aada/writes/e1?table=deep",
        {"applied": False, "code": "too_many_states"},
        lambda outcome: (outcome.applied, outcome.code) == (False, "too_many_states"),
        id="q_write",
    ),
    pytest.param(
        lambda c: c.policy_versions("npc:ada", name="walk"),
        "/v1/policies/npc%3Aada/versions?name=walk&limit=20",
        {
            "versions": [
                {"version": 2, "format": None, "deleted": True},
                {"version": 1, "format": "npy", "size": 9},
            ]
        },
        lambda page: [(one.deleted, one.size) for one in page.versions] == [(True, None), (False, 9)],
        id="policy_versions",
    ),
    pytest.param(
        lambda c: c.policy_write("npc:ada", "e1", after="t", wait_s=1),
        "/v1/policies/npc%3Aada/writes/e1?after=t&wait_ms=1000",
        {"applied": True, "version": 3},
        lambda outcome: (outcome.applied, outcome.version) == (True, 3),
        id="policy_write",
    ),
    pytest.param(
        lambda c: c.relations("npc:ada", 5),
        "/v1/agents/npc%3Aada/relations?limit=5",
        {"relations": [{"with": "npc:bo", "total": 2, "last": 5.0, "valence": None}]},
        lambda found: [(one.other, one.total, one.valence) for one in found] == [("npc:bo", 2, None)],
        id="relations",
    ),
    pytest.param(
        lambda c: c.summary("npc:ada"),
        "/v1/agents/npc%3Aada/summary",
        {"agent_id": "npc:ada", "total": 2, "by_type": {"dig": 2}, "first": 1.0, "last": 2.0},
        lambda summary: summary.by_type == {"dig": 2},
        id="summary",
    ),
    pytest.param(
        lambda c: c.messages("npc:ada", 5, conversation="c1", order="oldest"),
        "/v1/agents/npc%3Aada/memories?limit=5&order=oldest&type=message&conversation=c1",
        EMPTY_PAGE,
        lambda page: page.total == 0,
        id="messages",
    ),
    pytest.param(
        lambda c: c.rewards("npc:ada", since=5.0),
        "/v1/agents/npc%3Aada/memories?limit=20&type=reward&since=5.0",
        EMPTY_PAGE,
        lambda page: page.total == 0,
        id="rewards",
    ),
    pytest.param(
        lambda c: c.interactions("npc:ada", tick_from=3),
        "/v1/agents/npc%3Aada/memories?limit=20&type=interaction&tick_from=3",
        EMPTY_PAGE,
        lambda page: page.total == 0,
        id="interactions",
    ),
]


@pytest.mark.parametrize(("read", "path", "answer", "holds"), READS)
def test_a_read_sends_what_was_given_and_decodes_the_answer(connect, read, path, answer, holds):
    with (
        scripted_server((200, answer)) as server,
        connect("http://127.0.0.1:1", query_url=server.url) as client,
    ):
        assert holds(read(client))
    assert [(request["method"], request["path"]) for request in server.requests] == [("GET", path)]


def test_values_of_states(connect):
    answer = {"values": {"s1": {"dig": {"q": 0.4, "n": 12}}}, "fresh": True}
    with scripted_server((200, answer)) as server, connect(server.url) as client:
        found = client.q_values("npc:ada", ["s1", "s2"], after="t", wait_s=1)
    assert (found.values["s1"]["dig"].n, set(found.values), found.fresh) == (12, {"s1"}, True)
    assert server.requests[0]["body"] == {"states": ["s1", "s2"], "after": "t", "wait_ms": 1000}


def test_an_aggregation_asks_for_rewards_unless_another_type_is_named(connect):
    bucket = {
        "start": 0.0,
        "count": 2,
        "sum": 3.0,
        "mean": 1.5,
        "min": 1.0,
        "max": 2.0,
        "std": 0.5,
        "last": 2.0,
    }
    with scripted_server((200, {"buckets": [bucket]})) as server, connect(server.url) as client:
        (found,) = client.aggregate("npc:ada", every_s=60)
        client.aggregate("npc:ada", "tool", "metadata.took_ms", filters={"tool": "search"})
    assert (found.sum, found.std) == (3.0, 0.5)
    assert [request["body"] for request in server.requests] == [
        {"type": "reward", "field": "metadata.value", "every_s": 60},
        {"type": "tool", "field": "metadata.took_ms", "filters": {"tool": "search"}},
    ]


def test_memories_by_their_ids_and_vectors(connect):
    vector = b"\x00\x00\x80?"
    answer = {
        "memories": [
            {
                "id": "m1",
                "agent_id": "a",
                "text": "x",
                "timestamp": 1.0,
                "vector": base64.b64encode(vector).decode(),
            },
            {"id": "m2", "agent_id": "a", "text": "", "timestamp": 1.0, "vector": None},
        ]
    }
    with scripted_server((200, answer)) as server, connect(server.url) as client:
        found = client.get_many("a", ["m1", "m2", "m3"], vectors=True)
    assert [memory.vector for memory in found] == [vector, None]
    assert server.requests[0]["body"] == {"agent_id": "a", "ids": ["m1", "m2", "m3"], "vectors": True}


@pytest.mark.parametrize(
    ("write", "type_", "text", "data"),
    [
        (
            lambda c: c.message("a", "hi", role="user", name="Ada", conversation="c1"),
            "message",
            "hi",
            {"role": "user", "name": "Ada", "conversation": "c1"},
        ),
        (
            lambda c: c.tool("a", "search", input={"q": 1}, output=[], ok=False, took_ms=2.5),
            "tool",
            None,
            {"tool": "search", "input": {"q": 1}, "output": [], "ok": False, "took_ms": 2.5},
        ),
        (
            lambda c: c.reward("a", -1, components={"ore": 2, "fall": -3}),
            "reward",
            None,
            {"value": -1, "components": {"ore": 2, "fall": -3}},
        ),
        (
            lambda c: c.interaction("a", "where?", {"text": "north"}, 1),
            "interaction",
            None,
            {"request": "where?", "response": {"text": "north"}, "feedback": 1},
        ),
        (
            lambda c: c.put_state("a", b"\x00\xff", codec="zlib", encoder_version=3),
            "agent_state",
            None,
            {"bytes": "AP8=", "codec": "zlib", "encoder_version": 3},
        ),
    ],
)
def test_a_record_is_an_event_of_its_type(connect, write, type_, text, data):
    with scripted_server((202, ACCEPTED)) as server, connect(server.url) as client:
        assert write(client).ids == ["m1"]
    (event,) = server.requests[0]["body"]["events"]
    assert (event["type"], event.get("text"), event["data"]) == (type_, text, data)
    assert event["id"]


def test_the_further_fields_of_a_record_come_with_event(connect):
    with scripted_server((202, ACCEPTED)) as server, connect(server.url) as client:
        client.reward("a", 1.0, event={"tick": 7, "metadata": {"episode": 2}, "id": "mine"}, server="s1")
    (event,) = server.requests[0]["body"]["events"]
    assert (event["tick"], event["metadata"], event["id"]) == (7, {"episode": 2}, "mine")
    assert server.requests[0]["body"]["server"] == "s1"


def _state_record(**changed: Any) -> dict[str, Any]:
    metadata = {"bytes": "AP8=", "codec": "zlib", "encoder_version": 3, "room": "mine"}
    record = {
        "id": "m1",
        "agent_id": "a",
        "text": "",
        "timestamp": 1.0,
        "type": "agent_state",
        "metadata": metadata,
    }
    return {**record, **changed}


def test_states_come_back_as_bytes(connect):
    page = {"memories": [_state_record()], "total": 1, "next_cursor": None}
    with scripted_server((200, _state_record()), (200, page)) as server, connect(server.url) as client:
        one = client.state("m1", "a")
        (same,) = client.states("a", 5).states
    assert one == same
    assert (one.data, one.codec, one.encoder_version, one.metadata) == (
        b"\x00\xff",
        "zlib",
        3,
        {"room": "mine"},
    )
    assert server.requests[1]["path"] == "/v1/agents/a/memories?limit=5&type=agent_state"


def test_a_memory_is_no_state(connect):
    with (
        scripted_server((200, _state_record(type="chat"))) as server,
        connect(server.url) as client,
        pytest.raises(NotFound),
    ):
        client.state("m1", "a")


def test_a_policy_is_checked_against_its_sha256(connect):
    data = b"weights" * 1000
    with scripted_server((200, data)) as server, connect(server.url, retry_timeout_s=0) as client:
        server.headers.update(
            {"X-Lorestream-Version": "3", "X-Lorestream-Format": "npy", "X-Lorestream-Fresh": "false"}
        )
        server.headers["ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
        found = client.policy("npc:ada", name="walk", version=3)
        server.headers["ETag"] = '"0000"'
        with pytest.raises(Unreachable, match="SHA-256"):
            client.policy("npc:ada")
    assert (found.data, found.sha256) == (data, hashlib.sha256(data).hexdigest())
    assert (found.version, found.format, found.fresh) == (3, "npy", False)
    assert server.requests[0]["path"] == "/v1/policies/npc%3Aada?name=walk&version=3"


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda: documents.put_entity("character", "a", {"x": [NAN]}), "data.x[0]"),
        (lambda: documents.put_entity("character", "\ud800", {}), "id"),
        (lambda: documents.entity("\ud800", "a"), "type"),
        (lambda: documents.entity("character", "a", at=NAN), "at"),
        (lambda: documents.put_entity("character", "a", {}, tick=NAN), "tick"),
        (lambda: documents.rollback("character", "a", 1, wait_s=NAN), "wait_s"),
        (
            lambda: learning.q_update("a", [{"state": "s", "action": "b", "op": "add", "value": NAN}]),
            "updates[0].value",
        ),
        (lambda: learning.q_values("a", ["s", "\ud800"]), "states[1]"),
        (lambda: learning.put_policy("a", b"x", name="\ud800"), "name"),
        (lambda: records.reward("a", NAN), "events[0].data.value"),
        (lambda: records.aggregate("a", every_s=NAN), "every_s"),
    ],
)
def test_what_json_cannot_represent_is_refused_before_it_is_sent(call, path):
    with pytest.raises(InvalidValue) as caught:
        call()
    assert caught.value.path == path
