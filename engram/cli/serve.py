"""`engram up`: the whole system in one process. Only its options; what it does lies in `embedded`."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Annotated

import typer

from engram.errors import Misconfigured


def up(
    data: Annotated[
        Path | None, typer.Option(help="Where memories, log and model lie. Default: ENGRAM_DATA_DIR.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="The HTTP port, 0 = any free one. Default: 8080.", min=0, max=65535)
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="The gRPC port, 0 = any free one. Default: 50051.", min=0, max=65535)
    ] = None,
) -> None:
    """Run the whole of Engram in this process, until Ctrl-C.

    Events come in over HTTP, are durable in the log before they are answered, and can be found as memories a
    moment later. Nothing else needs to be installed or running.

    Example: engram up --data ./data --port 8080
    """
    import uvloop  # noqa: PLC0415 (help must be instant)

    from engram import settings as configuration  # noqa: PLC0415
    from engram.cli.embedded import run  # noqa: PLC0415
    from engram.http.access import require_loopback  # noqa: PLC0415
    from engram.telemetry import set_up_logging  # noqa: PLC0415

    settings = configuration.load(data_dir=data, http_port=port, grpc_port=grpc_port)
    set_up_logging(settings.log_format, settings.log_level)
    require_loopback(host)
    # A busy event loop must not starve the threads of the log and the embedder: at Python's default of 5 ms
    # an append beside a saturated loop was seen to take a minute, at half a millisecond 20 ms.
    sys.setswitchinterval(0.0005)
    with _listening(host, settings.http_port) as listener:
        uvloop.run(run(settings, host, listener))


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
                    f"port {port} on {host} is in use: stop what holds it (`engram doctor` names it),"
                    f" or choose another, such as --port {port % 65535 + 1}"
                ) from error
            raise Misconfigured(f"cannot listen on {host}:{port}: {error.strerror}") from error
        yield listener
