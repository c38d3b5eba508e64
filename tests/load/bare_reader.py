"""The least that a service over this model takes on this machine, for the bench to hold the query service against.

It reads requests and answers them, and embeds what it was not asked before. No cache, no store, no checks, no
routes: whatever it needs beyond the model is the machine's, not a design's.

Run: `python -m tests.load.bare_reader PORT`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from typing import Any

import uvloop

from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.ports import Embedder, Priority
from tests.models import real_model

_SPACE = b" " * 1500
"""As long as the answers of a search are."""


def _response(cache: str) -> bytes:
    body = json.dumps({"memories": [], "cache": cache}, separators=(",", ":")).encode() + _SPACE
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


_HIT, _MISS = _response("hit"), _response("miss")


class _Bare(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, embedder: Embedder, known: set[bytes]) -> None:
        self._embedder = embedder
        self._known = known
        self._request = b""
        self._answering: asyncio.Task[None] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._request += data
        head, end, body = self._request.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.rpartition(b"Content-Length: ")[2]):
            return
        self._request = b""
        if body in self._known:
            self._transport.write(_HIT)
        else:
            self._answering = asyncio.create_task(self._embed(body))

    async def _embed(self, body: bytes) -> None:
        await self._embedder.embed([json.loads(body)["query"]], Priority.QUERY)
        self._known.add(body)
        self._transport.write(_MISS)


async def _serve(port: int) -> None:
    known: set[bytes] = set()
    async with OpenVinoEmbedder.open(real_model().directory, threads=1) as embedder:
        server = await asyncio.get_running_loop().create_server(
            lambda: _Bare(embedder, known), "127.0.0.1", port
        )
        gc.freeze()
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
