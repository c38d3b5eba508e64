"""Client of one Redis server or of a Redis Cluster, with two kinds of calls.

Best effort: `try_command` and `try_script`. They go over one shared connection, with a short timeout and a circuit
breaker: after a failure all of them fail at once for a second, then one call probes the server. In a cluster each node
has its own connection and breaker. The caller treats Unavailable as a miss.

Must succeed: `command`. It has a longer timeout, uses a pool of connections and ignores the circuit breaker, because the
caller has to know whether it was carried out.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from functools import partial
from hashlib import sha1
from typing import TYPE_CHECKING, Any

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    ClusterCrossSlotError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

from lorestream.adapters.redis.nodes import Address, Nodes
from lorestream.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from lorestream.adapters.redis.connection import Argument

_log = structlog.get_logger("lorestream.redis")

SETTING = "LORESTREAM_CACHE__URL"
TRY_TIMEOUT_S = 0.08
"""Limit of a best-effort call: what a search may lose to an unresponsive Redis. A local Redis answers in 0.1 ms."""
COMMAND_TIMEOUT_S = 0.25
"""Limit of `command`."""
START_TIMEOUT_S = 2.0
"""How long `open` waits for Redis. After that the client opens without a connection."""
BREAKER_OPEN_S = 1.0
"""How long best-effort calls fail at once after a failure."""
_WARNING_INTERVAL_S = 60.0
_LOOP_DELAY_S = 0.05
"""A timeout that fires this late means that this process was blocked; it says nothing about Redis."""

_FAILURES = (TimeoutError, RedisError, OSError)
_REFUSALS = (AuthenticationError, AuthenticationWrongNumberOfArgsError, AuthorizationError, NoPermissionError)


class Script:
    """A Lua script. It may use only the keys that it is given."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()


class CircuitBreaker:
    """Closed while calls succeed. A failure opens it for `open_s` seconds; then one call at a time may probe."""

    def __init__(self, open_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._open_s = open_s
        self._monotonic = monotonic
        self._open_until: float | None = None

    def try_admit(self) -> bool:
        """Whether a call may be made now. After the open time, True makes the caller the probe."""
        if self._open_until is None:
            return True
        if self._monotonic() < self._open_until:
            return False
        self.failure()  # keeps the others out until the probe has ended
        return True

    def success(self) -> None:
        """A call succeeded."""
        self._open_until = None

    def failure(self) -> None:
        """A call failed."""
        self._open_until = self._monotonic() + self._open_s


class RedisClient:
    """Commands to one server or cluster. Every error of Redis or the network is raised as Unavailable."""

    def __init__(
        self,
        redis: Redis,
        shared: Nodes,
        patient: Nodes,
        *,
        prefix: str,
        try_timeout_s: float,
        command_timeout_s: float,
        breaker_open_s: float,
    ) -> None:
        self.prefix = prefix
        """Prefix of all keys, before a colon. Other applications may use the same server."""
        self._redis = redis
        self._shared = shared
        self._patient = patient
        """For the commands that must succeed, in a cluster."""
        self._try_timeout_s = try_timeout_s
        self._command_timeout_s = command_timeout_s
        self._breakers = defaultdict[Address | None, CircuitBreaker](partial(CircuitBreaker, breaker_open_s))
        self._warned_at = -math.inf

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        prefix: str = "lorestream",
        max_connections: int = 32,
        try_timeout_s: float = TRY_TIMEOUT_S,
        command_timeout_s: float = COMMAND_TIMEOUT_S,
        breaker_open_s: float = BREAKER_OPEN_S,
    ) -> AsyncGenerator[RedisClient]:
        """Open a client. `url`: redis://, rediss:// or unix://, with user, password and database where needed.

        Raises Misconfigured when the server refuses the login or is not a usable Redis. A server that cannot be
        reached is not an error: calls fail with Unavailable until it can.
        """
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=max_connections,
                timeout=None,  # this class limits the whole call
                socket_timeout=None,
                socket_connect_timeout=START_TIMEOUT_S,
                retry=Retry(
                    NoBackoff(), 1, (RedisConnectionError,)
                ),  # an idle connection may have been closed
                protocol=2,
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
            )
        except ValueError:  # its message may hold a part of a password
            raise Misconfigured(
                f"{SETTING} is not the address of a Redis: use the form redis://:password@host:6379/0"
            ) from None
        shared, patient = Nodes(pool, try_timeout_s), Nodes(pool, command_timeout_s)
        client = cls(
            Redis.from_pool(pool),
            shared,
            patient,
            prefix=prefix,
            try_timeout_s=try_timeout_s,
            command_timeout_s=command_timeout_s,
            breaker_open_s=breaker_open_s,
        )
        try:
            await client._check()
            yield client
        finally:
            await shared.close()
            await patient.close()
            await client._redis.aclose()

    async def try_command(self, *command: Argument) -> Any:  # noqa: ANN401 (any reply of Redis)
        """The reply to a command, within `try_timeout_s`. Best effort.

        Raises Unavailable, at once while the circuit breaker is open.
        """
        return await self._with_breaker(self._shared.node(*command), self._shared.command(*command))

    async def try_script(self, script: Script, keys: str | Sequence[str], *args: Argument) -> Any:  # noqa: ANN401 (any reply of Redis)
        """The reply to a script, given its keys and arguments. Otherwise as `try_command`."""
        names = (keys,) if isinstance(keys, str) else tuple(keys)
        node = self._shared.node("EVALSHA", script.sha, len(names), *names)
        return await self._with_breaker(node, self._execute(script, names, args))

    async def command(self, *command: Argument) -> Any:  # noqa: ANN401 (any reply of Redis)
        """The reply to a command, within `command_timeout_s`, whatever the state of the circuit breaker.

        Raises Unavailable; then the command may or may not have been carried out.
        """
        return await self._within(self._command_timeout_s, self._command(*command))

    async def ping(self) -> None:
        """Return when the server has answered, within `command_timeout_s`. Raises Unavailable."""
        await self.command("PING")

    async def scan(self, pattern: str, *, count: int) -> AsyncGenerator[Sequence[bytes]]:
        """The keys that match a pattern, about `count` at a time. Raises Unavailable.

        They are all those that exist from the beginning to the end, in a cluster those that stay on their node meanwhile.
        """
        await self._within(self._command_timeout_s, self._probe())
        for node in self._patient.primaries:
            cursor = 0
            while True:
                arguments = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
                reply = await self._within(self._command_timeout_s, self._patient.on(node, *arguments))
                cursor, names = int(reply[0]), reply[1]
                if names:
                    yield names
                if not cursor:
                    break

    async def _command(self, *command: Argument) -> Any:  # noqa: ANN401
        if not self._patient.clustered:
            try:
                reply: Any = await self._redis.execute_command(*command)
            except (MovedError, ClusterCrossSlotError):
                await self._patient.load()
            else:
                return reply
        return await self._patient.command(*command)

    async def _execute(self, script: Script, keys: tuple[str, ...], args: tuple[Argument, ...]) -> Any:  # noqa: ANN401
        try:
            return await self._shared.command("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:  # Redis was restarted, or its scripts were flushed
            return await self._shared.command("EVAL", script.source, len(keys), *keys, *args)

    async def _with_breaker(self, node: Address | None, call: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
        breaker = self._breakers[node]
        if not breaker.try_admit():
            call.close()
            raise Unavailable("Redis failed a moment ago; not tried again yet")
        began = time.monotonic()
        try:
            reply = await call
        except _FAILURES as cause:
            # An error reply (out of memory, loading, no permission) arrives fast, so the breaker saves nothing. And
            # if this process was blocked, the reply may have arrived in time without being read.
            blocked = time.monotonic() - began > self._try_timeout_s + _LOOP_DELAY_S
            if not blocked and not isinstance(cause, ResponseError):
                breaker.failure()
            error = _unavailable(cause, self._try_timeout_s)
            self._warn(error)
            raise error from cause
        breaker.success()
        return reply

    def _warn(self, error: Unavailable) -> None:
        """Log a warning, at most once a minute."""
        if time.monotonic() - self._warned_at > _WARNING_INTERVAL_S:
            self._warned_at = time.monotonic()
            _log.warning(
                "Redis calls fail, answers are not cached and rate limits are not shared: check the server at"
                f" {SETTING}",
                error=error.message,
            )

    async def _within(self, seconds: float, call: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
        try:
            async with asyncio.timeout(seconds):
                return await call
        except _FAILURES as cause:
            raise _unavailable(cause, seconds) from cause

    async def _probe(self) -> None:
        """Remove two keys that do not exist, in different slots: a node of a cluster shows by its reply that it is one."""
        await self._command("UNLINK", f"{self.prefix}:check:1", f"{self.prefix}:check:2")

    async def _check(self) -> None:
        """Raise Misconfigured for what does not go away by waiting: wrong login or rights, no Redis."""
        try:
            await self._within(START_TIMEOUT_S, self._probe())
        except Unavailable as error:
            cause = error.__cause__
            if isinstance(cause, _REFUSALS):
                raise Misconfigured(
                    f"{SETTING}: Redis refused the login or the command ({cause}): check user, password and ACL"
                ) from error
            if isinstance(cause, InvalidResponse):
                raise Misconfigured(
                    f"{SETTING}: the server at this address is not a Redis ({cause}): check host and port"
                ) from error
            self._warn(error)


def _unavailable(cause: Exception, seconds: float) -> Unavailable:
    if isinstance(cause, TimeoutError):
        return Unavailable(f"Redis did not answer within {seconds * 1000:.0f} ms")
    return Unavailable(f"Redis failed: {cause}")
