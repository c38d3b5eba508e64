"""Connections to Redis, over a server of the test: its addresses change, its replies are late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hiredis import Reader
from redis.asyncio.connection import BlockingConnectionPool

from lorestream.adapters.redis import nodes as nodes_module
from lorestream.adapters.redis.connection import MultiplexedConnection
from lorestream.adapters.redis.nodes import Nodes

Answer = Callable[[list[bytes], asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """The port of a server that calls `answer` with each command."""
    served: list[asyncio.Task[None]] = []

    async def serve(commands: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = Reader()
        with contextlib.suppress(ConnectionError):
            while data := await commands.read(65_536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    await answer(command, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def accept(commands: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.ensure_future(serve(commands, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*served)


def pool(port: int) -> Any:
    return BlockingConnectionPool.from_url(f"redis://127.0.0.1:{port}")


def slots(port: int) -> bytes:
    """The reply to CLUSTER SLOTS of a cluster with one node."""
    return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % port


async def test_a_node_that_has_gone_is_closed_unless_a_command_waits_there() -> None:
    shown: list[int] = []
    held = asyncio.Event()

    async def answer(command: list[bytes], writer: asyncio.StreamWriter) -> None:
        if command[:2] == [b"CLUSTER", b"SLOTS"]:
            writer.write(slots(shown[0]))
            return
        if command[1] == b"held":
            await held.wait()
        writer.write(b"+OK\r\n")

    async with serving(answer) as first, serving(answer) as second:
        nodes = Nodes(pool(first), 60.0)
        try:
            shown[:] = [first]
            await nodes.load()
            await nodes.command("GET", "one")
            waiting = asyncio.ensure_future(nodes.command("GET", "held"))
            while nodes._connections["127.0.0.1", first].idle:
                await asyncio.sleep(0)
            shown[:] = [second]
            await nodes.load()
            await nodes.command("GET", "one")
            assert {port for _, port in nodes._connections} == {first, second}
            held.set()
            assert await waiting == b"OK"
            former = nodes._connections["127.0.0.1", first]
            await nodes.load()
            assert [port for _, port in nodes._connections] == [second]
            assert former._protocol is not None
            assert former._protocol.closed
        finally:
            await nodes.close()


async def test_a_connection_that_is_lost_late_leaves_only_the_rest_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    real, ahead, received = loop.time, 0.0, 0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)

    async def answer(command: list[bytes], writer: asyncio.StreamWriter) -> None:
        nonlocal ahead, received
        if command == [b"PING"]:
            writer.write(b"+PONG\r\n")
            return
        received += 1
        if received == 1:
            ahead += 59.9
            writer.close()

    async with serving(answer) as port:
        connection = MultiplexedConnection(pool(port), 60.0)
        try:
            await connection.command("PING")
            began = loop.time()
            with pytest.raises(TimeoutError):
                await connection.command("GET", "one")
            assert loop.time() - began < 90
        finally:
            await connection.close()


async def test_after_a_caller_has_lost_patience_with_a_node_its_successor_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nodes_module, "_RELOAD_INTERVAL_S", 0.0)
    shown: list[int] = []

    async def answer(command: list[bytes], writer: asyncio.StreamWriter) -> None:
        if command[:2] == [b"CLUSTER", b"SLOTS"]:
            writer.write(slots(shown[0]))
        elif writer.get_extra_info("sockname")[1] == second:
            writer.write(b"+OK\r\n")

    async with serving(answer) as first, serving(answer) as second:
        nodes = Nodes(pool(first), 60.0)
        try:
            shown[:] = [first]
            await nodes.load()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await nodes.command("GET", "one")
            shown[:] = [second]
            assert await nodes.command("GET", "one") == b"OK"
        finally:
            await nodes.close()
