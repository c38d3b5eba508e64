"""One connection to Redis that all callers share (multiplexed): replies arrive in the order of the commands.

A pool gives each command its own connection, which costs redis-py about 150 us of CPU per command: twice as much as the
rest of a cached answer. On a shared connection a command costs a few microseconds, and all commands of one event loop
iteration travel in one packet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from hiredis import Reader, pack_command
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from lorestream import supervision

if TYPE_CHECKING:
    from redis.asyncio.connection import BlockingConnectionPool

Argument: TypeAlias = bytes | str | int | float


class MultiplexedConnection:
    """Sends commands over one connection, which is opened at the first command and again whenever it was lost."""

    def __init__(
        self, pool: BlockingConnectionPool, timeout_s: float, *, address: tuple[str, int] | None = None
    ) -> None:
        """`pool` supplies address, credentials and TLS; no connection of it is used. `address`: another host and port.

        When a reply takes longer than `timeout_s`, the connection is closed: replies come in order, so all later
        ones would be late as well.
        """
        self._pool = pool
        self._timeout_s = timeout_s
        self._address = address
        self._protocol: _RedisProtocol | None = None
        self._opening: asyncio.Task[_RedisProtocol] | None = None

    async def command(self, *command: Argument) -> Any:  # noqa: ANN401 (any reply of Redis)
        """The reply to a command. Raises TimeoutError, RedisError and OSError."""
        return await self._send(pack_command(cast("Any", command)))

    async def asking(self, *command: Argument) -> Any:  # noqa: ANN401
        """The reply to a command about a key that a node of a cluster has got before its slot."""
        return await self._send(pack_command(cast("Any", command)), before=pack_command(("ASKING",)))

    async def _send(self, packed: bytes, before: bytes | None = None) -> Any:  # noqa: ANN401
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        protocol = self._protocol
        if protocol is not None and not protocol.closed:
            try:
                return await protocol.send(packed, before)
            except RedisConnectionError:
                pass  # Redis may have closed it while it was idle: try once more, on a new connection
        async with asyncio.timeout_at(deadline):
            protocol = await self._reconnect()
            return await protocol.send(packed, before)

    @property
    def idle(self) -> bool:
        """Whether no command waits for a reply, nor for the connection."""
        opening = self._opening is not None and not self._opening.done()
        return not opening and (self._protocol is None or not self._protocol.waiting)

    async def close(self) -> None:
        """Close the connection. Commands without a reply fail."""
        if self._opening is not None and not self._opening.done():
            await supervision.stop_tasks([self._opening])
        if self._protocol is not None:
            self._protocol.fail(RedisConnectionError("closed"))

    async def _reconnect(self) -> _RedisProtocol:
        """A usable connection, shared by all who wait for one. It is opened even if all of them are cancelled."""
        if self._protocol is not None and not self._protocol.closed:
            return self._protocol
        if self._opening is None or self._opening.done():
            self._opening = supervision.start_shared(self._open(), "connection to Redis")
        return await asyncio.shield(self._opening)

    async def _open(self) -> _RedisProtocol:
        async with asyncio.timeout(self._timeout_s):
            protocol = await _connect(self._pool, partial(_RedisProtocol, self._timeout_s), self._address)
            try:
                for command in _handshake(self._pool.connection_kwargs):
                    await protocol.send(pack_command(cast("Any", command)))
            except BaseException as error:
                # The next command opens another connection: left open, this one would stay until the process ends.
                protocol.fail(RedisConnectionError("not usable"))
                if isinstance(error, ResponseError):
                    # Without a login there is no connection, so this counts as an outage.
                    raise RedisConnectionError(f"Redis refused the login: {error}") from error
                raise
        self._protocol = protocol
        return protocol


class _RedisProtocol(asyncio.Protocol):
    """One open connection: a queue of futures, one per command without a reply."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(replyError=_to_error)
        self._pending: deque[tuple[float, asyncio.Future[Any]]] = deque()
        """(deadline in loop time, reply) of each command, the oldest first."""
        self._outgoing: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport | None = None
        self.closed = False

    def send(self, packed: bytes, before: bytes | None = None) -> asyncio.Future[Any]:
        """Send a packed command; returns the future of its reply. It fails with TimeoutError or RedisError.

        `before`: another one that is sent directly before it. Its reply is not returned.
        """
        if before is not None:
            self.send(before).add_done_callback(lambda reply: reply.cancelled() or reply.exception())
        reply: asyncio.Future[Any] = self._loop.create_future()
        if self.closed or self._transport is None:
            reply.set_exception(RedisConnectionError("the connection to Redis was lost"))
            return reply
        deadline = self._loop.time() + self._timeout_s
        self._pending.append((deadline, reply))
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._check_deadline)
        if not self._outgoing:
            self._loop.call_soon(self._write)
        self._outgoing.append(packed)
        return reply

    @property
    def waiting(self) -> bool:
        """Whether a command has no reply yet."""
        return bool(self._pending)

    def fail(self, error: Exception) -> None:
        """Close the connection and fail all pending commands with `error`."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        while self._pending:
            _, reply = self._pending.popleft()
            if not reply.done():
                reply.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio when the connection is open."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: give each complete reply to the oldest pending command."""
        self._reader.feed(data)
        try:
            while (value := self._reader.gets()) is not False and self._pending:
                _, reply = self._pending.popleft()
                if reply.done():  # its caller was cancelled
                    continue
                if isinstance(value, Exception):
                    reply.set_exception(value)
                else:
                    reply.set_result(value)
        except Exception as error:  # noqa: BLE001 (hiredis raises an error type of its own for invalid RESP)
            self.fail(RedisConnectionError(f"invalid reply, the server is not a Redis: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio when the connection was closed."""
        self.fail(RedisConnectionError(f"the connection to Redis was lost: {exc or 'closed by Redis'}"))

    def _write(self) -> None:
        """Write all commands of this event loop iteration at once: waking Redis up is what costs most."""
        if self._transport is not None and not self.closed:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def _check_deadline(self) -> None:
        """Fail the connection if the oldest command is late. One timer for all: a timer per command is too expensive."""
        self._timer = None
        if not self._pending:
            return
        deadline, _ = self._pending[0]
        if deadline <= self._loop.time():
            self.fail(TimeoutError())
        else:
            self._timer = self._loop.call_at(deadline, self._check_deadline)


async def _connect(
    pool: BlockingConnectionPool,
    factory: Any,  # noqa: ANN401 (makes the protocol)
    address: tuple[str, int] | None,
) -> _RedisProtocol:
    loop = asyncio.get_running_loop()
    options: Mapping[str, Any] = pool.connection_kwargs
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        _, protocol = await loop.create_unix_connection(factory, options["path"])
        return protocol
    host, port = address or (options.get("host", "localhost"), options.get("port", 6379))
    tls = None
    if issubclass(pool.connection_class, SSLConnection):
        tls = cast("SSLConnection", pool.make_connection()).ssl_context.get()
    _, protocol = await loop.create_connection(factory, host, port, ssl=tls)
    return protocol


def _handshake(options: Mapping[str, Any]) -> list[tuple[Argument, ...]]:
    """The commands that log in and select the database."""
    commands: list[tuple[Argument, ...]] = []
    user, password = options.get("username"), options.get("password")
    if user or password:
        commands.append(("AUTH", *([user] if user else []), password or ""))
    if options.get("db"):
        commands.append(("SELECT", options["db"]))
    return commands


def _to_error(message: str) -> ResponseError:
    """The exception of redis-py for an error reply. Only some need a class of their own here."""
    kind, _, rest = message.partition(" ")
    match kind:
        case "NOSCRIPT":
            return NoScriptError(message)
        case "MOVED":
            return MovedError(rest)
        case "ASK":
            return AskError(rest)
        case _:
            return ResponseError(message)
