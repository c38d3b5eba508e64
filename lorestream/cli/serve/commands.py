"""The verbs that run services. Only their options; what they do lies in `embedded` and `distributed`."""

# ruff: noqa: PLC0415 (help must be instant)

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

NICE = 15
"""A worker can wait, whoever asks or plays cannot: on full cores it gets a thirtieth of what a query service gets, and
a third of what goes into the vectors of queries (see `lorestream.adapters.embedders.queue`)."""

Host = Annotated[str, typer.Option(help="The address to listen on; another than loopback needs API keys.")]


def up(
    data: Annotated[
        Path | None, typer.Option(help="Where memories, log and model lie. Default: LORESTREAM_DATA_DIR.")
    ] = None,
    host: Host = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="The HTTP port, 0 = any free one. Default: 8080.", min=0, max=65535)
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="The gRPC port, 0 = any free one. Default: 50051.", min=0, max=65535)
    ] = None,
) -> None:
    """Run the whole of Lorestream in this process, until Ctrl-C.

    Events come in over HTTP, are durable in the log before they are answered, and can be found as memories a
    moment later. Nothing else needs to be installed or running.

    Example: lorestream up --data ./data --port 8080
    """
    from lorestream.cli.serve.embedded import run
    from lorestream.http import server
    from lorestream.settings import load_settings

    settings = load_settings(data_dir=data, http_port=port, grpc_port=grpc_port)
    _prepare(settings, host)
    with _listening(host, settings.http_port) as listener:
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
    """Run a gateway: it takes events in and makes them durable in Kafka.

    Any number may run side by side. Needs LORESTREAM_LOG__BOOTSTRAP, LORESTREAM_STORE__URL and LORESTREAM_PLAYER_KEY.

    Example: LORESTREAM_LOG__BOOTSTRAP=kafka:9092 LORESTREAM_STORE__URL=http://qdrant:6333 lorestream gateway
    """
    from lorestream.cli.serve.distributed import run_gateway
    from lorestream.http import server
    from lorestream.settings import load_settings

    settings = load_settings(http_port=port, grpc_port=grpc_port)
    chosen = settings.model_fields_set
    _prepare(settings, host)
    http = settings.http_port if "http_port" in chosen else GATEWAY_PORT
    grpc = settings.grpc_port if "grpc_port" in chosen else GATEWAY_GRPC_PORT
    with _listening(host, http) as listener:
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
    """Run a query service: it answers searches, from the cache where it can.

    Any number may run side by side. Needs LORESTREAM_LOG__BOOTSTRAP, LORESTREAM_STORE__URL and LORESTREAM_PLAYER_KEY.

    Example: LORESTREAM_LOG__BOOTSTRAP=kafka:9092 LORESTREAM_STORE__URL=http://qdrant:6333 lorestream query
    """
    from lorestream.cli.serve.distributed import run_query
    from lorestream.http import server
    from lorestream.settings import load_settings

    settings = load_settings(http_port=port, grpc_port=grpc_port)
    _prepare(settings, host)
    with _listening(host, settings.http_port) as listener:
        server.main(run_query(settings, host, listener, settings.grpc_port))


def worker(
    host: Annotated[str, typer.Option(help="The address of /metrics, /ready and /health.")] = "127.0.0.1",
    metrics_port: Annotated[
        int | None, typer.Option(help="Its port, 0 = any free one. Default: 8000.", min=0, max=65535)
    ] = None,
    burst: Annotated[bool, typer.Option("--burst", help="End when the log is drained.")] = False,  # noqa: FBT002
    nice: Annotated[
        int, typer.Option(help="How far it stands back where others want the same cores.", min=0, max=19)
    ] = NICE,
) -> None:
    """Run a stream worker: it turns events into memories.

    Workers share the log's partitions among them, and take over from each other. Needs LORESTREAM_LOG__BOOTSTRAP
    and LORESTREAM_STORE__URL.

    Example: LORESTREAM_LOG__BOOTSTRAP=kafka:9092 LORESTREAM_STORE__URL=http://qdrant:6333 lorestream worker
    """
    from lorestream.cli.serve.distributed import run_worker
    from lorestream.http import server
    from lorestream.settings import load_settings

    settings = load_settings(metrics_port=metrics_port)
    os.nice(nice)
    _prepare(settings)
    with _listening(host, settings.metrics_port) as listener:
        server.main(run_worker(settings, listener, burst=burst))


def _prepare(settings: Settings, host: str | None = None) -> None:
    """Set up what belongs to the process. `host`: where it serves tenants' memories."""
    from lorestream.access.authentication import require_loopback
    from lorestream.telemetry import set_up_logging

    # The first process of a container hears no signal without a handler: a stop during the start would be lost.
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))
    set_up_logging(settings.log_format, settings.log_level)
    if host is not None and settings.api_keys_file is None:
        require_loopback(host)
    # A busy event loop must not starve the threads of the log and the embedder: at Python's default of 5 ms
    # an append beside a saturated loop was seen to take a minute, at half a millisecond 20 ms.
    sys.setswitchinterval(0.0005)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    """Take the port before anything else is opened: whoever finds it taken learns so at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Misconfigured(
                    f"port {port} on {host} is in use: stop what holds it (`lorestream doctor` names it),"
                    f" or choose another, such as --port {port % 65535 + 1}"
                ) from error
            raise Misconfigured(f"cannot listen on {host}:{port}: {error.strerror}") from error
        yield listener
