"""`engram up`: the whole system in one process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from engram.errors import Misconfigured

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from engram.http.home import Fact
    from engram.settings import Settings
    from engram.wiring import Runtime
    from stream_workers.runner import Indexer

_log = structlog.get_logger("engram")

STOP_S = 4.0
"""What is still running so long after a stop was asked for is cancelled; the log has it all."""


def up(
    data: Annotated[
        Path | None, typer.Option(help="Where memories, log and model lie. Default: ENGRAM_DATA_DIR.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="The HTTP port, 0 = any free one.", min=0, max=65535)
    ] = None,
) -> None:
    """Run the whole of Engram in this process, until Ctrl-C.

    Events come in over HTTP, are durable in the log before they are answered, and can be found as memories a
    moment later. Nothing else needs to be installed or running.

    Example: engram up --data ./data --port 8080
    """
    from engram import settings as configuration  # noqa: PLC0415
    from engram.http.access import require_loopback  # noqa: PLC0415
    from engram.telemetry import set_up_logging  # noqa: PLC0415

    settings = configuration.load(data_dir=data, http_port=port)
    set_up_logging(settings.log_format, settings.log_level)
    require_loopback(host)
    with _listen(host, settings.http_port) as listener:
        # uvloop: a third of asyncio's own cost per request
        import uvloop  # noqa: PLC0415

        uvloop.run(_serve(settings, listener))


@contextlib.contextmanager
def _listen(host: str, port: int) -> Generator[socket.socket]:
    """Take the port before anything else is opened: whoever finds it taken learns so at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Misconfigured(
                    f"port {port} on {host} is in use: stop what holds it (`engram doctor` names it),"
                    f" or choose another, such as --port {port + 1}"
                ) from error
            raise Misconfigured(f"cannot listen on {host}:{port}: {error.strerror}") from error
        yield listener


async def _serve(settings: Settings, listener: socket.socket) -> None:
    import uvicorn  # noqa: PLC0415

    from engram.wiring import open_runtime  # noqa: PLC0415
    from producers.tail import Tail  # noqa: PLC0415
    from stream_workers.pipeline import Pipeline  # noqa: PLC0415
    from stream_workers.runner import Indexer  # noqa: PLC0415
    from stream_workers.sweeper import Sweeper  # noqa: PLC0415

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopping.set)

    async with open_runtime(settings) as runtime:
        tail = Tail()
        pipeline = Pipeline(
            runtime.store, runtime.cache, runtime.embedder, runtime.ledger, runtime.clock, runtime.metrics
        )
        indexer = Indexer(runtime.log, pipeline, runtime.watermarks, on_indexed=tail.publish)
        sweeper = Sweeper(
            runtime.store,
            runtime.clock,
            tombstone_life_s=2 * runtime.log.retention_s,
            interval_s=settings.sweep_interval_s,
            trim_log=runtime.trim,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                _application(runtime, indexer, tail),
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        # The signals are ours: uvicorn would raise them once more when it has ended.
        server.capture_signals = contextlib.nullcontext
        serving = asyncio.create_task(server.serve([listener]))
        indexing = asyncio.create_task(indexer.run())
        sweeping = asyncio.create_task(sweeper.run())
        stop_asked = asyncio.create_task(stopping.wait())
        _banner(settings, listener)
        await asyncio.wait({serving, indexing, sweeping, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
        # Whatever ended, everything ends in order: no new requests, then the batch in hand, then the parts.
        server.should_exit = True
        indexer.stop()
        for task in (sweeping, stop_asked):
            task.cancel()
        _, late = await asyncio.wait({serving, indexing}, timeout=STOP_S)
        for task in late:
            task.cancel()
        outcomes = await asyncio.gather(serving, indexing, sweeping, stop_asked, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome


def _application(runtime: Runtime, indexer: Indexer, tail: object) -> ASGIApp:
    """Both services' operations behind one port."""
    from query_service.recall import Recall  # noqa: PLC0415

    from engram.http.home import home  # noqa: PLC0415
    from engram.http.operations import Check, application  # noqa: PLC0415
    from producers import gateway  # noqa: PLC0415
    from producers.tail import Tail  # noqa: PLC0415
    from query_service import rest  # noqa: PLC0415

    assert isinstance(tail, Tail)
    writes = gateway.operations(
        gateway.Gateway(
            log=runtime.log,
            watermarks=runtime.watermarks,
            ledger=runtime.ledger,
            pseudonyms=runtime.pseudonyms,
            metrics=runtime.metrics,
            clock=runtime.clock,
            ttl_s=runtime.settings.ttl_s,
            last_accepted_at=runtime.last_accepted_at,
        )
    )
    reads = rest.operations(
        Recall(
            store=runtime.store,
            embedder=runtime.embedder,
            cache=runtime.cache,
            watermarks=runtime.watermarks,
            ledger=runtime.ledger,
            pseudonyms=runtime.pseudonyms,
            metrics=runtime.metrics,
            clock=runtime.clock,
        )
    )

    async def indexer_problem() -> str | None:
        return indexer.problem

    async def facts() -> Sequence[Fact]:
        return await _facts(runtime, indexer)

    return application(
        "engram",
        [*writes, *reads, *tail.operations()],
        metrics=runtime.metrics,
        checks=[Check("indexer", indexer_problem)],
        pages=[home("Engram", facts)],
    )


async def _facts(runtime: Runtime, indexer: Indexer) -> list[Fact]:
    from engram.http.home import Fact  # noqa: PLC0415
    from engram.memories import PageQuery, Scope  # noqa: PLC0415

    now = runtime.clock.now()
    everything = PageQuery(Scope("default"), limit=1, now=now)
    ends, committed = await runtime.log.end(), await runtime.log.committed("indexer")
    behind = sum(end - committed.get(partition, 0) for partition, end in ends.items())
    return [
        Fact("State", indexer.problem or "ready", well=indexer.problem is None),
        Fact("Memories", f"{await runtime.store.count(everything):,}"),
        Fact(
            "Agents",
            f"{len(await runtime.store.agents(Scope('default'), limit=1000, now=now)):,} (1,000 at most shown)",
        ),
        Fact(
            "Log",
            f"{runtime.settings.log.kind}, {sum(ends.values()):,} records so far, {behind:,} not yet committed",
        ),
        Fact("Store", runtime.settings.store.kind),
        Fact("Cache", runtime.settings.cache.kind),
        Fact("Embedder", f"{runtime.embedder.model_id}, {runtime.embedder.dim} dimensions"),
        Fact("Data", str(runtime.settings.data_dir)),
    ]


def _banner(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    flag = "" if port == 8080 else f" --url {url}"  # noqa: PLR2004 (the clients' default)
    lines = [
        f"Engram is up at {url}  (process {os.getpid()}, Ctrl-C stops it)",
        f"  page      {url}/",
        f"  docs      {url}/docs",
        f"  metrics   {url}/metrics",
        f"  data      {settings.data_dir.resolve()}",
        "Next:",
        f"  engram demo{flag}",
        f'  engram put npc:woodcutter-1 "pine trees stand north of the lake"{flag}',
        f'  engram search npc:woodcutter-1 "where are trees"{flag}',
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
