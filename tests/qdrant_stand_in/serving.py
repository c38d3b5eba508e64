"""The two ports: gRPC with the key checked, and the health routes of REST."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from qdrant_client import grpc as wire

from tests.qdrant_stand_in.catalogue import Catalogue
from tests.qdrant_stand_in.collections_service import CollectionsService
from tests.qdrant_stand_in.points_service import PointsService
from tests.qdrant_stand_in.refusals import Refused

VERSION = "1.18.2"
_OPEN = "/qdrant.Qdrant/HealthCheck"


class _Key(grpc.aio.ServerInterceptor):
    """Lets in who knows the key; anybody where there is none. The health check is open, as on a server."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        metadata = dict(handler_call_details.invocation_metadata or ())
        if self._key is None or handler_call_details.method == _OPEN or metadata.get("api-key") == self._key:
            return await continuation(handler_call_details)
        details = "Invalid API key or JWT" if "api-key" in metadata else "Must provide an API key"

        async def refuse(request: Any, context: grpc.aio.ServicerContext) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, details)

        return grpc.unary_unary_rpc_method_handler(refuse)


class _Root(wire.QdrantServicer):
    def __init__(self, version: str) -> None:
        self._version = version

    def HealthCheck(self, request: wire.HealthCheckRequest) -> wire.HealthCheckReply:  # noqa: N802
        return wire.HealthCheckReply(title="qdrant stand-in for tests", version=self._version)


def _answering(service: Any) -> Any:
    """The service with each method that it has as a handler; those it has not are UNIMPLEMENTED."""
    [base] = [one for one in type(service).__mro__ if one.__name__.endswith("Servicer")]
    for name, declared in inspect.getmembers(base, inspect.isfunction):
        own = getattr(type(service), name) is not declared
        setattr(service, name, _handler(getattr(service, name) if own else None, name))
    return service


def _handler(method: Callable[[Any], Any] | None, name: str) -> Callable[..., Awaitable[Any]]:
    async def handle(request: Any, context: grpc.aio.ServicerContext) -> Any:
        if method is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the stand-in does not know {name}")
        try:
            return method(request)
        except Refused as refused:
            await context.abort(refused.code, refused.details, refused.trailing)
        except Exception as error:  # noqa: BLE001 (Edge raises bare Exception for all that goes wrong)
            await context.abort(grpc.StatusCode.INTERNAL, f"Service internal error: {error}")

    return handle


async def serve_grpc(
    catalogue: Catalogue,
    host: str,
    port: int,
    key: str | None,
    *,
    points: PointsService | None = None,
    version: str = VERSION,
) -> grpc.aio.Server:
    """A started server; port 0 is not for it, since nobody would learn the port."""
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    # Without this a second stand-in would take the port too, and every other call.
    server = grpc.aio.server(interceptors=[_Key(key)], options=[*limits, ("grpc.so_reuseport", 0)])
    wire.add_PointsServicer_to_server(_answering(points or PointsService(catalogue)), server)
    wire.add_CollectionsServicer_to_server(_answering(CollectionsService(catalogue)), server)
    wire.add_QdrantServicer_to_server(_answering(_Root(version)), server)
    server.add_insecure_port(f"{host}:{port}")
    await server.start()
    return server


async def serve_rest(host: str, port: int) -> asyncio.Server:
    """GET / and the health routes; everything else is 501."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readline()).decode(errors="replace").split()
        while (await reader.readline()).strip():
            pass
        path = request[1] if len(request) > 1 and request[0] == "GET" else ""
        if path == "/":
            status, body = "200 OK", json.dumps({"title": "qdrant stand-in for tests", "version": VERSION})
        elif path in {"/readyz", "/healthz", "/livez"}:
            status, body = "200 OK", "all shards are ready" if path == "/readyz" else "healthz check passed"
        else:
            status, body = "501 Not Implemented", "the stand-in does not know this"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        kind = "application/json" if body.startswith("{") else "text/plain"
        writer.write(f"{head}Content-Type: {kind}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, host, port)
