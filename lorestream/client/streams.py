"""Streams of memories as they become findable: the parser of server-sent events, and one iterator for each client.

A stream that breaks off is resumed behind the last memory that was yielded.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
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
    """Memories as they become findable, without end, as an iterator. Resumes by itself."""

    def __init__(self, connect: Callable[[str | None], httpx2.Response], last_event_id: str | None) -> None:
        super().__init__(last_event_id)
        self._connect = connect
        self._memories = self._follow()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FoundMemory:
        return next(self._memories)

    def close(self) -> None:
        """Close the connection. `last_event_id` says where it ended."""
        self._memories.close()

    def _follow(self) -> Generator[FoundMemory]:
        while True:
            with contextlib.closing(self._connect(self.last_event_id)) as response:
                parser = EventParser()
                with contextlib.suppress(httpx2.TransportError):
                    for chunk in response.iter_bytes():
                        for event in parser.feed(chunk):
                            self.note(event)
                            if event.memory is not None:
                                yield event.memory
            time.sleep(RECONNECT_DELAY_S)


class AsyncMemoryStream(_Place):
    """Memories as they become findable, without end, as an asynchronous iterator. Resumes by itself."""

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
