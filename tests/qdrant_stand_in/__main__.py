"""Serve until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from pathlib import Path

import uvloop

from tests.qdrant_stand_in.catalogue import Catalogue
from tests.qdrant_stand_in.serving import VERSION, serve_grpc, serve_rest

FLUSH_INTERVAL_S = 5.0
"""As a server's `flush_interval_sec`."""


async def _serve(options: argparse.Namespace) -> None:
    catalogue = Catalogue(options.data)
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    server = await serve_grpc(catalogue, options.host, options.grpc_port, options.api_key)
    rest = await serve_rest(options.host, options.port, catalogue, options.api_key)
    print(f"stand-in of Qdrant {VERSION}: gRPC {options.grpc_port}, REST {options.port}", flush=True)
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), FLUSH_INTERVAL_S)
        await catalogue.flush()
    rest.close()
    await server.stop(grace=1)
    catalogue.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.qdrant_stand_in")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--grpc-port", type=int, default=6334)
    parser.add_argument("--port", type=int, default=6333)
    parser.add_argument("--api-key")
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
