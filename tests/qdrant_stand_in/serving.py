"""The two ports: gRPC with a check of the API key, and REST for health and snapshot files."""

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
from tests.qdrant_stand_in.refusals import RequestError
from tests.qdrant_stand_in.snapshots_service import SnapshotsService

VERSION = "1.18.2"
_OPEN = "/qdrant.Qdrant/HealthCheck"


class _Key(grpc.aio.ServerInterceptor):
    """Checks the API key, if there is one. The health check needs no key, as on a server."""

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


def _with_handlers(service: Any) -> Any:
    """The service with a handler for each of its methods; methods that it does not define are UNIMPLEMENTED."""
    [base] = [one for one in type(service).__mro__ if one.__name__.endswith("Servicer")]
    for name, declared in inspect.getmembers(base, inspect.isfunction):
        own = getattr(type(service), name) is not declared
        setattr(service, name, _handler(getattr(service, name) if own else None, name))
    return service


def _handler(method: Callable[[Any], Any] | None, name: str) -> Callable[..., Awaitable[Any]]:
    async def handle(request: Any, context: grpc.aio.ServicerContext) -> Any:
        if method is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the stand-in does not implement {name}")
        try:
            answer = method(request)
            return await answer if inspect.isawaitable(answer) else answer
        except RequestError as refused:
            await context.abort(refused.code, refused.details, refused.trailing)
        except Exception as error:  # noqa: BLE001 (Edge raises bare Exception for every error)
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
    """Start a server. `port` must not be 0, because the chosen port would not be known."""
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    # Otherwise a second stand-in could listen on the same port and get every other call.
    server = grpc.aio.server(interceptors=[_Key(key)], options=[*limits, ("grpc.so_reuseport", 0)])
    wire.add_PointsServicer_to_server(_with_handlers(points or PointsService(catalogue)), server)
    wire.add_CollectionsServicer_to_server(_with_handlers(CollectionsService(catalogue)), server)
    wire.add_SnapshotsServicer_to_server(_with_handlers(SnapshotsService(catalogue)), server)
    wire.add_QdrantServicer_to_server(_with_handlers(_Root(version)), server)
    server.add_insecure_port(f"{host}:{port}")
    await server.start()
    return server


async def serve_rest(host: str, port: int, catalogue: Catalogue, key: str | None) -> asyncio.Server:
    """Serve GET /, the health routes, and download and upload of snapshots; everything else is 501."""
    snapshots = SnapshotsService(catalogue)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).decode(errors="replace").split()
        headers: dict[str, str] = {}
        while line := (await reader.readline()).strip().decode(errors="replace"):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = [*words, "", ""]
        if key is not None and asked[1].startswith("/collections") and headers.get("api-key") != key:
            asked = ["", "forbidden"]
        status, kind, content = _rest(snapshots, (asked[0], asked[1].partition("?")[0]), headers, body)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Type: {kind}\r\n\r\n".encode() + content)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, host, port)


def _rest(
    snapshots: SnapshotsService, asked: tuple[str, str], headers: dict[str, str], body: bytes
) -> tuple[str, str, bytes]:
    text = "text/plain"
    match asked[0], asked[1].split("/")[1:]:
        case "GET", [""]:
            about = {"title": "qdrant stand-in for tests", "version": VERSION}
            return "200 OK", "application/json", json.dumps(about).encode()
        case "GET", ["readyz"]:
            return "200 OK", text, b"all shards are ready"
        case "GET", ["healthz" | "livez"]:
            return "200 OK", text, b"healthz check passed"
        case "", []:
            return "401 Unauthorized", text, b"Must provide an API key or an Authorization bearer token"
        case "POST", ["collections", collection, "snapshots", "upload"]:
            boundary = headers["content-type"].partition("boundary=")[2].encode()
            content = body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--" + boundary)[0]
            snapshots.upload(collection, content)
            return "200 OK", "application/json", b'{"result": true, "status": "ok", "time": 0}'
        case "GET", ["collections", collection, "snapshots", name]:
            found = snapshots.file(collection, name)
            if found is None:
                return "404 Not Found", text, b"Not found: Snapshot"
            return "200 OK", "application/octet-stream", found
        case _:
            return "501 Not Implemented", text, b"the stand-in does not implement this"
