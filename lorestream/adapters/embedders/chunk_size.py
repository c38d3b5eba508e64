"""How large the chunks are that a local model gets: for throughput, and small enough while queries come in."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from lorestream.ports import Priority

CHUNK_TEXTS = 16
"""Texts in a chunk, at most. 16 have 97 % of the throughput of 32, and half the time that a query waits for them."""
GPU_CHUNK_TEXTS = 256
"""The same on a GPU, which computes the texts of a chunk side by side."""
CHUNK_CHARACTERS = 2048
"""Characters in a chunk of CHUNK_TEXTS, at most, padding included: about 500 tokens. Long texts go in smaller chunks."""
BUSY_CHUNK_S = 0.02
"""How long the model may take for a chunk of the ingest while queries come in: so long a query waits for it."""
BUSY_S = 1.0
"""Queries count as coming in for so many seconds after each."""
_WEIGHT = 0.25
"""Of a new measurement in the speed of the model."""


class ChunkSize:
    """Measures the speed of the model, and limits the chunks by it."""

    def __init__(self, monotonic: Callable[[], float], texts: int = CHUNK_TEXTS) -> None:
        """`texts`: how many a chunk has at most. It has as many times more characters than one of CHUNK_TEXTS."""
        self._monotonic = monotonic
        self.texts = texts
        self._most_characters = CHUNK_CHARACTERS * texts // CHUNK_TEXTS
        self._last_query = -inf
        self._characters_per_s: float | None = None

    def query_came(self) -> None:
        """A query needs the model."""
        self._last_query = self._monotonic()

    def encoded(self, characters: int, seconds: float) -> None:
        """The model took `seconds` for a chunk of `characters`, padding included."""
        measured = characters / max(seconds, 1e-6)
        known = measured if self._characters_per_s is None else self._characters_per_s
        self._characters_per_s = known + _WEIGHT * (measured - known)

    def characters(self, priority: Priority) -> int:
        """How many characters the next chunk may have, padding included. A chunk of one text may have more."""
        quiet = self._monotonic() - self._last_query > BUSY_S
        if priority == Priority.QUERY or quiet or self._characters_per_s is None:
            return self._most_characters
        return min(self._most_characters, round(self._characters_per_s * BUSY_CHUNK_S))
