"""The vectors of memories: reused from a store that the same model has filled, else computed by the embedder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lorestream.memories import Memory
from lorestream.ports import Embedder, MemoryWriter, Priority
from stream_workers.indexing.throttle import Throttle


async def embed(
    memories: Sequence[Memory], embedder: Embedder, source: MemoryWriter | None, throttle: Throttle
) -> tuple[list[Memory], NDArray[np.float32]]:
    """The memories with `truncated` set, and their vectors, shape (len(memories), dim).

    A vector that `source` holds for the same memory with the same text is reused. Raises Unavailable.
    """
    reused = [None] * len(memories) if source is None else await _reusable(memories, source, throttle)
    missing = [row for row, one in enumerate(reused) if one is None]
    began = time.perf_counter()
    embedded = await embedder.embed([memories[row].text for row in missing], Priority.INGEST)
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
        memory if memory.truncated == truncated[row] else replace(memory, truncated=truncated[row])
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
