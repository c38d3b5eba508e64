"""The memories as they become findable, one JSON line each: what `lorestream tail` shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
from starlette.responses import StreamingResponse

from lorestream.access.principals import Grant
from lorestream.http.application import Operation
from lorestream.http.request import Call
from lorestream.memories import Memory

QUEUE = 1000
"""Lines that a slow reader may lag behind; then the oldest are left out."""
KEEP_ALIVE_S = 10.0

_encoder = msgspec.json.Encoder()


class TailLine(msgspec.Struct):
    """One memory that has just become findable."""

    memory_id: str
    agent_id: str
    type: str | None
    text: str
    timestamp: float
    accepted_at: float


class Tail:
    """Hands every indexed memory to whoever listens at the moment."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Queue[bytes], str] = {}
        self._closed = False

    def close(self) -> None:
        """End every listener's answer: a server that stops does not wait for them."""
        self._closed = True
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(b"")

    def publish(self, memories: Sequence[Memory]) -> None:
        """Never blocks: a listener that is too slow loses the oldest lines."""
        for queue, tenant in self._listeners.items():
            for memory in memories:
                if memory.tenant == tenant:
                    if queue.full():
                        queue.get_nowait()
                    queue.put_nowait(_line(memory))

    def operations(self) -> list[Operation]:
        """The route under /v1/admin/."""
        return [
            Operation(
                "GET",
                "/v1/admin/tail",
                self._listen,
                "Memories as they become findable",
                Grant.ADMIN,
                TailLine,
                hidden=True,
            )
        ]

    async def _listen(self, call: Call) -> StreamingResponse:
        queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE)
        self._listeners[queue] = call.tenant
        return StreamingResponse(self._lines(queue), media_type="application/x-ndjson")

    async def _lines(self, queue: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
        try:
            yield b"\n"  # the answer begins at once, so that the reader knows that it listens
            while not self._closed:
                try:
                    yield await asyncio.wait_for(queue.get(), KEEP_ALIVE_S)
                except TimeoutError:
                    yield b"\n"
        finally:
            self._listeners.pop(queue, None)


def _line(memory: Memory) -> bytes:
    line = TailLine(
        memory.id, memory.agent_id, memory.type, memory.text, memory.timestamp, memory.accepted_at
    )
    return _encoder.encode(line) + b"\n"
