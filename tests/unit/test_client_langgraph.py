"""The LangGraph store: translation of namespaces, items and filters, and what it refuses without a request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.store import base

from lorestream.client import AsyncMemoryClient, Forbidden, MemoryClient
from lorestream.errors import Misconfigured, Unavailable
from lorestream.langgraph import LorestreamStore, items, namespaces
from tests.scripted_server import ACCEPTED, refused, scripted_server

LABELS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters=".\0"), min_size=1, max_size=8),
    min_size=1,
    max_size=5,
)
NOTHING = (200, {"memories": []})


@given(LABELS)
def test_every_namespace_has_an_agent_of_its_own(labels):
    assert namespaces.namespace_of(namespaces.agent_of(labels)) == tuple(labels)


@pytest.mark.parametrize("namespace", [(), ("a", ""), ("a.b",), ("a\0",), ("a", 1), ("x" * 200, "y" * 56)])
def test_an_invalid_namespace_is_refused(namespace):
    with scripted_server(NOTHING) as server, MemoryClient(server.url) as memories:
        for op in (
            base.GetOp(namespace, "k"),
            base.PutOp(namespace, "k", {}),
            base.PutOp(namespace, "k", None),
        ):
            with pytest.raises(base.InvalidNamespaceError):
                LorestreamStore(memories).batch([op])
    assert server.requests == []


@pytest.mark.parametrize("agent_id", ["", ".", "a.", ".a", "a..b"])
def test_agent_ids_that_are_not_namespaces_are_not_listed(agent_id):
    totals = {"agents": [{"agent_id": agent_id, "total": 1}, {"agent_id": "a.b", "total": 1}]}
    with scripted_server((200, totals)) as server, MemoryClient(server.url) as memories:
        assert LorestreamStore(memories).list_namespaces() == [("a", "b")]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"a": 1}, {"metadata.a": 1}),
        ({"type": "x", "b": True}, {"metadata.type": "x", "metadata.b": True}),
        ({"a": {"b": {"c": "d"}}}, {"metadata.a.b.c": "d"}),
        ({"a": {"$gte": 1, "$lt": 2.5}}, {"metadata.a": {"gte": 1, "lt": 2.5}}),
        ({"a": {"$eq": 1}, "b": {"$ne": 2}}, {"metadata.a": {"eq": 1}, "metadata.b": {"ne": 2}}),
    ],
)
def test_filters_are_translated(given, asked):
    assert items.to_filters(given, indexed=False) == asked


@pytest.mark.parametrize(
    "wanted",
    [
        {"a.b": 1},
        {'"': 1},
        {"": 1},
        {"a": None},
        {"a": [1]},
        {"a": {}},
        {"a": {"$in": [1]}},
        {"a": {"$gt": 1, "b": 2}},
        {"a": {"$eq": [1]}},
    ],
)
def test_unsupported_filters_are_refused(wanted):
    with pytest.raises(ValueError, match=r"^metadata\."):
        items.to_filters(wanted, indexed=False)


@pytest.mark.parametrize(
    ("fields", "index", "text"),
    [
        (("$",), None, '{"a": "x", "b": ["y", "z"]}'),
        (("a",), None, "x"),
        (("a",), ["b[*]", "a"], "y\nz\nx"),
        (("none",), None, None),
        (("$",), ["none"], None),
        (("$",), False, None),
    ],
)
def test_the_text_is_made_of_the_fields(fields, index, text):
    written = items.event(base.PutOp(("n",), "k", {"a": "x", "b": ["y", "z"]}, index), fields)
    assert written["text"] == (text or "k")
    assert written["metadata"][items.ITEM_FIELDS].get("index") is (None if text else False)


@pytest.mark.parametrize(("minutes", "seconds"), [(None, 0), (1.5, 90)])
def test_a_ttl_is_in_minutes_and_none_is_for_ever(minutes, seconds):
    assert items.event(base.PutOp(("n",), "k", {}, ttl=minutes), ("$",))["ttl"] == seconds


@pytest.mark.parametrize(
    "op",
    [
        base.PutOp(("n",), "k", {items.ITEM_FIELDS: 1}),
        base.PutOp(("n",), "lorestream:1", {"a": 1}),
        base.PutOp(("n",), "k", {"a": 1}, ttl=0),
        base.SearchOp(("n",), query="q", limit=100, offset=1),
        base.SearchOp(("n",), filter={"a": None}),
    ],
)
def test_unsupported_items_are_refused_before_writing(op):
    with scripted_server(NOTHING) as server, MemoryClient(server.url) as memories:
        store = LorestreamStore(memories, below=False)
        with pytest.raises(ValueError, match=r"."):
            store.batch([base.PutOp(("n",), "other", {"a": 1}), op])
    assert server.requests == []


def test_reading_cannot_refresh_a_ttl():
    with pytest.raises(ValueError, match="refresh"):
        LorestreamStore(ttl={"refresh_on_read": True, "default_ttl": 5})


def test_a_default_ttl_is_used():
    with (
        scripted_server(NOTHING, (200, {**ACCEPTED, "indexed": True})) as server,
        MemoryClient(server.url) as memories,
    ):
        LorestreamStore(memories, ttl={"refresh_on_read": False, "default_ttl": 5}).put(("n",), "k", {"a": 1})
    assert server.requests[1]["body"]["events"][0]["ttl"] == 300


async def test_a_missing_client_is_named():
    with pytest.raises(Misconfigured, match="no MemoryClient"):
        LorestreamStore(asynchronous=AsyncMemoryClient()).get(("n",), "k")
    with MemoryClient() as memories, pytest.raises(Misconfigured, match="no AsyncMemoryClient"):
        await LorestreamStore(memories).aget(("n",), "k")


def test_below_false_needs_no_admin_scope():
    with scripted_server((403, refused("forbidden"))) as server, MemoryClient(server.url) as memories:
        with pytest.raises(Forbidden):
            LorestreamStore(memories).search(("n",))
        with pytest.raises(ValueError, match="below=True"):
            LorestreamStore(memories, below=False).search(())
    page = {"memories": [], "total": 0, "next_cursor": None}
    with scripted_server((200, page)) as server, MemoryClient(server.url) as memories:
        assert LorestreamStore(memories, below=False).search(("n", "m")) == []
    assert [request["path"] for request in server.requests] == ["/v1/agents/n%2Em/memories?limit=10"]


def test_more_namespaces_than_can_be_listed_are_an_error():
    totals = {"agents": [{"agent_id": f"a.{number}", "total": 1} for number in range(1000)]}
    with scripted_server((200, totals)) as server, MemoryClient(server.url) as memories:
        for call in (
            LorestreamStore(memories).list_namespaces,
            lambda: LorestreamStore(memories).search(("a",)),
        ):
            with pytest.raises(ValueError, match="1000"):
                call()


def test_many_namespaces_are_searched_in_several_requests():
    totals = {"agents": [{"agent_id": f"a.{number}", "total": 1} for number in range(100)]}

    def found(number: int) -> dict[str, Any]:
        own = {"key": "k", "index": True}
        memory = {
            "id": f"m{number}",
            "agent_id": f"a.{number}",
            "text": "x",
            "timestamp": 1.0,
            "type": items.TYPE,
        }
        return {"memories": [{**memory, "metadata": {items.ITEM_FIELDS: own}, "score": number / 10}]}

    both = {"memories": found(1)["memories"] + found(2)["memories"]}
    with (
        scripted_server((200, totals), (200, found(1)), (200, found(2)), (200, both)) as server,
        MemoryClient(server.url) as memories,
    ):
        best = LorestreamStore(memories).search(("a",), query="q", limit=1)
    assert [item.namespace for item in best] == [("a", "2")]
    asked = [agent for request in server.requests[1:3] for agent in request["body"]["agent_ids"]]
    assert sorted(asked) == sorted(["a", *(f"a.{number}" for number in range(100))])
    assert {request["body"]["k"] for request in server.requests[1:3]} == {1}


def test_a_write_that_is_not_visible_in_time_raises_unavailable():
    with (
        scripted_server(NOTHING, (202, ACCEPTED)) as server,
        MemoryClient(server.url) as memories,
        pytest.raises(Unavailable, match=r"durable.* 0\.5 s"),
    ):
        LorestreamStore(memories, wait_s=0.5).put(("n",), "k", {"a": 1})
    assert server.requests[1]["path"] == "/v1/events?wait=indexed&timeout_ms=500"
