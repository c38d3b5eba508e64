"""The client against a server that answers as told: what it sends, what it tries again, how it fails."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from engram.client import ApiError, MemoryClient, NotFound, Readiness, Rejected, Unreachable
from engram.errors import Misconfigured
from tests.processes import free_port

ACCEPTED = {"accepted": 1, "rejected": [], "ids": ["m1"], "token": "t", "retry_after_ms": 0}
HANG_UP = 0
"""In place of a status: close the connection without a word."""


@dataclass
class Told:
    """A scripted server: its answers, the last one for ever, and what it was sent."""

    answers: list[tuple[int, Any]]
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def told(*answers: tuple[int, Any]) -> Generator[Told]:
    script = Told(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def _answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sent = json.loads(body) if body else None
            key = self.headers.get("Authorization")
            script.requests.append({"method": self.command, "path": self.path, "body": sent, "key": key})
            status, answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            if status == HANG_UP:
                self.close_connection = True
                return
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 (http.server names them)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refused(code: str, **more: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": "no", "details": {}, "request_id": "r1", **more}}


def ids(requests: Sequence[dict[str, Any]]) -> list[str]:
    return [event["id"] for request in requests for event in request["body"]["events"]]


@pytest.mark.parametrize(
    "fault",
    [
        (429, refused("overloaded", retry_after_ms=1)),
        (503, refused("unavailable", retry_after_ms=1)),
        (HANG_UP, None),
        (502, b"<html>a proxy speaks</html>"),
    ],
    ids=["429", "503", "broken connection", "proxy"],
)
def test_a_write_is_tried_again_with_the_same_id(fault):
    with told(fault, fault, (202, ACCEPTED)) as server, MemoryClient(server.url) as client:
        assert client.add("a", "x").ids == ["m1"]
        sent = ids(server.requests)
    assert len(sent) == 3
    assert len(set(sent)) == 1
    assert sent[0]


def test_every_event_gets_an_id_of_its_own_and_keeps_a_given_one():
    with told((202, {**ACCEPTED, "accepted": 3})) as server, MemoryClient(server.url) as client:
        client.add_batch([{"agent_id": "a", "text": "x"}, {"agent_id": "a", "text": "x", "id": "mine"}])
        first, second = ids(server.requests)
    assert second == "mine"
    assert first not in {"", "mine"}


def test_patience_ends_with_the_servers_own_words():
    with (
        told((503, refused("unavailable", retry_after_ms=1))) as server,
        MemoryClient(server.url, patience_s=0.05) as client,
        pytest.raises(ApiError) as caught,
    ):
        client.search("a", "q")
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (503, "unavailable", "r1")
    assert len(server.requests) > 1


@pytest.mark.parametrize("status", [400, 401, 403, 413, 500])
def test_other_refusals_are_not_tried_again(status):
    with (
        told((status, refused("some_code", details={"path": "k"}))) as server,
        MemoryClient(server.url) as client,
    ):
        with pytest.raises(ApiError, match=r"^k: no \(some_code\)$") as caught:
            client.search("a", "q")
        assert caught.value.status == status
        assert caught.value.details == {"path": "k"}
        assert len(server.requests) == 1


def test_what_is_not_there_is_its_own_error():
    with (
        told((404, refused("not_found"))) as server,
        MemoryClient(server.url) as client,
        pytest.raises(NotFound),
    ):
        client.get("m1", "a")


def test_a_rejected_event_is_an_error_of_its_own():
    reject = {"index": 0, "code": "event_too_large", "message": "16 KiB"}
    answer = {"accepted": 0, "rejected": [reject], "ids": [None], "token": "t"}
    with told((202, answer)) as server, MemoryClient(server.url) as client:
        with pytest.raises(Rejected, match="16 KiB") as caught:
            client.add("a", "x")
        assert caught.value.code == "event_too_large"
        assert client.add_batch([{"agent_id": "a", "text": "x"}]).rejected[0].index == 0


def test_a_refused_connection_says_what_to_do():
    url = f"http://127.0.0.1:{free_port()}"
    with (
        MemoryClient(url, patience_s=0) as client,
        pytest.raises(Unreachable, match=f"no engram at {url}: start one with `engram up`"),
    ):
        client.check()


def test_another_service_is_not_taken_for_an_engram():
    with told((200, b"<html>hello</html>")) as server, MemoryClient(server.url) as client:
        with pytest.raises(Unreachable, match="not an engram"):
            client.check()
        with pytest.raises(Unreachable, match="not an engram"):
            client.ready()


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://a:port", "nonsense"])
def test_what_is_no_address_is_named(url):
    with MemoryClient(url) as client, pytest.raises(Misconfigured, match="not an address"):
        client.recent("a")


def test_ids_stay_one_part_of_the_path():
    empty = {"memories": [], "total": 0, "next_cursor": None}
    with told((200, empty)) as server, MemoryClient(server.url) as client:
        for agent_id in ("a/b", "..", "ä?#%2F"):
            client.recent(agent_id, 1)
    paths = [request["path"] for request in server.requests]
    assert paths == [
        "/v1/agents/a%2Fb/memories?limit=1",
        "/v1/agents/%2E%2E/memories?limit=1",
        "/v1/agents/%C3%A4%3F%23%252F/memories?limit=1",
    ]


def test_the_key_goes_with_every_call_and_reads_go_to_their_own_address():
    answer = {"memories": [], "cache": "miss", "fresh": True, "took_ms": 1.0}
    with (
        told((202, ACCEPTED)) as writes,
        told((200, answer)) as reads,
        MemoryClient(writes.url, query_url=reads.url, api_key="id.secret") as client,
    ):
        client.add("a", "x", event={"type": "chat", "ttl": 60}, wait_s=1.5)
        client.search(["a", "b"], "q", 3, filters={"type": "chat"}, more={"mode": "dense"})
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


def test_not_ready_is_an_answer():
    with (
        told((503, {"status": "unavailable", "checks": {"indexer": "stands still"}})) as server,
        MemoryClient(server.url) as client,
    ):
        assert client.ready() == Readiness("unavailable", {"indexer": "stands still"})
        assert not client.ready().ok


def test_erasures_name_one_subject():
    with told((202, {"erasure_id": "e1", "token": "t"})) as server, MemoryClient(server.url) as client:
        client.delete("m1", "..")
        client.forget("a/b")
        client.forget_player("Ann")
    assert [request["body"] for request in server.requests] == [
        {"memory_id": "m1", "agent_id": ".."},
        {"agent_id": "a/b"},
        {"player": "Ann"},
    ]


def test_tail_skips_empty_lines():
    with told((200, b'\n{"text": "x"}\n\n{"text": "y"}\n')) as server, MemoryClient(server.url) as client:
        assert [line["text"] for line in client.tail()] == ["x", "y"]
