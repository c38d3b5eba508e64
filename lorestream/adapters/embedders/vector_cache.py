"""Vectors of texts that came before: games say the same things again and again."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CachedVector(NamedTuple):
    """`vector`: float32 of shape (dim,), length 1."""

    vector: NDArray[np.float32]
    truncated: bool


def text_key(text: str) -> bytes:
    """16 bytes that stand for a text without lone surrogates: entries then cost the same, however long it is."""
    return blake2b(text.encode(), digest_size=16).digest()


class VectorCache:
    """At most `entries` vectors; the least recently used goes first. 0 entries keep nothing.

    About 2 KB an entry at 384 dimensions. Not safe for threads: it belongs to one event loop.
    """

    def __init__(self, entries: int) -> None:
        self._limit = entries
        self._vectors: OrderedDict[bytes, CachedVector] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: bytes) -> CachedVector | None:
        """The entry, now the most recently used, or None."""
        found = self._vectors.get(key)
        if found is not None:
            self._vectors.move_to_end(key)
        return found

    def put(self, key: bytes, entry: CachedVector) -> None:
        """Keep an entry; the vector must not be changed, nor be a view into something larger."""
        self._vectors[key] = entry
        self._vectors.move_to_end(key)
        if len(self._vectors) > self._limit:
            self._vectors.popitem(last=False)
