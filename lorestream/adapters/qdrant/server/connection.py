"""The wire to a Qdrant server: one gRPC channel, a deadline on every call, its faults in our words.

qdrant-client brings the messages and the stubs. Its own client is not used: it turns every point and every
answer into a model first, and keeps an HTTP client beside the channel.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio
from qdrant_client import grpc as wire

from lorestream.errors import InvalidEvent, LorestreamError, Misconfigured, Unavailable

if TYPE_CHECKING:
    from google.protobuf.message import Message

SETTING = "LORESTREAM_STORE__URL"
OLDEST = (1, 17)
"""The first version with insert-only upserts; one before it would overwrite what is there, silently."""

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that is back is found within a second. By default the pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A connection whose other end has vanished is given up while calls wait for it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5000),
]
_NOT_ALLOWED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_REFUSED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}

Answer = TypeVar("Answer", bound="Message")


class Connection:
    """Calls to one server."""

    def __init__(
        self, channel: grpc.aio.Channel, target: str, metadata: tuple[tuple[str, str], ...], timeout_s: float
    ) -> None:
        """Use `open`."""
        self.points: Any = wire.PointsStub(channel)
        self.collections: Any = wire.CollectionsStub(channel)
        self.snapshots: Any = wire.SnapshotsStub(channel)
        self._root: Any = wire.QdrantStub(channel)
        self.target = target
        self._metadata = metadata
        self._timeout_s = timeout_s

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, url: str, *, grpc_port: int, api_key: str | None, timeout_s: float
    ) -> AsyncGenerator[Connection]:
        """Connect to the host of `url`, with TLS where it says https; a port in it is that of REST, not ours.

        Makes no call. Raises Misconfigured for what is no address.
        """
        try:
            parts = urlsplit(url)
            host, scheme = parts.hostname, parts.scheme
        except ValueError:
            host = scheme = None
        if not host or scheme not in {"http", "https"}:
            raise Misconfigured(
                f"{SETTING} is no address of a Qdrant server: one looks like http://host:6333"
            )
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise Misconfigured("LORESTREAM_STORE__API_KEY holds characters that no key has")
        target = f"[{host}]:{grpc_port}" if ":" in host else f"{host}:{grpc_port}"
        metadata = () if api_key is None else (("api-key", api_key),)
        if scheme == "https":
            channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=_OPTIONS)
        else:
            channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        async with channel:
            yield cls(channel, target, metadata, timeout_s)

    async def call(
        self,
        method: Callable[..., Awaitable[Answer]],
        request: Message,
        *,
        timeout_s: float | None = None,
    ) -> Answer:
        """The answer of a stub's method. Raises Unavailable and Misconfigured."""
        try:
            return await self.ask(method, request, timeout_s=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise self._translated(error) from error

    async def write(self, method: Callable[..., Awaitable[Answer]], request: Message) -> Answer:
        """The same for a call whose points may be at fault: what the server refuses is an InvalidEvent."""
        try:
            return await self.ask(method, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise InvalidEvent(f"Qdrant refuses it: {_details(error)}") from error
            raise self._translated(error) from error

    async def ask(
        self,
        method: Callable[..., Awaitable[Answer]],
        request: Message,
        *,
        timeout_s: float | None = None,
    ) -> Answer:
        """The same with the server's own faults, for who wants to look at them."""
        try:
            return await method(request, timeout=timeout_s or self._timeout_s, metadata=self._metadata)
        except grpc.aio.UsageError as error:
            raise Unavailable(f"Qdrant at {self.target}: {error}") from error

    async def version(self) -> tuple[int, int]:
        """The server's version. Raises Misconfigured for one that is too old, or for what is no Qdrant."""
        try:
            reply = await self.call(self._root.HealthCheck, wire.HealthCheckRequest())
        except Misconfigured as error:
            raise Misconfigured(
                f"{SETTING}: what answers at {self.target} is no Qdrant: give LORESTREAM_STORE__GRPC_PORT its port"
            ) from error
        found = re.match(r"(\d+)\.(\d+)", reply.version)
        major, minor = map(int, found.groups()) if found else (0, 0)
        if (major, minor) < OLDEST:
            raise Misconfigured(f"Qdrant at {self.target} is {reply.version}: lorestream needs 1.17 or newer")
        return major, minor

    def _translated(self, error: grpc.aio.AioRpcError) -> LorestreamError:
        code, details = error.code(), _details(error)
        if code in _NOT_ALLOWED:
            return Misconfigured(
                f"Qdrant at {self.target} refuses us ({details}): check LORESTREAM_STORE__API_KEY"
            )
        if code in _REFUSED:
            return Misconfigured(f"Qdrant at {self.target} does not take what is asked of it: {details}")
        message = f"Qdrant at {self.target}: {code.name.lower()}: {details}"
        return Unavailable(message, retry_after_ms=_retry_after_ms(error))


def _retry_after_ms(error: grpc.aio.AioRpcError) -> int:
    """What a server says that limits the rate of calls, else one second."""
    for key, value in error.trailing_metadata() or ():
        if key == "retry-after" and isinstance(value, str) and value.isdecimal():
            return int(value) * 1000
    return 1000


def _details(error: grpc.aio.AioRpcError) -> str:
    return " ".join((error.details() or "").split())[:500]
