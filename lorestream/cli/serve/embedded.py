"""The embedded shape: gateway, worker and query service in one process, on one HTTP and one gRPC port."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Sequence

from starlette.types import ASGIApp

from lorestream.admin.snapshots import SnapshotSchedule
from lorestream.cli.admin.tasks import tasks_over
from lorestream.cli.serve import operators, readiness
from lorestream.grpc.server import Handlers, serving
from lorestream.http import server
from lorestream.http.application import application
from lorestream.http.console import console_routes
from lorestream.http.mcp_route import McpRoute
from lorestream.http.status_page import StatusRow, status_page
from lorestream.memories import PageQuery, Scope
from lorestream.push.feed import Feed
from lorestream.settings import Settings
from lorestream.wiring import Runtime, open_runtime
from lorestream.wiring.feeds import feed_over
from lorestream.wiring.snapshots import snapshots_over
from lorestream.wiring.webhooks import sending
from producers import gateway
from producers.gateway import Gateway
from producers.rpc import Writes
from query_service import rest, stream_routes
from query_service.encoding import encode_memory
from query_service.recall import CurrentRecall
from query_service.rpc import Reads
from stream_workers.indexing.indexer import Indexer
from stream_workers.rebuild.compaction import Compaction
from stream_workers.worker import Worker

DEFAULT_PORT = 8080


async def run(settings: Settings, host: str, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM. Raises Misconfigured before the first request is served."""
    async with contextlib.AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(open_runtime(settings))
        feed = await stack.enter_async_context(feed_over(runtime))
        await stack.enter_async_context(sending(runtime, feed, encode_memory))
        writer, recall = Gateway.over(runtime), CurrentRecall(runtime)
        worker, compaction = Worker(runtime), Compaction(runtime)
        snapshots = SnapshotSchedule(snapshots_over(runtime))
        app = _application(runtime, writer, recall, worker, feed=feed, snapshots=snapshots)
        rpc = Writes(writer, runtime.limits)
        handlers = Handlers(put=rpc.put, get=Reads(recall, runtime.limits).get, delete=rpc.delete)
        grpc_port = await stack.enter_async_context(
            serving(
                handlers,
                host,
                settings.grpc_port,
                authenticator=runtime.authenticator,
                metrics=runtime.metrics,
            )
        )

        def stop() -> None:
            feed.close()
            snapshots.stop()
            worker.stop()
            compaction.stop()

        await server.run(
            app,
            listener,
            work={"worker": worker.run(), "compaction": compaction.run(), **snapshots.work()},
            stop=stop,
            started=lambda: _print_banner(settings, listener, grpc_port),
        )


def _application(
    runtime: Runtime,
    writer: Gateway,
    recall: CurrentRecall,
    worker: Worker,
    *,
    feed: Feed,
    snapshots: SnapshotSchedule,
) -> ASGIApp:
    async def facts() -> Sequence[StatusRow]:
        return await _status_facts(runtime, worker.indexer)

    mcp = McpRoute()
    checks = [*readiness.of_embedded(runtime, worker), *readiness.of_snapshots(snapshots)]
    app = application(
        "lorestream",
        [
            mcp.operation(),
            *gateway.operations(writer, runtime.limits),
            *rest.operations(recall, runtime.limits),
            *stream_routes.operations(recall, feed, runtime.limits),
            *operators.operations("lorestream", runtime, checks, tasks_over(runtime), worker),
        ],
        metrics=runtime.metrics,
        checks=checks,
        pages=[
            status_page("Lorestream", facts, needs_keys=runtime.authenticator.needs_keys),
            *console_routes(),
        ],
        authenticator=runtime.authenticator,
        local_only=not runtime.authenticator.needs_keys,
    )
    return mcp.calls(app)


async def _status_facts(runtime: Runtime, indexer: Indexer) -> list[StatusRow]:
    settings = runtime.settings
    ends, committed = await runtime.log.end(), await runtime.log.committed(runtime.group)
    behind = sum(end - committed.get(partition, 0) for partition, end in ends.items())
    return [
        StatusRow("State", indexer.problem or "ready", ok=indexer.problem is None),
        # The page needs no key: with API keys, the counts of tenants and paths of the machine must not be on it.
        *([] if runtime.authenticator.needs_keys else [await _memory_count(runtime)]),
        StatusRow(
            "Log", f"{settings.log.kind}, {sum(ends.values()):,} records, {behind:,} not yet committed"
        ),
        StatusRow("Store", settings.store.kind),
        StatusRow("Cache", settings.cache.kind),
        StatusRow("Embedder", f"{runtime.embedder.model_id}, {runtime.embedder.dim} dimensions"),
        *([] if runtime.authenticator.needs_keys else [StatusRow("Data", str(settings.data_dir.resolve()))]),
    ]


async def _memory_count(runtime: Runtime) -> StatusRow:
    tenant, now = Scope("default"), runtime.clock.now()
    memories = await runtime.store.count(PageQuery(tenant, limit=1, now=now))
    agents = len(await runtime.store.agents(tenant, limit=1000, now=now))
    more = " and more" if agents == 1000 else ""  # noqa: PLR2004
    return StatusRow("Memories", f"{memories:,} of {agents:,} agents{more}")


def _print_banner(settings: Settings, listener: socket.socket, grpc_port: int) -> None:
    address, port = server.address(listener)
    url = f"http://{address}:{port}"
    flag = "" if port == DEFAULT_PORT else f" --url {url}"
    lines = [
        f"Lorestream is up at {url}  (process {os.getpid()}, Ctrl-C stops it)",
        f"  console   {url}/console",
        f"  status    {url}/",
        f"  docs      {url}/docs",
        f"  metrics   {url}/metrics",
        f"  gRPC      {address}:{grpc_port}",
        f"  data      {settings.data_dir.resolve()}",
        "Next:",
        f"  lorestream demo{flag}",
        f'  lorestream put npc:woodcutter-1 "pine trees stand north of the lake"{flag}',
        f'  lorestream search npc:woodcutter-1 "where are trees"{flag}',
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
