"""The gRPC server: memory.MemoryService with health and reflection, for the calls that the process has handlers for."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import msgspec
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lorestream.access.authentication import (
    NO_AUTHENTICATION,
    Authenticator,
    Forbidden,
    Principal,
    Unauthenticated,
    single_authorization,
)
from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidRequest, Misconfigured, Overloaded, Unavailable
from lorestream.grpc import memory_pb2, memory_pb2_grpc
from lorestream.grpc.decoding import DecodeErrors, abort
from lorestream.grpc.measuring import MeasureCalls
from lorestream.limits import JsonObject, clamp_time, json_fault
from lorestream.memories import Memory
from lorestream.os_support import free_files
from lorestream.telemetry import Metrics

_log = structlog.get_logger("lorestream.grpc")

SERVICE = memory_pb2.DESCRIPTOR.services_by_name["MemoryService"].full_name
MAX_MESSAGE_BYTES = 2**20
SHUTDOWN_GRACE_S = 1.0
MAX_CALLS_PER_CONNECTION = 100
HANDSHAKE_TIMEOUT_MS = 10_000
"""A connection that does not speak HTTP/2 within this time is closed."""
IDLE_TIMEOUT_MS = 60_000
"""A connection without calls is closed after this time."""
KEEPALIVE_INTERVAL_MS = 30_000
KEEPALIVE_TIMEOUT_MS = 10_000
"""How long a silent client has to answer a ping, so that those that have disappeared do not stay."""
_MIN_CONNECTIONS = 4
_SCOPES = {"PutMemory": KeyScope.INGEST, "GetMemory": KeyScope.QUERY, "DeleteMemory": KeyScope.ERASE}

_FIELDS = {
    "ttl": "ttl_seconds",
    "metadata": "metadata_json",
    "query": "query_text",
    "filters": "filters_json",
}
"""Names of fields in the core, and in the messages where these differ."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory for the response of GetMemory. `agent_id` is the id that the caller sent."""

    agent_id: str
    memory: Memory
    score: float


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of this process. A call without a handler is answered with UNIMPLEMENTED, naming `peer`.

    `put(principal, agent_id, text, metadata, ttl_s)` returns the memory id; `ttl_s` None is the default.
    `get(principal, agent_id, query, k, filters)` returns a GetMemoryResponse as bytes, see `encode_hits`.
    """

    put: Callable[[Principal, str, str, Mapping[str, Any] | None, float | None], Awaitable[str]] | None = None
    get: Callable[[Principal, str, str, int, Mapping[str, Any] | None], Awaitable[bytes]] | None = None
    delete: Callable[[Principal, str], Awaitable[None]] | None = None
    peer: str = ""


@contextlib.asynccontextmanager
async def serving(
    handlers: Handlers,
    host: str,
    port: int,
    *,
    authenticator: Authenticator = NO_AUTHENTICATION,
    metrics: Metrics | None = None,
) -> AsyncGenerator[int]:
    """Serve until the context ends; yields the port. Raises Misconfigured when the port cannot be used.

    The calls need a principal from `authenticator`; health and reflection are open.
    """
    authentication = _Authentication(authenticator)
    server = grpc.aio.server(
        interceptors=(MeasureCalls(SERVICE, metrics or Metrics()), DecodeErrors(authentication.refuse)),
        options=_options(),
    )
    memory_pb2_grpc.add_MemoryServiceServicer_to_server(_Servicer(handlers, authentication), server)
    states = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise Misconfigured(
            f"gRPC port {port} on {host} is in use: stop the process that holds it, or choose another port with --grpc-port"
        ) from error
    await server.start()
    for name in ("", SERVICE):
        await states.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield bound
    finally:
        await states.enter_graceful_shutdown()
        await server.stop(SHUTDOWN_GRACE_S)


def _options() -> list[tuple[str, int]]:
    """The options of the server. Clients open closed connections again by themselves."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_concurrent_streams", MAX_CALLS_PER_CONNECTION),
        # A quarter of the files that may still be opened: otherwise connections that send nothing would take those of
        # the log, the store and HTTP.
        ("grpc.max_allowed_incoming_connections", max(_MIN_CONNECTIONS, free_files() // 4)),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS),
        ("grpc.max_connection_idle_ms", IDLE_TIMEOUT_MS),
        ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ]


class _Authentication:
    """Authenticates callers by the metadata entry `authorization`."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._access = authenticator

    async def principal(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> Principal:
        """The caller of a method of MemoryService. Aborts the call without a valid key, or without the scope."""
        metadata = context.invocation_metadata() or ()
        sent = [value for name, value in metadata if name == "authorization"]
        try:
            principal = self._access.authenticate(single_authorization([_text(value) for value in sent]))
            principal.require(_SCOPES[method])
        except Unauthenticated as error:
            await abort(context, grpc.StatusCode.UNAUTHENTICATED, str(error))
        except Forbidden as error:
            await abort(context, grpc.StatusCode.PERMISSION_DENIED, str(error))
        return principal

    async def refuse(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Abort a call of MemoryService whose caller has no valid key, or not the scope."""
        service, _, name = method.removeprefix("/").partition("/")
        if service == SERVICE:
            await self.principal(name, context)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


class _Servicer(memory_pb2_grpc.MemoryServiceServicer):
    """Translates between protobuf messages and handlers, and exceptions to status codes."""

    def __init__(self, handlers: Handlers, authentication: _Authentication) -> None:
        self._handlers = handlers
        self._authentication = authentication

    async def PutMemory(  # noqa: N802 (gRPC names it)
        self, request: memory_pb2.PutMemoryRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> memory_pb2.PutMemoryResponse:
        put = await self._handler(self._handlers.put, context)
        principal = await self._authentication.principal("PutMemory", context)
        ttl = float(request.ttl_seconds) if request.HasField("ttl_seconds") else None

        async def call() -> str:
            metadata = _object(request.metadata_json, "metadata_json")
            return await put(principal, request.agent_id, request.text, metadata, ttl)

        return memory_pb2.PutMemoryResponse(success=True, id=await _with_status(call, context))

    async def GetMemory(  # noqa: N802
        self, request: memory_pb2.GetMemoryRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> memory_pb2.GetMemoryResponse:
        get = await self._handler(self._handlers.get, context)
        principal = await self._authentication.principal("GetMemory", context)

        async def call() -> bytes:
            filters = _object(request.filters_json, "filters_json")
            return await get(principal, request.agent_id, request.query_text, request.k or 5, filters)

        response = await _with_status(call, context)
        await self._authentication.principal("GetMemory", context)  # the key may have been revoked meanwhile
        return memory_pb2.GetMemoryResponse.FromString(response)

    async def DeleteMemory(  # noqa: N802
        self, request: memory_pb2.DeleteMemoryRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> memory_pb2.DeleteMemoryResponse:
        delete = await self._handler(self._handlers.delete, context)
        principal = await self._authentication.principal("DeleteMemory", context)
        await _with_status(lambda: delete(principal, request.agent_id), context)
        return memory_pb2.DeleteMemoryResponse(success=True)

    async def _handler(self, handler: T | None, context: grpc.aio.ServicerContext[Any, Any]) -> T:
        if handler is None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"this call is answered by {self._handlers.peer}",
            )
        assert handler is not None
        return handler


def _object(text: str, field: str) -> Mapping[str, Any] | None:
    if not text:
        return None
    try:
        value = msgspec.json.decode(text, type=JsonObject)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"not a JSON object: {json_fault(text, error)}", path=field) from error
    return value or None


def encode_hits(hits: Sequence[Hit]) -> bytes:
    """The hits, the best first, as an encoded GetMemoryResponse: the form in which answers are cached."""
    return memory_pb2.GetMemoryResponse(memories=[_message(hit) for hit in hits]).SerializeToString()


def _message(hit: Hit) -> memory_pb2.Memory:
    memory = hit.memory
    return memory_pb2.Memory(
        agent_id=hit.agent_id,
        text=memory.text,
        metadata=msgspec.json.encode(memory.metadata).decode(),
        timestamp=math.floor(clamp_time(memory.timestamp)),
        score=hit.score,
        id=memory.id,
        type=memory.type or "",
        time=memory.timestamp,
    )


async def _with_status(call: Callable[[], Awaitable[T]], context: grpc.aio.ServicerContext[Any, Any]) -> T:
    """Await the call. Its exceptions abort the RPC with their status code."""
    try:
        return await call()
    except InvalidRequest as error:
        return await abort(context, grpc.StatusCode.INVALID_ARGUMENT, _with_field(error))
    except Overloaded as error:
        return await abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, error.message)
    except Unavailable as error:
        _log.warning("the call was refused: a needed part is unavailable or overloaded", error=error.message)
        return await abort(context, grpc.StatusCode.UNAVAILABLE, error.message)


def _with_field(error: InvalidRequest) -> str:
    """The message, after the path of the field in the caller's message."""
    if error.path is None:
        return error.message
    first = re.split(r"[.\[]", error.path, maxsplit=1)[0]
    return f"{_FIELDS.get(first, first)}{error.path[len(first) :]}: {error.message}"
