"""One Redis server, asked in a way that losing it loses speed only.

Asking (`ask`, `run`) goes over one shared connection, with a short deadline and a circuit breaker: after one failure
nobody asks for a second, then one call tries. Telling (`tell`) has a longer deadline and always
tries, because whoever tells has to know.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from hashlib import sha1
from typing import Any

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

from lorestream.adapters.redis.connection import Argument, MultiplexedConnection
from lorestream.errors import Misconfigured, Unavailable

_log = structlog.get_logger("lorestream.redis")

SETTING = "LORESTREAM_CACHE__URL"
TRY_TIMEOUT_S = 0.08
"""What a query may lose to a Redis that does not answer. One that does needs 0.1 ms on the same machine."""
COMMAND_TIMEOUT_S = 0.25
START_TIMEOUT_S = 2.0
"""How long a start waits for an answer before it goes on without."""
BREAKER_OPEN_S = 1.0
"""How long nobody asks a Redis that failed."""
_WARN_EVERY_S = 60.0
_HELD_UP_S = 0.05
"""A deadline that is noticed so late says more about this process than about Redis."""

_FAILURES = (TimeoutError, RedisError, OSError)
_REFUSALS = (AuthenticationError, AuthenticationWrongNumberOfArgsError, AuthorizationError, NoPermissionError)


class Script:
    """A Lua script; it touches the keys that it is given and no others."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()


class CircuitBreaker:
    """Closed while calls succeed. A failure opens it for `rest_s` seconds; then one call may try at a time."""

    def __init__(self, breaker_open_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._breaker_open_s = breaker_open_s
        self._monotonic = monotonic
        self._open_until: float | None = None

    def admits(self) -> bool:
        """Whether to call now."""
        if self._open_until is None:
            return True
        if self._monotonic() < self._open_until:
            return False
        self.failure()  # until the trial has ended nobody else may
        return True

    def success(self) -> None:
        """A call succeeded."""
        self._open_until = None

    def failure(self) -> None:
        """A call failed."""
        self._open_until = self._monotonic() + self._breaker_open_s


class RedisClient:
    """Commands to one server; whatever goes wrong is Unavailable."""

    def __init__(
        self,
        redis: Redis,
        line: MultiplexedConnection,
        *,
        prefix: str,
        try_timeout_s: float,
        command_timeout_s: float,
        breaker_open_s: float,
    ) -> None:
        self.prefix = prefix
        """What all keys begin with, before a colon: others may use the same server."""
        self._redis = redis
        self._line = line
        self._try_timeout_s = try_timeout_s
        self._command_timeout_s = command_timeout_s
        self._breaker = CircuitBreaker(breaker_open_s)
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
        """`url`: redis://, rediss:// or unix://, with user, password and database where they are needed.

        Raises Misconfigured when what answers there is not a Redis that does what is asked. One that does not
        answer may come later.
        """
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=max_connections,
                timeout=None,  # deadlines are ours, over all of a call
                socket_timeout=None,
                socket_connect_timeout=START_TIMEOUT_S,
                retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),  # a connection may have gone while idle
                protocol=2,
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
            )
        except ValueError:  # its message may hold a part of a password
            raise Misconfigured(
                f"{SETTING} is no address of a Redis: one looks like redis://:password@host:6379/0"
            ) from None
        line = MultiplexedConnection(pool, try_timeout_s)
        client = cls(
            Redis.from_pool(pool),
            line,
            prefix=prefix,
            try_timeout_s=try_timeout_s,
            command_timeout_s=command_timeout_s,
            breaker_open_s=breaker_open_s,
        )
        try:
            await client._check()
            yield client
        finally:
            await line.close()
            await client._redis.aclose()

    async def try_command(self, *command: Argument) -> Any:  # noqa: ANN401 (as Redis answers)
        """The answer to a command, within `ask_s`. Raises Unavailable, at once while the server rests."""
        return await self._guarded(self._line.command(*command))

    async def try_script(self, script: Script, keys: str | Sequence[str], *args: Argument) -> Any:  # noqa: ANN401 (as Redis answers)
        """What a script answers, otherwise as `ask`."""
        names = (keys,) if isinstance(keys, str) else tuple(keys)
        return await self._guarded(self._execute(script, names, args))

    async def command(self, *command: Argument) -> Any:  # noqa: ANN401 (as Redis answers)
        """The answer to a command, within `tell_s`, whatever happened before. Raises Unavailable."""
        return await self._within(self._command_timeout_s, self._command(*command))

    async def _command(self, *command: Argument) -> Any:  # noqa: ANN401
        answer: Any = await self._redis.execute_command(*command)
        return answer

    async def _execute(self, script: Script, keys: tuple[str, ...], args: tuple[Argument, ...]) -> Any:  # noqa: ANN401
        try:
            return await self._line.command("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:  # a Redis that was started anew
            return await self._line.command("EVAL", script.source, len(keys), *keys, *args)

    async def _guarded(self, call: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
        if not self._breaker.admits():
            call.close()
            raise Unavailable("Redis failed a moment ago")
        began = time.monotonic()
        try:
            answer = await call
        except _FAILURES as cause:
            # What Redis refuses (it is full, it loads, a right is missing) costs no time to be told again; and
            # when this process itself was held up, the answer may lie there unread.
            held_up = time.monotonic() - began > self._try_timeout_s + _HELD_UP_S
            if not held_up and not isinstance(cause, ResponseError):
                self._breaker.failure()
            error = _unavailable(cause, self._try_timeout_s)
            self._warn(error)
            raise error from cause
        self._breaker.success()
        return answer

    def _warn(self, error: Unavailable) -> None:
        """Say it once a minute."""
        if time.monotonic() - self._warned_at > _WARN_EVERY_S:
            self._warned_at = time.monotonic()
            _log.warning("Redis fails: what it speeds up is slower now", error=error.message)

    async def _within(self, seconds: float, call: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
        try:
            async with asyncio.timeout(seconds):
                return await call
        except _FAILURES as cause:
            raise _unavailable(cause, seconds) from cause

    async def _check(self) -> None:
        """Refuse what no waiting mends: a password, a right, a program that is no Redis, a cluster's node."""
        try:
            await self._within(
                START_TIMEOUT_S, self._command("UNLINK", f"{self.prefix}:check:1", f"{self.prefix}:check:2")
            )
        except Unavailable as error:
            cause = error.__cause__
            if isinstance(cause, _REFUSALS):
                raise Misconfigured(
                    f"{SETTING}: Redis refuses us ({cause}): check user, password and rights"
                ) from error
            if isinstance(cause, InvalidResponse):
                raise Misconfigured(f"{SETTING}: what answers there is no Redis ({cause})") from error
            if isinstance(cause, MovedError | ClusterCrossSlotError):
                raise Misconfigured(
                    f"{SETTING}: this is a node of a Redis Cluster: give one server of its own, or a proxy"
                ) from error
            self._warn(error)


def _unavailable(cause: Exception, seconds: float) -> Unavailable:
    if isinstance(cause, TimeoutError):
        return Unavailable(f"Redis did not answer within {seconds * 1000:.0f} ms")
    return Unavailable(f"Redis failed: {cause}")
