"""The services of the distributed shape: gateway, query service and worker, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Collection

from lorestream.admin.snapshots import SnapshotSchedule
from lorestream.cli.serve import operators, readiness
from lorestream.grpc.server import Handlers, serving
from lorestream.http import server
from lorestream.http.application import application
from lorestream.http.console import console_routes
from lorestream.http.mcp_route import McpRoute
from lorestream.http.other_service import READS, WRITES
from lorestream.settings import Settings
from lorestream.wiring import GatewayParts, QueryParts, open_gateway, open_query
from lorestream.wiring.feeds import feed_over
from lorestream.wiring.snapshots import snapshots_over
from lorestream.wiring.waiting import when_available
from lorestream.wiring.webhooks import sending
from producers import gateway
from producers.gateway import Gateway
from producers.rpc import Writes
from query_service import rest, stream_routes
from query_service.encoding import encode_memory
from query_service.recall import CurrentRecall
from query_service.rpc import Reads


async def run_gateway(settings: Settings, host: str, listener: socket.socket, grpc_port: int) -> None:
    """Serve writes until SIGINT or SIGTERM. Raises Misconfigured and Unavailable before the first request is served."""
    async with contextlib.AsyncExitStack() as stack:
        parts = await stack.enter_async_context(when_available(lambda: open_gateway(settings)))
        writer = Gateway.over(parts)
        app = application(
            "gateway",
            gateway.operations(writer, parts.limits),
            metrics=parts.metrics,
            checks=readiness.of_gateway(parts),
            authenticator=parts.authenticator,
            peer=READS,
            local_only=not parts.authenticator.needs_keys,
        )
        rpc = Writes(writer, parts.limits)
        handlers = Handlers(put=rpc.put, delete=rpc.delete, peer="the query service")
        bound = await stack.enter_async_context(
            serving(handlers, host, grpc_port, authenticator=parts.authenticator, metrics=parts.metrics)
        )
        await server.run(app, listener, started=lambda: _print_started("gateway", parts, listener, bound))


async def run_query(settings: Settings, host: str, listener: socket.socket, grpc_port: int) -> None:
    """Serve reads until SIGINT or SIGTERM. Raises Misconfigured and Unavailable before the first request is served."""
    async with contextlib.AsyncExitStack() as stack:
        parts = await stack.enter_async_context(when_available(lambda: open_query(settings)))
        recall, checks = CurrentRecall(parts), readiness.of_query(parts)
        mcp = McpRoute(settings.gateway_url)
        feed = await stack.enter_async_context(feed_over(parts))
        app = application(
            "query",
            [
                mcp.operation(),
                *rest.operations(recall, parts.limits),
                *stream_routes.operations(recall, feed, parts.limits),
                *operators.operations("query", parts, checks, operators.tasks_of_query_service(parts)),
            ],
            metrics=parts.metrics,
            checks=checks,
            pages=console_routes(),
            authenticator=parts.authenticator,
            peer=WRITES,
            local_only=not parts.authenticator.needs_keys,
        )
        handlers = Handlers(get=Reads(recall, parts.limits).get, peer="the gateway")
        bound = await stack.enter_async_context(
            serving(handlers, host, grpc_port, authenticator=parts.authenticator, metrics=parts.metrics)
        )
        await server.run(
            mcp.calls(app),
            listener,
            stop=feed.close,
            started=lambda: _print_started("query service", parts, listener, bound),
        )


async def run_worker(settings: Settings, listener: socket.socket, *, burst: bool) -> None:
    """Index until SIGINT or SIGTERM; with `burst`, until all records of the log are processed."""
    from stream_workers.faust_app import Indexing, Shell  # noqa: PLC0415 (takes a second, and the other services do not need it)

    shell, indexing = Shell("lorestream"), Indexing(settings=settings, burst=burst)
    await shell.start()
    try:
        await shell.add_runtime_dependency(indexing)
        parts = indexing.parts

        def owned() -> Collection[int]:
            return indexing.worker.indexer.partitions

        snapshots = SnapshotSchedule(snapshots_over(parts), lambda: 0 in owned())
        checks = [*readiness.of_worker(parts, indexing.worker), *readiness.of_snapshots(snapshots)]
        app = application("worker", [], metrics=parts.metrics, checks=checks)
        address, port = server.address(listener)
        async with contextlib.AsyncExitStack() as stack:
            feed = await stack.enter_async_context(feed_over(parts))
            if not burst:
                await stack.enter_async_context(sending(parts, feed, encode_memory, owned))

            def stop() -> None:
                feed.close()
                snapshots.stop()
                indexing.worker.stop()

            await server.run(
                app,
                listener,
                work={"worker": indexing.ended(), **snapshots.work()},
                stop=stop,
                started=lambda: _print_line(
                    f"Lorestream worker {os.getpid()}, metrics at http://{address}:{port}/metrics"
                ),
            )
    finally:
        await shell.stop()


def _print_started(
    service: str, parts: GatewayParts | QueryParts, listener: socket.socket, grpc_port: int
) -> None:
    address, port = server.address(listener)
    keys = "API keys required" if parts.authenticator.needs_keys else "no API keys"
    _print_line(
        f"Lorestream {service} {os.getpid()} at http://{address}:{port} and gRPC {address}:{grpc_port}, {keys};"
        f" docs at http://{address}:{port}/docs"
    )


def _print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
