"""One connection to Redis that all who ask share: commands go out as they come, answers come back in that order.

A pool lends each command a connection of its own, which costs redis-py some 150 us of CPU a command, twice what the
rest of an answer from the cache costs. On a shared one a command is packed, written and matched with its answer in
a few, and what is asked in one turn of the event loop leaves and returns together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from hiredis import Reader, pack_command
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

if TYPE_CHECKING:
    from redis.asyncio.connection import BlockingConnectionPool

Argument: TypeAlias = bytes | str | int | float


class MultiplexedConnection:
    """Made anew whenever it is lost. What an answer takes longer than `deadline_s` for is lost with the line.

    After that no answer on it can be in time, since they come in order. `pool` says where Redis is.
    """

    def __init__(self, pool: BlockingConnectionPool, deadline_s: float) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._line: _Line | None = None
        self._opening: asyncio.Task[_Line] | None = None

    async def command(self, *command: Argument) -> Any:  # noqa: ANN401 (as Redis answers)
        """The answer to a command. Raises TimeoutError, RedisError and OSError."""
        packed = pack_command(cast("Any", command))
        line = self._line
        if line is not None and not line.lost:
            try:
                return await line.send(packed)
            except RedisConnectionError:
                pass  # it may have been closed while it was idle: once more, on a new one
        async with asyncio.timeout(self._deadline_s):
            line = await self._new()
        return await line.send(packed)

    async def close(self) -> None:
        """Let the connection go; what still waits fails."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._line is not None:
            self._line.give_up(RedisConnectionError("closed"))

    async def _new(self) -> _Line:
        """A new line, the same for all who miss the old one. It is made even when none of them waits any more."""
        if self._line is not None and not self._line.lost:
            return self._line
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open(), name="lorestream-redis-line")
            self._opening.add_done_callback(_seen)
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Line:
        async with asyncio.timeout(self._deadline_s):
            line = await _connect(self._pool, partial(_Line, self._deadline_s))
            for command in _introduction(self._pool.connection_kwargs):
                await line.send(pack_command(cast("Any", command)))
        self._line = line
        return line


class _Line(asyncio.Protocol):
    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(replyError=_error)
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._leaving: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport | None = None
        self.lost = False

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """What comes back for a packed command. Fails with TimeoutError and RedisError."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.lost or self._transport is None:
            answer.set_exception(RedisConnectionError("the connection to Redis was lost"))
            return answer
        due = self._loop.time() + self._deadline_s
        self._waiting.append((due, answer))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        if not self._leaving:
            self._loop.call_soon(self._write)
        self._leaving.append(packed)
        return answer

    def give_up(self, error: Exception) -> None:
        """Close it; who waits gets the error."""
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            _, answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio calls it."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """As asyncio calls it: hand each answer to the one who has waited longest."""
        self._reader.feed(data)
        try:
            while (value := self._reader.gets()) is not False and self._waiting:
                _, answer = self._waiting.popleft()
                if answer.done():  # nobody waits for it any more
                    continue
                if isinstance(value, Exception):
                    answer.set_exception(value)
                else:
                    answer.set_result(value)
        except Exception as error:  # noqa: BLE001 (hiredis has an error of its own for what is no RESP)
            self.give_up(RedisConnectionError(f"what answers is no Redis: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio calls it."""
        self.give_up(RedisConnectionError(f"the connection to Redis was lost: {exc or 'closed by Redis'}"))

    def _write(self) -> None:
        """All that was asked in one turn of the loop goes in one piece: to wake Redis up is what costs."""
        if self._transport is not None and not self.lost:
            self._transport.write(b"".join(self._leaving))
        self._leaving.clear()

    def _look(self) -> None:
        """The one who has waited longest decides; a timer for each would cost more than the answer."""
        self._timer = None
        if not self._waiting:
            return
        due, _ = self._waiting[0]
        if due <= self._loop.time():
            self.give_up(TimeoutError())
        else:
            self._timer = self._loop.call_at(due, self._look)


async def _connect(pool: BlockingConnectionPool, protocol: Any) -> _Line:  # noqa: ANN401 (a factory)
    loop = asyncio.get_running_loop()
    given: Mapping[str, Any] = pool.connection_kwargs
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        _, line = await loop.create_unix_connection(protocol, given["path"])
        return line
    host, port = given.get("host", "localhost"), given.get("port", 6379)
    tls = None
    if issubclass(pool.connection_class, SSLConnection):
        tls = cast("SSLConnection", pool.make_connection()).ssl_context.get()
    _, line = await loop.create_connection(protocol, host, port, ssl=tls)
    return line


def _introduction(given: Mapping[str, Any]) -> list[tuple[Argument, ...]]:
    """Who we are, and which database."""
    commands: list[tuple[Argument, ...]] = []
    user, password = given.get("username"), given.get("password")
    if user or password:
        commands.append(("AUTH", *([user] if user else []), password or ""))
    if given.get("db"):
        commands.append(("SELECT", given["db"]))
    return commands


def _error(message: str) -> ResponseError:
    """Redis's errors as redis-py names those that are told apart here."""
    return NoScriptError(message) if message.startswith("NOSCRIPT") else ResponseError(message)


def _seen(task: asyncio.Task[_Line]) -> None:
    if not task.cancelled():
        task.exception()
