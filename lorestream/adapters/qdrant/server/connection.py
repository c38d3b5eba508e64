"""Calls to a Qdrant server over one gRPC channel, each with a deadline; its errors become those of Lorestream.

The messages and stubs are those of qdrant-client. Its client class is not used: it converts every point and every
response into a pydantic model, and opens an HTTP client as well.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio

from lorestream.adapters.qdrant.server.protocol import wire
from lorestream.errors import InvalidEvent, LorestreamError, Misconfigured, Unavailable

if TYPE_CHECKING:
    from google.protobuf.message import Message

SETTING = "LORESTREAM_STORE__URL"
MIN_VERSION = (1, 17)
"""The first version with insert-only upserts; older ones would silently overwrite existing memories."""

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Reconnect within a second after an outage. The default backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Detect a connection whose other end has vanished while calls are waiting on it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5000),
]
_ACCESS_DENIED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_BAD_REQUEST = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}

_MAX_DETAILS_CHARS = 500
_DEFAULT_RETRY_MS = 1000
_MAX_RETRY_S = 3600.0

Response = TypeVar("Response", bound="Message")


class Connection:
    """Calls to one server. `target`: HOST:PORT, for messages."""

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
        """A channel to the host of `url`, with TLS if its scheme is https. Ignores a port in `url`: it is that of REST.

        Makes no call. `timeout_s`: the default deadline of each call. Raises Misconfigured for an invalid URL or key.
        """
        try:
            parts = urlsplit(url)
            host, scheme = parts.hostname, parts.scheme
        except ValueError:
            host = scheme = None
        if not host or scheme not in {"http", "https"}:
            raise Misconfigured(
                f"{SETTING} is not the URL of a Qdrant server: it has the form http://host:6333"
            )
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise Misconfigured(
                "LORESTREAM_STORE__API_KEY has characters that are not printable ASCII: copy the key again"
            )
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
        method: Callable[..., Awaitable[Response]],
        request: Message,
        *,
        timeout_s: float | None = None,
    ) -> Response:
        """Call a stub's method. Raises Unavailable and Misconfigured."""
        try:
            return await self.send(method, request, timeout_s=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise self._translated(error) from error

    async def write(self, method: Callable[..., Awaitable[Response]], request: Message) -> Response:
        """Call a stub's method that writes points. Raises also InvalidEvent when the server rejects the points."""
        try:
            return await self.send(method, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise InvalidEvent(f"Qdrant rejects the point: {_details(error)}") from error
            raise self._translated(error) from error

    async def send(
        self,
        method: Callable[..., Awaitable[Response]],
        request: Message,
        *,
        timeout_s: float | None = None,
    ) -> Response:
        """Call a stub's method without translating the server's errors: raises grpc.aio.AioRpcError."""
        try:
            return await method(request, timeout=timeout_s or self._timeout_s, metadata=self._metadata)
        except grpc.aio.UsageError as error:
            raise Unavailable(f"Qdrant at {self.target}: {error}") from error

    async def version(self) -> tuple[int, int]:
        """The server's (major, minor). Raises Misconfigured if it is too old or not a Qdrant, and Unavailable."""
        try:
            response = await self.call(self._root.HealthCheck, wire.HealthCheckRequest())
        except Misconfigured as error:
            raise Misconfigured(
                f"{SETTING}: the server at {self.target} is not a Qdrant gRPC port: set LORESTREAM_STORE__GRPC_PORT"
            ) from error
        found = re.match(r"(\d+)\.(\d+)", response.version)
        major, minor = map(int, found.groups()) if found else (0, 0)
        if (major, minor) < MIN_VERSION:
            raise Misconfigured(
                f"Qdrant at {self.target} has version {response.version}: lorestream needs 1.17 or newer"
            )
        return major, minor

    def _translated(self, error: grpc.aio.AioRpcError) -> LorestreamError:
        code, details = error.code(), _details(error)
        if code in _ACCESS_DENIED:
            return Misconfigured(
                f"Qdrant at {self.target} denies access ({details}): check LORESTREAM_STORE__API_KEY"
            )
        if code in _BAD_REQUEST:
            return Misconfigured(f"Qdrant at {self.target} rejects the request: {details}")
        message = f"Qdrant at {self.target}: {code.name.lower()}: {details}"
        return Unavailable(message, retry_after_ms=_retry_after_ms(error))


def _retry_after_ms(error: grpc.aio.AioRpcError) -> int:
    """The pause that a rate-limiting server requests, else the default."""
    for key, value in error.trailing_metadata() or ():
        if key == "retry-after" and isinstance(value, str) and value.isdecimal():
            return round(min(float(value), _MAX_RETRY_S) * 1000)  # a number of any length
    return _DEFAULT_RETRY_MS


def _details(error: grpc.aio.AioRpcError) -> str:
    return " ".join((error.details() or "").split())[:_MAX_DETAILS_CHARS]
