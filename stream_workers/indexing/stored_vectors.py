"""Vectors of texts that the collection holds already: it is the cache that lasts, and that all workers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lorestream.ports import MemoryWriter
from stream_workers.indexing.vectors import Throttle

WORTH: Final = 0.05
"""Smallest share of texts to be found for which the store is asked each time.

In the embedded store a text that is not there costs 2 % of what the default model takes for it, one that is there 10 %.
"""
RARELY: Final = 16
"""Where fewer are found, the store is asked in one of so many batches, which shows whether that has changed."""
_WINDOW_TEXTS = 256
"""Over about so many texts the share is measured."""


class StoredVectors:
    """Asks a store for the vectors of texts; rarely, while it has few of them.

    It has many after a restart, when the embedder's cache is empty, and for texts that other workers have indexed.
    """

    def __init__(self, store: MemoryWriter, throttle: Throttle) -> None:
        self._store = store
        self._throttle = throttle
        self._share = 1.0
        self._skipped = 0

    async def __call__(self, texts: Sequence[str]) -> Sequence[tuple[NDArray[np.float32], bool] | None]:
        """As `lorestream.ports.StoredVectors`. Raises Unavailable."""
        if self._share < WORTH and self._skipped < RARELY - 1:
            self._skipped += 1
            return [None] * len(texts)
        self._skipped = 0
        found: list[tuple[NDArray[np.float32], bool] | None] = []

        async def look_up(chunk: Sequence[str]) -> None:
            found.extend(await self._store.text_vectors(chunk))

        await self._throttle.in_chunks(texts, look_up)
        share = sum(one is not None for one in found) / len(texts)
        self._share += min(1.0, len(texts) / _WINDOW_TEXTS) * (share - self._share)
        return found
