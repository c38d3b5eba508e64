"""The protocol on the socket: endless headers, data that is not HTTP, slow clients, too many connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast

import pytest
import uvicorn

from lorestream.access.key_file import KeyScope
from lorestream.http.application import application
from lorestream.http.connections import REQUEST_TIMEOUT_S, WRITE_TIMEOUT_S, ConnectionTable
from lorestream.http.operation import Operation
from lorestream.http.protocol import MAX_HEAD_BYTES, BoundedProtocol
from lorestream.http.request import ApiRequest, json_response
from lorestream.telemetry import Metrics


async def large(_call: ApiRequest) -> Any:
    """An answer that does not fit into the buffers of the sockets."""
    return json_response({"large": "x" * 2**25})


async def echo(call: ApiRequest) -> Any:
    return json_response({"bytes": len(await call.body()), "headers": len(call.scope["headers"])})


@pytest.fixture
def connections() -> ConnectionTable:
    return ConnectionTable(limit=8)


@pytest.fixture
async def released() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def port(connections: ConnectionTable, released: asyncio.Event) -> AsyncIterator[int]:
    async def later(_call: ApiRequest) -> Any:
        """A long poll: answered once the test says so."""
        await released.wait()
        return json_response({"late": True})

    routes = {"/echo": echo, "/later": later, "/large": large}
    operations = [
        Operation("POST", path, handler, "Echo", KeyScope.QUERY, dict) for path, handler in routes.items()
    ]
    app = application("x", operations, metrics=Metrics())
    config = uvicorn.Config(
        app,
        port=0,
        http=cast("Any", partial(BoundedProtocol, connections=connections)),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def answers(port: int, *pieces: bytes) -> list[tuple[int, Any]]:
    """Send the pieces; returns (status, body) of each response until the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received: list[tuple[int, Any]] = []

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()

    sending = asyncio.create_task(send())
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            received.append((int(head.split()[1]), json.loads(await reader.readexactly(length))))
    await sending
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return received


POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
LAST = POST + b"Connection: close\r\n"


@pytest.mark.parametrize(
    "head",
    [
        [POST, b"X-Long: ", *[b"x" * 2**14] * 100],
        [POST, *[b"X-Many: %d\r\n" % n for n in range(100_000)]],
        [b"POST /", *[b"x" * 2**14] * 100],
    ],
    ids=["one header", "many headers", "the path"],
)
async def test_endless_headers_are_refused(port: int, head: list[bytes]):
    sent = b"".join(head)
    [(status, body)] = await answers(port, sent[: MAX_HEAD_BYTES + 1])
    assert (status, body["error"]["code"]) == (431, "too_large")
    # Who goes on sending may lose the answer with the connection, but is not listened to.
    assert [status for status, _ in await answers(port, sent)] in ([], [431])
    [(status, _)] = await answers(port, LAST + b"Content-Length: 0\r\n\r\n")
    assert status == 200


@pytest.mark.parametrize(
    "rest",
    [[b"0\r\nX: ", *[b"x" * 2**14] * 100], [b"1;", *[b"x" * 2**14] * 100]],
    ids=["trailer", "extension"],
)
async def test_endless_trailers_and_chunk_extensions_are_refused(port: int, rest: list[bytes]):
    got = await answers(port, POST, b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", *rest)
    # Who goes on sending may lose the answer with the connection.
    assert [status for status, _ in got] in ([], [431])


async def test_bodies_and_pipelined_requests_do_not_count_as_headers(port: int):
    body = b"x" * 2**20
    large = b"X-Large: %b\r\n" % (b"x" * (MAX_HEAD_BYTES // 2))
    whole = POST + b"Content-Length: %d\r\n\r\n" % len(body)
    pieces = b"".join(b"1\r\nx\r\n" for _ in range(20_000)) + b"0\r\n\r\n"
    got = await answers(
        port,
        whole + body,
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + pieces,
        *[POST + large + b"Content-Length: 0\r\n\r\n"] * 40,
        LAST + large + b"Content-Length: 1\r\n\r\nx",
    )
    assert len(got) == 43
    assert {status for status, _ in got} == {200}
    assert [body["bytes"] for _, body in got[:2]] == [2**20, 20_000]
    assert got[-1][1]["bytes"] == 1


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\xff" * 100, b"GET / HTTP/9\r\n\r\n"]
)
async def test_data_that_is_not_http_gets_an_error_response(port: int, garbage: bytes):
    [(status, body)] = await answers(port, garbage)
    assert (status, body["error"]["code"]) == (400, "bad_request")
    assert body["error"]["request_id"]


@pytest.mark.parametrize(
    "rest",
    [b"zz\r\nx\r\n0\r\n\r\n", b"-1\r\n", b"1\r\nxx\r\n0\r\n\r\n"],
    ids=["no size", "negative", "too long"],
)
async def test_a_bad_chunk_behind_good_headers_is_answered(port: int, rest: bytes):
    [(status, body)] = await answers(port, POST + b"Transfer-Encoding: chunked\r\n\r\n" + rest)
    assert (status, body["error"]["code"]) == (400, "bad_request")


async def test_a_request_before_garbage_is_answered_first(port: int, released: asyncio.Event):
    sending = asyncio.create_task(
        answers(port, b"POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n\xff\xff\r\n\r\n")
    )
    await asyncio.sleep(0.05)
    released.set()
    assert await sending == [(200, {"late": True})]


@pytest.mark.parametrize(
    "head",
    [
        b"POST /echo HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 0\r\n\r\n",
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: +1\r\n\r\nx",
        POST + b"Content-Length : 1\r\n\r\nx",
        POST + b"X: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
    ],
    ids=lambda head: head.decode()[:70],
)
async def test_ambiguous_requests_are_refused(port: int, head: bytes):
    """Otherwise a proxy before the service may see other requests than the service (request smuggling)."""
    [(status, body)] = await answers(port, head)
    assert (status, body["error"]["code"]) == (400, "bad_request")


async def test_older_and_other_forms_of_requests_are_answered(port: int):
    """HTTP/1.0 without Host, a target with the host in it, and offers to change the protocol, which are ignored."""
    [(status, _)] = await answers(port, b"POST /echo HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
    assert status == 200
    absolute = b"POST http://x/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    [(status, body)] = await answers(port, absolute)
    assert (status, body["bytes"]) == (200, 1)
    for offer in (b"websocket", b"h2c"):
        upgrade = POST + b"Connection: Upgrade, close\r\nUpgrade: %b\r\nContent-Length: 1\r\n\r\nx" % offer
        assert [answer["bytes"] for _, answer in await answers(port, upgrade)] == [1]
        # The body arrives later, and a request follows it: neither may be taken for the other protocol.
        pieces = upgrade.replace(b"Upgrade, close", b"Upgrade").partition(b"\r\n\r\n")
        got = await answers(port, pieces[0] + pieces[1], pieces[2] + LAST + b"Content-Length: 3\r\n\r\nabc")
        assert [answer["bytes"] for _, answer in got] == [1, 3]


async def test_many_offers_of_another_protocol_in_one_piece_are_not_parsed_again_and_again(port: int):
    offer = POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx"
    got = await answers(port, offer * 3000)
    assert [status for status, _ in got] in (
        [],
        [200],
    )  # who sends on may lose the answer with the connection
    [(status, _)] = await answers(port, LAST + b"Content-Length: 0\r\n\r\n")
    assert status == 200


# --- slow clients ---------------------------------------------------------------------------------------------


class Client:
    """A connection whose end the test sends by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send some bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """What the server sends until it closes the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), 10)
        except ConnectionError:
            return b""


@contextlib.asynccontextmanager
async def clients(port: int, count: int = 1) -> AsyncIterator[list[Client]]:
    made = [Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**10)) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.writer.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds; fails after 10 s."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


class Seconds:
    """Lets time pass for a table."""

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table
        self._now = 0.0
        table.check(0.0)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self._now += 1
            self._table.check(self._now)


@pytest.mark.parametrize("sent", [b"", b"POST /ec", POST, POST + b"Content-Length: 5\r\n\r\nx"], ids=str)
async def test_a_client_that_stops_sending_loses_its_connection(
    port: int, connections: ConnectionTable, sent: bytes
):
    async with clients(port) as [slow]:
        await slow.send(sent)
        await until(lambda: len(connections) == 1)
        await asyncio.sleep(0.02)
        clock = Seconds(connections)
        clock.wait(REQUEST_TIMEOUT_S - 1)
        assert len(connections) == 1
        clock.wait(1)
        answer = await slow.rest()
        assert answer.startswith(b"HTTP/1.1 408 ") if sent else answer == b""
        await until(lambda: len(connections) == 0)


async def test_a_client_that_trickles_a_body_loses_its_connection_and_one_at_the_least_rate_does_not(
    port: int, connections: ConnectionTable
):
    async with clients(port, 2) as [trickling, steady]:
        for one in (trickling, steady):
            await one.send(LAST + b"Content-Length: %d\r\n\r\n" % (2048 * 14))
        await until(lambda: len(connections) == 2)
        clock = Seconds(connections)
        for _ in range(13):
            with contextlib.suppress(ConnectionError):
                await trickling.send(b"x")
            await steady.send(b"x" * 2048)
            await asyncio.sleep(0.02)
            clock.wait(2)
        assert len(connections) == 1
        await steady.send(b"x" * 2048)
        assert b"HTTP/1.1 200 " in await steady.rest()


async def test_a_client_that_waits_for_an_answer_keeps_its_connection(
    port: int, connections: ConnectionTable, released: asyncio.Event
):
    async with clients(port) as [waiting]:
        await waiting.send(
            b"POST /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        await until(lambda: len(connections) == 1)
        await asyncio.sleep(0.05)
        Seconds(connections).wait(1000)
        released.set()
        assert b"HTTP/1.1 200 " in await waiting.rest()


async def test_a_request_before_one_that_arrives_too_slowly_is_answered_first(
    port: int, connections: ConnectionTable, released: asyncio.Event
):
    async with clients(port) as [slow]:
        await slow.send(b"POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST /")
        await until(lambda: len(connections) == 1)
        [connection] = list(connections._connections)
        await until(lambda: connection._arriving == "head")  # type: ignore[attr-defined]
        Seconds(connections).wait(REQUEST_TIMEOUT_S + 1)
        released.set()
        assert (await slow.rest()).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_sends_on_after_its_answer_loses_its_connection(
    port: int, connections: ConnectionTable
):
    """Neither line ends between requests nor a body that nobody reads keep the connection."""
    endless = POST.replace(b"/echo", b"/large") + b"Content-Length: 9999999\r\n\r\n"
    async with clients(port, 2) as [lines, body]:
        await lines.send(b"\r\n")
        await body.send(endless.replace(b"/large", b"/nowhere"))
        await until(lambda: len(connections) == 2)
        await asyncio.sleep(0.05)
        clock = Seconds(connections)
        for _ in range(12):
            for one in (lines, body):
                with contextlib.suppress(ConnectionError):
                    await one.send(b"\r\n" * 100)
            await asyncio.sleep(0.01)
            clock.wait(1)
        await until(lambda: len(connections) == 0)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (LAST + b"Content-Length: 4194304\r\n", b"413"),
        (LAST.replace(b"/echo", b"/nowhere") + b"Content-Length: 4194304\r\n", b"404"),
        (POST.replace(b"1.1", b"1.0") + b"Content-Length: 4194304\r\n", b"413"),
        (POST + b"Content-Length: 4194304\r\nContent-Length: 1\r\n", b"400"),
    ],
    ids=["too large", "no route", "HTTP/1.0", "bad headers"],
)
async def test_an_early_refusal_reaches_a_client_that_sends_to_the_end_before_it_reads(
    port: int, connections: ConnectionTable, head: bytes, status: bytes
):
    async with clients(port) as [sender]:
        await sender.send(head + b"\r\n" + b"x" * 2**22)
        assert (await sender.rest()).startswith(b"HTTP/1.1 " + status)
    await until(lambda: len(connections) == 0)


async def test_a_refused_client_that_sends_on_for_ever_loses_its_connection(
    port: int, connections: ConnectionTable
):
    async with clients(port) as [endless]:
        await endless.send(LAST + b"Content-Length: 9999999\r\n\r\n")
        assert (await endless.rest()).startswith(b"HTTP/1.1 413 ")
        clock = Seconds(connections)
        clock.wait(REQUEST_TIMEOUT_S - 1)
        await endless.send(b"x" * 2**20)
        await asyncio.sleep(0.02)
        assert len(connections) == 1
        clock.wait(1)
        await until(lambda: len(connections) == 0)


async def test_a_client_that_does_not_read_its_answer_loses_its_connection(
    port: int, connections: ConnectionTable
):
    async with clients(port) as [deaf]:
        await deaf.send(POST.replace(b"/echo", b"/large") + b"Content-Length: 0\r\n\r\n")
        await deaf.reader.readexactly(1)
        [connection] = list(connections._connections)
        await until(lambda: connection.transport.get_write_buffer_size() > 0)  # type: ignore[attr-defined]
        clock = Seconds(connections)
        clock.wait(WRITE_TIMEOUT_S - 2)
        assert len(connections) == 1
        clock.wait(3)
        await until(lambda: len(connections) == 0)


async def test_idle_connections_shut_nobody_out(port: int, connections: ConnectionTable):
    async with clients(port, 3 * connections.limit) as idle:
        await idle[-1].send(b"POST /")
        [(status, _)] = await answers(port, LAST + b"Content-Length: 0\r\n\r\n")
        assert status == 200
        assert len(connections) <= connections.limit
        assert await idle[0].rest() == b""


async def test_a_new_connection_is_refused_while_all_others_are_being_answered(
    port: int, connections: ConnectionTable, released: asyncio.Event
):
    async with clients(port, connections.limit) as waiting:
        for one in waiting:
            await one.send(
                b"POST /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
        await until(lambda: [one.left_s for one in connections._connections] == [None] * len(waiting))
        [(status, body)] = await answers(port)
        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert body["retry_after_ms"] > 0
        released.set()
        for one in waiting:
            assert b"HTTP/1.1 200 " in await one.rest()


async def test_at_the_limit_the_address_with_most_connections_loses_one():
    class Waiting:
        def __init__(self, peer: str, left_s: float | None) -> None:
            self.peer, self.left_s, self.evicted = peer, left_s, False

        def check(self, elapsed_s: float) -> None:
            raise AssertionError

        def evict(self) -> None:
            self.evicted = True

    table = ConnectionTable(limit=5)
    many = [Waiting("10.0.0.1", 9), Waiting("10.0.0.1", None), Waiting("10.0.0.1", 3)]
    few = [Waiting("10.0.0.2", 1), Waiting("10.0.0.2", 1)]
    assert all(table.add(one) for one in [*many, *few])
    assert table.add(Waiting("10.0.0.3", 10))
    assert [one.evicted for one in [*many, *few]] == [False, False, True, False, False]
