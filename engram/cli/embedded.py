"""The embedded shape: gateway, worker and query service over one runtime, behind one port each for HTTP and gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from engram.errors import InvalidRequest
from engram.grpc.server import Found, Handlers
from engram.grpc.server import serving as grpc_serving
from engram.http.access import Principal
from engram.http.call import MAX_AGENT_ID_CHARS
from engram.http.home import Fact, home
from engram.http.operations import Check, application
from engram.memories import PageQuery, Scope
from engram.settings import Settings
from engram.wiring import Runtime, open_runtime
from producers import gateway as writes
from producers.admission import Event
from producers.gateway import Gateway
from producers.tail import Tail
from query_service import rest as reads
from query_service.recall import Recall
from stream_workers.pipeline import Pipeline
from stream_workers.runner import GROUP, Indexer
from stream_workers.sweeper import Sweeper

STOP_S = 3.0
"""What is still running so long after a stop was asked for is cancelled: the log has it all."""

DEFAULT_PORT = 8080


async def run(settings: Settings, host: str, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM. Raises Misconfigured before anything is served."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(open_runtime(settings))
        tail = Tail()
        gateway, recall = Gateway.over(runtime), _recall(runtime)
        indexer = Indexer(
            runtime.log,
            Pipeline(
                runtime.store,
                runtime.cache,
                runtime.embedder,
                runtime.ledger,
                runtime.clock,
                runtime.metrics,
            ),
            runtime.watermarks,
            on_indexed=tail.publish,
        )
        sweeper = Sweeper(
            runtime.store,
            runtime.clock,
            tombstone_life_s=2 * runtime.log.retention_s,
            interval_s=settings.sweep_interval_s,
            trim_log=runtime.trim,
        )
        server = _server(_application(runtime, gateway, recall, indexer, tail))
        grpc_port = await stack.enter_async_context(
            grpc_serving(_handlers(gateway, recall), host, settings.grpc_port)
        )
        work = [
            asyncio.create_task(server.serve([listener])),
            asyncio.create_task(indexer.run()),
            asyncio.create_task(sweeper.run()),
        ]
        stop_asked = asyncio.create_task(stopping.wait())
        _banner(settings, listener, grpc_port)
        await asyncio.wait({*work, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
        # Whatever ended first, all ends in order: no new requests, then the batch in hand, then the parts.
        tail.close()
        server.should_exit = True
        indexer.stop()
        work[-1].cancel()
        stop_asked.cancel()
        _, late = await asyncio.wait(work, timeout=STOP_S)
        for task in late:
            task.cancel()
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


def _recall(runtime: Runtime) -> Recall:
    return Recall(
        store=runtime.store,
        embedder=runtime.embedder,
        cache=runtime.cache,
        watermarks=runtime.watermarks,
        ledger=runtime.ledger,
        pseudonyms=runtime.pseudonyms,
        metrics=runtime.metrics,
        clock=runtime.clock,
    )


def _server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """None of them: they are ours, and uvicorn would raise them once more when it has ended."""
        yield


def _application(runtime: Runtime, gateway: Gateway, recall: Recall, indexer: Indexer, tail: Tail) -> ASGIApp:
    async def indexer_problem() -> str | None:
        return indexer.problem

    async def facts() -> Sequence[Fact]:
        return await _facts(runtime, indexer)

    return application(
        "engram",
        [*writes.operations(gateway), *reads.operations(recall), *tail.operations()],
        metrics=runtime.metrics,
        checks=[Check("indexer", indexer_problem)],
        pages=[home("Engram", facts)],
    )


def _handlers(gateway: Gateway, recall: Recall) -> Handlers:
    async def put(
        principal: Principal,
        agent_id: str,
        text: str,
        metadata: Mapping[str, Any] | None,
        ttl_s: float | None,
    ) -> str:
        event = Event(agent_id=agent_id, text=text, metadata=dict(metadata) if metadata else None, ttl=ttl_s)
        return await gateway.put(principal.tenant, event)

    async def get(
        principal: Principal, agent_id: str, query: str, k: int, filters: Mapping[str, Any] | None
    ) -> Sequence[Found]:
        ranked = await recall.get(principal, agent_id, query, k, filters)
        return [Found(agent_id, one.memory, one.score) for one in ranked]

    async def delete(principal: Principal, agent_id: str) -> None:
        if not 1 <= len(agent_id) <= MAX_AGENT_ID_CHARS:
            raise InvalidRequest(f"1 to {MAX_AGENT_ID_CHARS} characters", path="agent_id")
        await gateway.erasures.erase_agent(principal.tenant, agent_id)

    return Handlers(put=put, get=get, delete=delete)


async def _facts(runtime: Runtime, indexer: Indexer) -> list[Fact]:
    settings, now = runtime.settings, runtime.clock.now()
    everyone = Scope("default")
    memories = await runtime.store.count(PageQuery(everyone, limit=1, now=now))
    agents = len(await runtime.store.agents(everyone, limit=1000, now=now))
    ends, committed = await runtime.log.end(), await runtime.log.committed(GROUP)
    behind = sum(end - committed.get(partition, 0) for partition, end in ends.items())
    return [
        Fact("State", indexer.problem or "ready", well=indexer.problem is None),
        Fact("Memories", f"{memories:,} of {agents:,} agents" + (" and more" if agents == 1000 else "")),  # noqa: PLR2004
        Fact("Log", f"{settings.log.kind}, {sum(ends.values()):,} records, {behind:,} not yet committed"),
        Fact("Store", settings.store.kind),
        Fact("Cache", settings.cache.kind),
        Fact("Embedder", f"{runtime.embedder.model_id}, {runtime.embedder.dim} dimensions"),
        Fact("Data", str(settings.data_dir.resolve())),
    ]


def _banner(settings: Settings, listener: socket.socket, grpc_port: int) -> None:
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    url = f"http://{address}:{port}"
    flag = "" if port == DEFAULT_PORT else f" --url {url}"
    lines = [
        f"Engram is up at {url}  (process {os.getpid()}, Ctrl-C stops it)",
        f"  page      {url}/",
        f"  docs      {url}/docs",
        f"  metrics   {url}/metrics",
        f"  gRPC      {address}:{grpc_port}",
        f"  data      {settings.data_dir.resolve()}",
        "Next:",
        f"  engram demo{flag}",
        f'  engram put npc:woodcutter-1 "pine trees stand north of the lake"{flag}',
        f'  engram search npc:woodcutter-1 "where are trees"{flag}',
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
