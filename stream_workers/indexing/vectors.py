"""The vectors of memories: taken from a store that the same model has filled, else made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lorestream.memories import Memory
from lorestream.ports import Embedder, Priority, VectorStore
from stream_workers.indexing.throttle import Pace


async def embedded(
    memories: Sequence[Memory], embedder: Embedder, donor: VectorStore | None, pace: Pace
) -> tuple[list[Memory], NDArray[np.float32]]:
    """The memories, marked where the model saw only the beginning of their text, and their vectors (n, dim).

    A vector that lies in `donor` with the same text is not made again; after the model's work `pace` rests.
    Raises Unavailable.
    """
    known = [None] * len(memories) if donor is None else await _known(memories, donor, pace)
    new = [row for row, one in enumerate(known) if one is None]
    began = time.perf_counter()
    made = await embedder.embed([memories[row].text for row in new], Priority.INGEST)
    await pace.rest(time.perf_counter() - began)
    vectors = made.vectors
    truncated = dict(zip(new, made.truncated, strict=True))
    if len(new) < len(memories):
        vectors = np.zeros((len(memories), embedder.dim), np.float32)
        vectors[new] = made.vectors
        for row, one in enumerate(known):
            if one is not None:
                vectors[row], truncated[row] = one
    marked = [
        memory if memory.truncated == truncated[row] else replace(memory, truncated=truncated[row])
        for row, memory in enumerate(memories)
    ]
    return marked, vectors


async def _known(
    memories: Sequence[Memory], donor: VectorStore, pace: Pace
) -> list[tuple[NDArray[np.float32], bool] | None]:
    known: list[tuple[NDArray[np.float32], bool] | None] = []

    async def look(piece: Sequence[Memory]) -> None:
        known.extend(await donor.reusable_vectors(piece))

    await pace.in_pieces(memories, look)
    return known
