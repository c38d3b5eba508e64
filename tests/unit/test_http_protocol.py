"""The protocol on the socket: endless headers, and data that is not HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from lorestream.access.key_file import KeyScope
from lorestream.http.application import application
from lorestream.http.operation import Operation
from lorestream.http.protocol import MAX_HEAD_BYTES, BoundedProtocol
from lorestream.http.request import ApiRequest, json_response
from lorestream.telemetry import Metrics


async def echo(call: ApiRequest) -> Any:
    return json_response({"bytes": len(await call.body()), "headers": len(call.scope["headers"])})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = application(
        "x", [Operation("POST", "/echo", echo, "Echo", KeyScope.QUERY, dict)], metrics=Metrics()
    )
    config = uvicorn.Config(
        app, port=0, http=BoundedProtocol, ws="none", lifespan="off", log_config=None, log_level="critical"
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
    assert await answers(port, POST, b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", *rest) == []


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
