"""Streams of memories as they become findable: the parser of server-sent events, and one iterator for each client.

A stream that breaks off is resumed behind the last memory that was yielded.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import NamedTuple, Self

import httpx2
import msgspec

from lorestream.client.models import FoundMemory

PATH = "/v1/stream"
READ_TIMEOUT_S = 45.0
"""A stream has failed after this time without data: the server sends a comment every 15 s."""
RECONNECT_DELAY_S = 0.5
"""Pause after a stream has ended, so that a server that ends each at once is not flooded."""

_memory = msgspec.json.Decoder(FoundMemory)


class _Lost(msgspec.Struct):
    records: int


_lost = msgspec.json.Decoder(_Lost)


class StreamEvent(NamedTuple):
    """One block of a stream: the id behind which to go on, and what it brings."""

    last_event_id: str | None
    memory: FoundMemory | None = None
    lost: int = 0


class EventParser:
    """Parses server-sent events (WHATWG HTML, 9.2.6) as Lorestream sends them: lines that end with a line feed."""

    def __init__(self) -> None:
        self._rest = b""
        self._id: str | None = None
        self._kind = b""
        self._data = b""

    def feed(self, chunk: bytes) -> Generator[StreamEvent]:
        """The events that are complete with this chunk. Raises msgspec.DecodeError."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if not line:
                yield self._event()
                self._kind = self._data = b""
                continue
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            match name:
                case b"id":
                    self._id = value.decode()
                case b"event":
                    self._kind = value
                case b"data":
                    self._data = value
                case _:
                    pass

    def _event(self) -> StreamEvent:
        match self._kind:
            case b"memory":
                return StreamEvent(self._id, _memory.decode(self._data))
            case b"lost":
                return StreamEvent(self._id, lost=_lost.decode(self._data).records)
            case _:
                return StreamEvent(self._id)


class _Place:
    """How far a stream has come."""

    def __init__(self, last_event_id: str | None) -> None:
        self.last_event_id = last_event_id
        """The id behind which another stream would go on."""
        self.lost = 0
        """How many records the log had deleted before this stream could read them."""

    def note(self, event: StreamEvent) -> None:
        """Move on behind the event."""
        self.last_event_id = event.last_event_id or self.last_event_id
        self.lost += event.lost


class MemoryStream(_Place):
    """Memories as they become findable, without end, as an iterator. Resumes by itself.

    One thread iterates; any thread may close it.
    """

    def __init__(self, connect: Callable[[str | None], httpx2.Response], last_event_id: str | None) -> None:
        super().__init__(last_event_id)
        self._connect = connect
        self._memories = self._follow()
        self._response: httpx2.Response | None = None
        self._closed = threading.Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FoundMemory:
        return next(self._memories)

    def close(self) -> None:
        """Close the connection. `last_event_id` says where it ended.

        The iteration of a thread that waits for a memory ends; that of one that waits for a connection, when it has one.
        """
        self._closed.set()
        # The connection of a response that has ended may serve another call already.
        if self._response is not None and not self._response.is_closed:
            _end_reads(self._response)
        with contextlib.suppress(ValueError):  # another thread waits in it, and closes it
            self._memories.close()

    def _follow(self) -> Generator[FoundMemory]:
        while not self._closed.is_set():
            with contextlib.closing(self._connect(self.last_event_id)) as response:
                self._response = response
                if self._closed.is_set():
                    return
                parser = EventParser()
                with contextlib.suppress(httpx2.TransportError):
                    for chunk in response.iter_bytes():
                        for event in parser.feed(chunk):
                            self.note(event)
                            if event.memory is not None:
                                yield event.memory
            self._closed.wait(RECONNECT_DELAY_S)


def _end_reads(response: httpx2.Response) -> None:
    """Let a thread that reads from the connection find its end. Closing the socket would not wake it."""
    connected: socket.socket = response.extensions["network_stream"].get_extra_info("socket")
    with contextlib.suppress(OSError):  # it is closed
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


class AsyncMemoryStream(_Place):
    """Memories as they become findable, without end, as an asynchronous iterator. Resumes by itself.

    To end it from another task, cancel the one that iterates.
    """

    def __init__(
        self, connect: Callable[[str | None], Awaitable[httpx2.Response]], last_event_id: str | None
    ) -> None:
        super().__init__(last_event_id)
        self._connect = connect
        self._memories = self._follow()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FoundMemory:
        return await anext(self._memories)

    async def aclose(self) -> None:
        """Close the connection. `last_event_id` says where it ended."""
        await self._memories.aclose()

    async def _follow(self) -> AsyncGenerator[FoundMemory]:
        while True:
            response = await self._connect(self.last_event_id)
            try:
                parser = EventParser()
                with contextlib.suppress(httpx2.TransportError):
                    async for chunk in response.aiter_bytes():
                        for event in parser.feed(chunk):
                            self.note(event)
                            if event.memory is not None:
                                yield event.memory
            finally:
                await response.aclose()
            await asyncio.sleep(RECONNECT_DELAY_S)
