"""Both clients against a scripted server: retries, timeouts, exceptions."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from lorestream.client import (
    ApiError,
    AsyncMemoryClient,
    BadRequest,
    Forbidden,
    MemoryClient,
    NotFound,
    NotLorestream,
    Rejected,
    ServiceUnavailable,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    WrongService,
    streams,
)
from lorestream.errors import Misconfigured
from tests.own_time import own_time
from tests.processes import free_port
from tests.scripted_server import (
    ACCEPTED,
    ENDLESS,
    HANG_UP,
    SILENCE,
    SLOW,
    TRICKLE,
    TRICKLE_S,
    BlockingAdapter,
    ids,
    refused,
    scripted_server,
)


@pytest.fixture(params=[MemoryClient, BlockingAdapter], ids=["threads", "tasks"])
def connect(request: pytest.FixtureRequest) -> Any:
    """The constructor of either client."""
    return request.param


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
def test_a_write_is_retried_with_the_same_id(connect, fault):
    with scripted_server(fault, fault, (202, ACCEPTED)) as server, connect(server.url) as client:
        assert client.add("a", "x").ids == ["m1"]
        sent = ids(server.requests)
    assert len(sent) == 3
    assert len(set(sent)) == 1
    assert sent[0]


def test_after_the_retry_timeout_the_servers_error_is_raised(connect):
    with (
        scripted_server((503, refused("unavailable", retry_after_ms=1))) as server,
        connect(server.url, retry_timeout_s=1.0) as client,
        pytest.raises(ApiError) as caught,
    ):
        client.search("a", "q")
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (503, "unavailable", "r1")
    assert len(server.requests) > 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_filter", BadRequest),
        (401, "unauthorized", Unauthorized),
        (403, "forbidden", Forbidden),
        (404, "not_found", NotFound),
        (404, "wrong_service", WrongService),
        (413, "too_large", TooLarge),
        (415, "unsupported_encoding", BadRequest),
        (500, "internal", ApiError),
    ],
)
def test_each_status_has_its_exception_and_is_not_retried(connect, status, code, kind):
    with (
        scripted_server((status, refused(code, details={"path": "k"}))) as server,
        connect(server.url) as client,
    ):
        with pytest.raises(ApiError, match=rf"^k: no \({code}\)$") as caught:
            client.search("a", "q")
        assert type(caught.value) is kind
        assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, code, "r1")
        assert caught.value.details == {"path": "k"}
        assert not caught.value.retryable
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(429, TooManyRequests), (503, ServiceUnavailable)], ids=["429", "503"]
)
def test_no_wait_for_a_retry_after_beyond_the_retry_timeout(connect, status, kind):
    started = own_time()
    with (
        scripted_server((status, refused("later", retry_after_ms=60_000))) as server,
        connect(server.url, retry_timeout_s=20) as client,
        pytest.raises(kind) as caught,
    ):
        client.add("a", "x")
    assert own_time() - started < 5
    assert caught.value.retry_after_ms == 60_000
    assert caught.value.retryable
    assert len(server.requests) == 1


def test_a_silent_server_fails_within_the_retry_timeout(connect):
    with (
        scripted_server((SILENCE, None)) as server,
        connect(server.url, timeout_s=0.4, retry_timeout_s=1.0) as client,
    ):
        started = own_time()
        with pytest.raises(Unreachable, match="did not answer"):
            client.search("a", "q")
        assert own_time() - started < 5
        assert len(server.requests) >= 2


def test_an_answer_that_trickles_in_ends_with_the_timeout(connect):
    assert len(json.dumps(ACCEPTED)) * TRICKLE_S > 1
    with (
        scripted_server((TRICKLE, ACCEPTED)) as server,
        connect(server.url, timeout_s=0.2, retry_timeout_s=0) as client,
        pytest.raises(Unreachable, match="did not answer"),
    ):
        client.add("a", "x")


def test_the_servers_wait_is_added_to_the_timeout(connect):
    with (
        scripted_server((SLOW, ACCEPTED)) as server,
        connect(server.url, timeout_s=0.2, retry_timeout_s=0) as client,
    ):
        with pytest.raises(Unreachable):
            client.add("a", "x")
        assert client.add("a", "x", wait_s=5).accepted == 1


def test_a_rejected_event_raises_rejected(connect):
    reject = {"index": 0, "code": "event_too_large", "message": "16 KiB"}
    answer = {"accepted": 0, "rejected": [reject], "ids": [None], "token": "t"}
    with scripted_server((202, answer)) as server, connect(server.url) as client:
        with pytest.raises(Rejected, match="16 KiB") as caught:
            client.add("a", "x")
        assert caught.value.code == "event_too_large"
        assert client.add_batch([{"agent_id": "a", "text": "x"}]).rejected[0].index == 0


def test_without_an_address_it_and_the_key_come_from_the_environment(connect, monkeypatch):
    with scripted_server((202, ACCEPTED)) as server:
        monkeypatch.setenv("LORESTREAM_URL", server.url)
        monkeypatch.setenv("LORESTREAM_API_KEY", "id.secret")
        for client in (connect(), connect(server.url), connect(server.url, api_key="id.other")):
            with client:
                client.add("a", "x")
        keys = [request["key"] for request in server.requests]
    assert keys == ["Bearer id.secret", None, "Bearer id.other"]


def test_a_refused_connection_says_what_to_do(connect):
    url = f"http://127.0.0.1:{free_port()}"
    with (
        connect(url, retry_timeout_s=0) as client,
        pytest.raises(Unreachable, match=f"no lorestream at {url}: start one with `lorestream up`"),
    ):
        client.check()


def test_a_response_of_another_service_raises_unreachable(connect):
    with scripted_server((200, b"<html>hello</html>")) as server, connect(server.url) as client:
        with pytest.raises(Unreachable, match="not a lorestream"):
            client.check()
        with pytest.raises(Unreachable, match="not a lorestream"):
            client.ready()
        asked = len(server.requests)
        with pytest.raises(Unreachable, match="not a lorestream"):
            client.search("a", "q")
        assert len(server.requests) == asked + 1


@pytest.mark.parametrize("status", [302, 401, 404, 413])
def test_a_refusal_of_a_proxy_is_not_retried(connect, status):
    with scripted_server((status, b"<html>no</html>")) as server, connect(server.url) as client:
        for call in (lambda: client.add("a", "x"), lambda: next(client.stream("a"))):
            with pytest.raises(NotLorestream, match=f"HTTP {status}"):
                call()
        assert len(server.requests) == 2


def test_a_rate_limit_of_a_proxy_is_retried(connect):
    busy = (429, b"<html>slowly</html>")
    with scripted_server(busy, (202, ACCEPTED)) as server, connect(server.url) as client:
        assert client.add("a", "x").accepted == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://a:port", "nonsense"])
def test_an_invalid_url_is_named(connect, url):
    with connect(url) as client, pytest.raises(Misconfigured, match="not a URL"):
        client.recent("a")


def test_one_client_serves_many_threads():
    with (
        scripted_server((202, ACCEPTED)) as server,
        MemoryClient(server.url) as client,
        ThreadPoolExecutor(16) as threads,
    ):
        assert len(list(threads.map(lambda i: client.add("a", f"{i}"), range(64)))) == 64
    assert {request["body"]["events"][0]["text"] for request in server.requests} == {
        str(i) for i in range(64)
    }


async def test_one_client_serves_many_tasks():
    with scripted_server((202, ACCEPTED)) as server:
        async with AsyncMemoryClient(server.url, connections=4) as client:
            await asyncio.gather(*(client.add("a", f"{i}") for i in range(64)))
    assert {request["body"]["events"][0]["text"] for request in server.requests} == {
        str(i) for i in range(64)
    }


async def test_cancelling_a_task_stops_its_call():
    with scripted_server((SILENCE, None)) as server:
        async with AsyncMemoryClient(server.url) as client:
            call = asyncio.ensure_future(client.add("a", "x"))
            while not server.requests:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
    assert len(server.requests) == 1


def sse(*numbers: int) -> bytes:
    memory = json.dumps({"id": "m", "agent_id": "a", "text": "{}", "type": None, "timestamp": 1.0})
    blocks = [f"id: {n}\nevent: memory\ndata: {memory.replace('{}', str(n))}\n\n" for n in numbers]
    return b": connected\nretry: 1000\n\n" + "".join(blocks).encode()


def test_a_stream_that_breaks_off_is_resumed_behind_the_last_memory(connect, monkeypatch):
    monkeypatch.setattr(streams, "RECONNECT_DELAY_S", 0)
    broken = sse(3) + b'id: 4\nevent: memory\ndata: {"id'
    lost = b'event: lost\ndata: {"records":7}\n\nid: idle\n\n'
    busy = (503, refused("unavailable", retry_after_ms=1))
    script = [(200, sse(1, 2)), (HANG_UP, None), busy, (200, broken), (200, lost), (200, sse(5))]
    with scripted_server(*script) as server, connect(server.url, api_key="id.secret") as client:
        stream = client.stream("a", type="chat")
        assert [next(stream).text for _ in range(4)] == ["1", "2", "3", "5"]
        assert (stream.last_event_id, stream.lost) == ("5", 7)
        stream.close()
    assert {request["path"] for request in server.requests} == {"/v1/stream?agent_id=a&type=chat"}
    assert {request["key"] for request in server.requests} == {"Bearer id.secret"}
    assert [request["last"] for request in server.requests] == [None, "2", "2", "2", "3", "idle"]


def test_another_thread_closes_a_stream_that_waits():
    with scripted_server((ENDLESS, sse(1))) as server, MemoryClient(server.url) as client:
        stream = client.stream()
        assert next(stream).text == "1"
        with ThreadPoolExecutor(1) as thread:
            rest = thread.submit(list, stream)
            assert not wait([rest], 0.2).done
            stream.close()
            assert rest.result(20) == []
    assert len(server.requests) == 1


def test_a_stream_is_closed_by_its_own_thread():
    with scripted_server((ENDLESS, sse(1)), (202, ACCEPTED)) as server, MemoryClient(server.url) as client:
        stream = client.stream()
        assert next(stream).text == "1"
        stream.close()
        stream.close()
        assert list(stream) == []
        assert client.add("a", "x").ids == ["m1"]


def test_a_stream_that_is_refused_raises_at_once(connect):
    with (
        scripted_server((403, refused("forbidden"))) as server,
        connect(server.url) as client,
        pytest.raises(Forbidden),
    ):
        next(client.stream())
    assert len(server.requests) == 1
