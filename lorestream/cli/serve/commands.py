"""`lorestream up`, `gateway`, `worker`, `query`: their options. `embedded` and `distributed` do the work."""

# ruff: noqa: D301, FBT002, PLC0415 (signatures are what users type; help must be instant)

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from lorestream.settings import Settings

GATEWAY_PORT = 8081
GATEWAY_GRPC_PORT = 50_052

BACKLOG = 2048
"""Connections that the kernel accepts while the service starts or is busy; the default of uvicorn."""

NICE = 15
"""The default niceness of a worker: indexing may wait, queries may not.

On busy cores a worker then gets a thirtieth of the CPU time of a query service, and a third of the embedding of queries
(see `lorestream.adapters.embedders.queue`).
"""

Host = Annotated[
    str, typer.Option(help="The address to listen on. Any address except loopback needs API keys.")
]


def up(
    data: Annotated[
        Path | None, typer.Option(help="The directory of memories and log. Default: LORESTREAM_DATA_DIR.")
    ] = None,
    host: Host = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="The HTTP port, 0 = any free one. Default: 8080.", min=0, max=65535)
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="The gRPC port, 0 = any free one. Default: 50051.", min=0, max=65535)
    ] = None,
) -> None:
    """Run all of Lorestream in one process, until Ctrl-C. Nothing else needs to run.

    Events arrive over HTTP or gRPC. Each is durable in the log before the
    answer, and can be found as a memory a moment later.

    \b
    Example:
    lorestream up --data ./data --port 8080
    """
    from lorestream.cli.serve.embedded import run
    from lorestream.http import server
    from lorestream.settings import load_settings

    settings = load_settings(data_dir=data, http_port=port, grpc_port=grpc_port)
    _prepare(settings, host)
    with _listening_beside_grpc(host, settings.http_port, settings.grpc_port) as listener:
        server.main(run(settings, host, listener))


def gateway(
    host: Host = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="The HTTP port, 0 = any free one. Default: 8081.", min=0, max=65535)
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="The gRPC port, 0 = any free one. Default: 50052.", min=0, max=65535)
    ] = None,
) -> None:
    """Run a gateway of the distributed shape: it accepts events and appends them to Kafka.

    Run as many as you need. Requires LORESTREAM_LOG__BOOTSTRAP,
    LORESTREAM_STORE__URL and LORESTREAM_PLAYER_KEY.

    \b
    Example:
    export LORESTREAM_LOG__BOOTSTRAP=kafka:9092
    export LORESTREAM_STORE__URL=http://qdrant:6333
    lorestream gateway
    """
    from lorestream.cli.serve.distributed import run_gateway
    from lorestream.http import server
    from lorestream.settings import load_settings

    settings = load_settings(http_port=port, grpc_port=grpc_port)
    chosen = settings.model_fields_set
    _prepare(settings, host)
    http = settings.http_port if "http_port" in chosen else GATEWAY_PORT
    grpc = settings.grpc_port if "grpc_port" in chosen else GATEWAY_GRPC_PORT
    with _listening_beside_grpc(host, http, grpc) as listener:
        server.main(run_gateway(settings, host, listener, grpc))


def query(
    host: Host = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="The HTTP port, 0 = any free one. Default: 8080.", min=0, max=65535)
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="The gRPC port, 0 = any free one. Default: 50051.", min=0, max=65535)
    ] = None,
) -> None:
    """Run a query service of the distributed shape: it answers searches and reads, from the cache if possible.

    Run as many as you need. Requires LORESTREAM_LOG__BOOTSTRAP,
    LORESTREAM_STORE__URL and LORESTREAM_PLAYER_KEY.

    \b
    Example:
    export LORESTREAM_LOG__BOOTSTRAP=kafka:9092
    export LORESTREAM_STORE__URL=http://qdrant:6333
    lorestream query
    """
    from lorestream.cli.serve.distributed import run_query
    from lorestream.http import server
    from lorestream.settings import load_settings

    settings = load_settings(http_port=port, grpc_port=grpc_port)
    _prepare(settings, host)
    with _listening_beside_grpc(host, settings.http_port, settings.grpc_port) as listener:
        server.main(run_query(settings, host, listener, settings.grpc_port))


def worker(
    host: Annotated[str, typer.Option(help="The address of /metrics, /ready and /health.")] = "127.0.0.1",
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="The port of /metrics, /ready and /health, 0 = any free one. Default: 8000.",
            min=0,
            max=65535,
        ),
    ] = None,
    burst: Annotated[
        bool, typer.Option("--burst", help="Stop when all records of the log are processed.")
    ] = False,
    nice: Annotated[
        int,
        typer.Option(
            help="The niceness of the process: higher values leave more CPU time to others.", min=0, max=19
        ),
    ] = NICE,
) -> None:
    """Run a stream worker of the distributed shape: it turns events of the log into memories.

    Run as many as you need: they share the partitions of the log, and take over
    those of a worker that stops. Requires LORESTREAM_LOG__BOOTSTRAP and
    LORESTREAM_STORE__URL.

    \b
    Example:
    export LORESTREAM_LOG__BOOTSTRAP=kafka:9092
    export LORESTREAM_STORE__URL=http://qdrant:6333
    lorestream worker
    """
    from lorestream import os_support
    from lorestream.cli.serve.distributed import run_worker
    from lorestream.http import server
    from lorestream.settings import load_settings

    settings = load_settings(metrics_port=metrics_port)
    os_support.lower_priority(nice)
    _prepare(settings)
    with _listening(host, settings.metrics_port, option="--metrics-port") as listener:
        server.main(run_worker(settings, listener, burst=burst))


def _prepare(settings: Settings, host: str | None = None) -> None:
    """Set up umask, signals, logging and thread switching. Refuses a `host` that is not loopback without API keys."""
    from lorestream import durable
    from lorestream.access.authentication import require_loopback
    from lorestream.telemetry import set_up_logging

    # Before the first file: SQLite and Qdrant Edge create theirs with the modes that the umask leaves.
    os.umask(durable.PRIVATE_UMASK)
    # Process 1 of a container ignores signals without a handler: a SIGTERM during the start would be lost.
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))
    set_up_logging(settings.log_format, settings.log_level)
    if host is not None and settings.api_keys_file is None:
        require_loopback(host)
    # A busy event loop must not starve the threads of the log and the embedder. Measured beside a saturated loop:
    # an append took up to a minute at Python's default of 5 ms, and 20 ms at half a millisecond.
    sys.setswitchinterval(0.0005)


@contextlib.contextmanager
def _listening_beside_grpc(host: str, http: int, grpc: int) -> Generator[socket.socket]:
    """A socket that listens for HTTP, as in `_listening`. gRPC makes its own later: that it can is checked here.

    Raises BadParameter (exit code 2) when both would share one port, and Misconfigured.
    """
    if http and http == grpc:
        raise typer.BadParameter(
            f"HTTP and gRPC cannot share port {http}: choose another one with --port or --grpc-port"
        )
    with _listening(host, http) as listener:
        with _listening(host, grpc, option="--grpc-port"):
            pass
        yield listener


@contextlib.contextmanager
def _listening(host: str, port: int, *, option: str = "--port") -> Generator[socket.socket]:
    """A socket that listens on the port, before anything else is opened: a port in use is an error at once.

    It listens already: of two processes that only bind, both succeed, and one of them never gets a connection.
    Connections that come before the service is ready wait for it. Raises Misconfigured, which names `option`.
    """
    from lorestream import os_support

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        os_support.reuse_address(listener)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            another = f"choose another port, such as {option} {port % 65535 + 1}"
            if error.errno == errno.EADDRINUSE:
                from lorestream.cli.doctor.checks import port_owner

                owner = port_owner(port) or "a process of another user"
                raise Misconfigured(
                    f"port {port} on {host} is in use by {owner}: stop it, or {another}"
                ) from error
            if error.errno == errno.EACCES:
                raise Misconfigured(
                    f"port {port} is reserved for root: choose one above 1023 with {option}"
                ) from error
            raise Misconfigured(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another address with --host"
            ) from error
        yield listener
