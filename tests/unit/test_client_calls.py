"""Both clients against a scripted server: what each call sends, and how it reads the response."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from typing import Any

import pytest

from lorestream.client import (
    AsyncMemoryClient,
    Context,
    Erasure,
    InvalidValue,
    MemoryClient,
    Readiness,
    calls,
    documents,
    insight,
    learning,
    records,
    rewinds,
    webhooks,
)
from lorestream.client.blocking import json_lines
from lorestream.errors import LorestreamError
from tests.scripted_server import ACCEPTED, BlockingAdapter, ids, scripted_server


@pytest.fixture(params=[MemoryClient, BlockingAdapter], ids=["threads", "tasks"])
def connect(request: pytest.FixtureRequest) -> Any:
    """The constructor of either client."""
    return request.param


@pytest.mark.parametrize("client", [MemoryClient, AsyncMemoryClient])
def test_no_method_has_the_name_of_a_module_that_builds_calls(client):
    """In the body of the class that name would be the method, for all lines below it."""
    imported = vars(sys.modules[client.__module__])
    assert [name for name in vars(client) if inspect.ismodule(imported.get(name))] == []


def test_every_event_gets_an_id_unless_it_has_one(connect):
    with scripted_server((202, {**ACCEPTED, "accepted": 3})) as server, connect(server.url) as client:
        client.add_batch([{"agent_id": "a", "text": "x"}, {"agent_id": "a", "text": "x", "id": "mine"}])
        first, second = ids(server.requests)
    assert second == "mine"
    assert first not in {"", "mine"}


NAN, INF, SURROGATE = float("nan"), float("inf"), "\ud800"


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda: calls.add("a", "x", event={"importance": NAN}), "events[0].importance"),
        (lambda: calls.add("a", "x", event={"ttl": INF}), "events[0].ttl"),
        (
            lambda: calls.add("a", "x", event={"metadata": {"n": [1, {"m": -INF}]}}),
            "events[0].metadata.n[1].m",
        ),
        (lambda: calls.add("a", SURROGATE), "events[0].text"),
        (lambda: calls.add(SURROGATE, "x"), "events[0].agent_id"),
        (lambda: calls.add("a", "x", wait_s=INF), "wait_s"),
        (lambda: calls.search("a", "q", min_score=INF), "min_score"),
        (lambda: calls.search("a", "q", near={"x": NAN, "radius": 1}), "near.x"),
        (lambda: calls.search("a", "q", filters={"n": {"gt": NAN}}), "filters.n.gt"),
        (lambda: calls.search("a", SURROGATE), "query"),
        (lambda: calls.context("a", filters={"n": INF}), "filters.n"),
        (lambda: calls.context(SURROGATE), "agent_id"),
        (lambda: calls.recent("a", since=NAN), "since"),
        (lambda: calls.recent("a", type=SURROGATE), "type"),
        (lambda: calls.recent("a", filters={"n": NAN}), "filters.n"),
        (lambda: calls.get("m", SURROGATE), "agent_id"),
        (lambda: calls.get(SURROGATE, "a"), "memory_id"),
        (lambda: calls.forget_player(SURROGATE), "player"),
        (lambda: calls.erasure_done(Erasure(SURROGATE)), "erasure_id"),
    ],
)
def test_what_json_cannot_represent_is_refused_before_it_is_sent(call, path):
    """NaN and infinity would be sent as null: then 5, 30 days, or no bound would take their place."""
    with pytest.raises(InvalidValue) as caught:
        call()
    assert caught.value.path == path
    assert isinstance(caught.value, LorestreamError)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_line_of_json_ends_with_a_line_feed_alone(size):
    """U+2028, U+2029 and U+0085 stand in texts; U+001C ends a line for str.splitlines, too."""
    lines = [json.dumps({"text": f"good{end}bye"}, ensure_ascii=False).encode() for end in "\u2028\u2029\x85"]
    sent = b"\n" + b"\n\n".join(lines) + b"\n" + b'{"text": "cut'
    assert list(json_lines(sent[at : at + size] for at in range(0, len(sent), size))) == lines


def test_ids_are_one_path_segment(connect):
    empty = {"memories": [], "total": 0, "next_cursor": None}
    with scripted_server((200, empty)) as server, connect(server.url) as client:
        for agent_id in ("a/b", "..", "ä?#%2F"):
            client.recent(agent_id, 1)
    paths = [request["path"] for request in server.requests]
    assert paths == [
        "/v1/agents/a%2Fb/memories?limit=1",
        "/v1/agents/%2E%2E/memories?limit=1",
        "/v1/agents/%C3%A4%3F%23%252F/memories?limit=1",
    ]


def test_every_call_sends_the_key_and_reads_go_to_the_query_url(connect):
    answer = {"memories": [], "cache": "miss", "fresh": True, "took_ms": 1.0}
    with (
        scripted_server((202, ACCEPTED)) as writes,
        scripted_server((200, answer)) as reads,
        connect(writes.url, query_url=reads.url, api_key="id.secret") as client,
    ):
        client.add("a", "x", event={"type": "chat", "ttl": 60}, wait_s=1.5)
        client.search(["a", "b"], "q", 3, filters={"type": "chat"}, mode="dense")
    (write,), (read,) = writes.requests, reads.requests
    assert {write["key"], read["key"]} == {"Bearer id.secret"}
    assert write["path"] == "/v1/events?wait=indexed&timeout_ms=1500"
    assert (
        write["body"]["events"][0].items()
        >= {"agent_id": "a", "text": "x", "type": "chat", "ttl": 60}.items()
    )
    assert read["body"] == {
        "agent_ids": ["a", "b"],
        "query": "q",
        "k": 3,
        "filters": {"type": "chat"},
        "mode": "dense",
    }


def test_a_search_sends_what_was_given_and_nothing_else(connect):
    near, weights = {"x": 1.0, "radius": 5.0}, {"relevance": 1.0, "recency": 0.5}
    with scripted_server((200, {"memories": []})) as server, connect(server.url) as client:
        client.search("a")
        client.search("a", near=near, weights=weights, explain=True, min_score=0.0, after="t", wait_s=1.5)
    bare, full = (request["body"] for request in server.requests)
    assert bare == {"agent_id": "a", "k": 5}
    assert full == {
        **bare,
        "near": near,
        "weights": weights,
        "explain": True,
        "min_score": 0.0,
        "after": "t",
        "wait_ms": 1500,
    }


def test_a_page_sends_what_was_given(connect):
    empty = {"memories": [], "total": 0, "next_cursor": None}
    with scripted_server((200, empty)) as server, connect(server.url) as client:
        client.recent(
            "a", 7, cursor="c", order="oldest", type="dig", tick_from=0, until=2.5, filters={"n": "ä&"}
        )
    path = "/v1/agents/a/memories?limit=7&cursor=c&order=oldest&type=dig&tick_from=0&until=2.5"
    assert server.requests[0]["path"] == path + "&filters=%7B%22n%22%3A%22%C3%A4%26%22%7D"


def test_a_context_within_a_budget(connect):
    memory = {"id": "m1", "agent_id": "a/b", "text": "x", "timestamp": 1.5}
    answer = {"recent": [memory], "relevant": [{**memory, "score": 0.5}], "text": "x", "tokens": 1}
    with scripted_server((200, answer)) as server, connect(server.url) as client:
        found = client.context("a/b", "q", recent=0, token_budget=500, after="t", wait_s=1)
        client.context("a/b")
    first, second = server.requests
    assert (first["method"], first["path"]) == ("POST", "/v1/agents/a%2Fb/context")
    assert first["body"] == {"query": "q", "recent": 0, "token_budget": 500, "after": "t", "wait_ms": 1000}
    assert second["body"] == {}
    assert isinstance(found, Context)
    assert (found.recent[0].text, found.relevant[0].score, found.text, found.tokens) == ("x", 0.5, "x", 1)


def test_an_erasure_can_be_followed(connect):
    with (
        scripted_server((200, {"state": "running"}), (200, {"state": "done"})) as server,
        connect(server.url) as client,
    ):
        assert not client.erasure_done(Erasure("e/1"))
        assert client.erasure_done(Erasure("e/1"))
    assert server.requests[0]["path"] == "/v1/erasures/e%2F1"


def test_erasures_are_listed(connect):
    proof = {"state": "done", "accepted_at": 1.0, "log_gone_by": 2.0, "dead_letters_gone_by": 3.0}
    listed = {"erasure_id": "e1", "kind": "agent", "subjects": ["npc:a"], **proof}
    with scripted_server((200, {"erasures": [listed]})) as server, connect(server.url) as client:
        [erasure] = client.erasures(limit=5)
    assert (erasure.subjects, erasure.log_gone_by) == (["npc:a"], 2.0)
    assert server.requests[0]["path"] == "/v1/erasures?limit=5"


@pytest.mark.parametrize(
    ("agent_id", "named"),
    [("a", {"agent_id": "a"}), (["a", "b"], {"agent_ids": ["a", "b"]}), (None, {"scope": "tenant"})],
)
def test_a_map_by_likeness_names_its_agents(connect, agent_id, named):
    point = {"id": "m1", "agent_id": "a", "type": None, "timestamp": 1.0, "text": "t", "x": 0.5, "y": -1.0}
    answer = {"points": [point], "explained": [0.4, 0.1], "total": 7}
    with scripted_server((200, answer)) as server, connect(server.url) as client:
        found = client.likeness(agent_id, 10, type="dig")
    assert (found.points[0].y, found.explained, found.total) == (-1.0, (0.4, 0.1), 7)
    assert server.requests[0]["body"] == {"limit": 10, "type": "dig", **named}


@pytest.mark.parametrize("kind", [MemoryClient, AsyncMemoryClient])
def test_both_clients_have_every_call_with_signature_and_docstring(kind):
    built = [
        build
        for module in (calls, records, documents, insight, learning, rewinds, webhooks)
        for name, build in inspect.getmembers(module, inspect.isfunction)
        if build.__module__ == module.__name__ and not name.startswith("_")
    ]
    assert len(built) >= 40
    with contextlib.closing(MemoryClient()) as threads:
        client = threads if kind is MemoryClient else kind()
        for build in built:
            method = getattr(client, build.__name__)
            assert method.__doc__ == build.__doc__
            assert list(inspect.signature(method).parameters) == list(inspect.signature(build).parameters)
    assert str(inspect.signature(kind.agents)).endswith("-> 'list[AgentTotal]'")


def test_not_ready_is_a_result(connect):
    with (
        scripted_server((503, {"status": "unavailable", "checks": {"indexer": "stands still"}})) as server,
        connect(server.url) as client,
    ):
        assert client.ready() == Readiness("unavailable", {"indexer": "stands still"})
        assert not client.ready().ok


def test_erasures_name_one_subject(connect):
    with scripted_server((202, {"erasure_id": "e1", "token": "t"})) as server, connect(server.url) as client:
        client.delete("m1", "..")
        client.forget("a/b")
        client.forget_player("Ann")
    assert [request["body"] for request in server.requests] == [
        {"memory_id": "m1", "agent_id": ".."},
        {"agent_id": "a/b"},
        {"player": "Ann"},
    ]
