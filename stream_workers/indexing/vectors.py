"""The vectors of memories: reused from a store that the same model has filled, else computed by the embedder.

`Throttle` limits the work for a collection that is filled in the background, so that queries and new events go first.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TypeVar

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from lorestream.memories import Memory
from lorestream.ports import Embedder, MemoryWriter, Priority, Role, StoredVectors

BACKGROUND_CPU_SHARE = 0.5
"""Largest share of one processor that work in the background uses."""
MAX_PAUSE_S = 1.0
"""Longest pause after one piece of work."""
CHUNK_SIZE = 8
"""Memories read or written at once: that blocks an embedded store for about a millisecond."""

T = TypeVar("T")


class Throttle:
    """Pauses after work in the background; does nothing in the foreground."""

    def __init__(self, is_foreground: Callable[[], bool] = lambda: True) -> None:
        """`is_foreground` is called again before each piece of work."""
        self.is_foreground = is_foreground
        self._hurried = False

    @contextlib.contextmanager
    def hurry(self) -> Generator[None]:
        """Within the block, work in the background is done like that in the foreground: others wait for its end."""
        self._hurried = True
        try:
            yield
        finally:
            self._hurried = False

    async def pause(self, worked_s: float) -> None:
        """After `worked_s` seconds of work: sleep until they are `BACKGROUND_CPU_SHARE` of the time passed."""
        if self._is_limited():
            await asyncio.sleep(min(MAX_PAUSE_S, worked_s * (1 / BACKGROUND_CPU_SHARE - 1)))

    async def in_chunks(self, items: Sequence[T], work: Callable[[Sequence[T]], Awaitable[None]]) -> None:
        """Call `work` on all items, in order. In the background by chunks of `CHUNK_SIZE`, with a pause after each."""
        start, end = 0, len(items)
        while start < end:
            chunk = items[start : start + CHUNK_SIZE] if self._is_limited() else items[start:]
            began = time.perf_counter()
            await work(chunk)
            await self.pause(time.perf_counter() - began)
            start += len(chunk)

    def _is_limited(self) -> bool:
        return not (self._hurried or self.is_foreground())


async def embed(
    memories: Sequence[Memory],
    embedder: Embedder,
    source: MemoryWriter | None,
    throttle: Throttle,
    stored: StoredVectors | None = None,
) -> tuple[list[Memory], NDArray[np.float32]]:
    """The memories with `truncated` set, and their vectors, shape (len(memories), dim).

    A vector that `source` holds for the same memory with the same text is reused, and one that `stored` finds for a text
    that is not in the embedder's cache. Records are not embedded: their rows are 0. Raises Unavailable.
    """
    reused = [None] * len(memories) if source is None else await _reusable(memories, source, throttle)
    missing = [row for row, one in enumerate(reused) if one is None and memories[row].recall]
    began = time.perf_counter()
    texts = [memories[row].text for row in missing]
    embedded = await embedder.embed(texts, Priority.INGEST, Role.PASSAGE, stored=stored)
    await throttle.pause(time.perf_counter() - began)
    vectors = embedded.vectors
    truncated = dict(zip(missing, embedded.truncated, strict=True))
    if len(missing) < len(memories):
        vectors = np.zeros((len(memories), embedder.dim), np.float32)
        vectors[missing] = embedded.vectors
        for row, one in enumerate(reused):
            if one is not None:
                vectors[row], truncated[row] = one
    marked = [
        memory
        if memory.truncated == truncated.get(row, False)
        else structs.replace(memory, truncated=truncated[row])
        for row, memory in enumerate(memories)
    ]
    return marked, vectors


async def _reusable(
    memories: Sequence[Memory], source: MemoryWriter, throttle: Throttle
) -> list[tuple[NDArray[np.float32], bool] | None]:
    """For each memory the vector, shape (dim,), and whether its text was truncated; None where `source` has none."""
    found: list[tuple[NDArray[np.float32], bool] | None] = []

    async def look_up(chunk: Sequence[Memory]) -> None:
        found.extend(await source.reusable_vectors(chunk))

    await throttle.in_chunks(memories, look_up)
    return found
