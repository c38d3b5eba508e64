"""Streams the memories as they become findable, one JSON line each: the source of `lorestream tail`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence

import msgspec

from lorestream.access.key_file import KeyScope
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest
from lorestream.http.streaming import LineStream
from lorestream.memories import Memory

QUEUE_SIZE = 1000
"""Lines held for a slow reader; when the queue is full, the oldest line is dropped."""
KEEP_ALIVE_INTERVAL_S = 10.0
REMEMBERED = 10_000
"""Memories that are not published a second time: while the alias is switched, two collections report each."""

_encoder = msgspec.json.Encoder()


class TailLine(msgspec.Struct):
    """One memory that has just become findable. Times in Unix seconds."""

    memory_id: str
    agent_id: str
    type: str | None
    text: str
    timestamp: float
    accepted_at: float


class Tail:
    """Distributes every indexed memory to the connected readers of its tenant."""

    def __init__(self) -> None:
        self._readers: dict[asyncio.Queue[bytes], str] = {}
        self._published = OrderedDict[tuple[str, str, str], None]()
        self._closed = False

    def close(self) -> None:
        """End the stream of every reader, so that a server that stops need not wait for them."""
        self._closed = True
        for queue in self._readers:
            _put(queue, b"")

    def publish(self, memories: Sequence[Memory]) -> None:
        """Queue the memories for their readers, each once. Never blocks."""
        new = [memory for memory in memories if self._is_new(memory)]
        for queue, tenant in self._readers.items():
            for memory in new:
                if memory.tenant == tenant:
                    _put(queue, _line(memory))

    def _is_new(self, memory: Memory) -> bool:
        key = memory.tenant, memory.agent_id, memory.id
        if key in self._published:
            return False
        self._published[key] = None
        if len(self._published) > REMEMBERED:
            self._published.popitem(last=False)
        return True

    async def lines(self, tenant: str) -> AsyncGenerator[bytes]:
        """The memories of a tenant from now on, one JSON line each, and empty lines that keep the stream alive."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_SIZE)
        self._readers[queue] = tenant
        try:
            yield b"\n"  # sends the response headers at once: then the reader knows that it is connected
            while not self._closed:
                line = b"\n"
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEEP_ALIVE_INTERVAL_S):
                        line = await queue.get()
                yield line
        finally:
            self._readers.pop(queue, None)


def operations(tail: Tail) -> list[Operation]:
    """The route under /v1/admin/."""
    routes = _Routes(tail)
    return [
        Operation(
            "GET",
            "/v1/admin/tail",
            routes.tail,
            "Memories as they become findable",
            KeyScope.ADMIN,
            TailLine,
            hidden=True,
        )
    ]


class _Routes:
    def __init__(self, tail: Tail) -> None:
        self._tail = tail

    async def tail(self, request: ApiRequest) -> LineStream:
        return LineStream(self._tail.lines(request.tenant))


def _put(queue: asyncio.Queue[bytes], line: bytes) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(line)


def _line(memory: Memory) -> bytes:
    line = TailLine(
        memory.id, memory.agent_id, memory.type, memory.text, memory.timestamp, memory.accepted_at
    )
    return _encoder.encode(line) + b"\n"
