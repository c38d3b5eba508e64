"""A least-recently-used cache of vectors by text. Games send the same texts many times."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CachedVector(NamedTuple):
    """`vector`: float32 of shape (dim,), length 1. `truncated`: the model read only a part of the text."""

    vector: NDArray[np.float32]
    truncated: bool


def text_key(text: str) -> bytes:
    """The cache key of a text: a 16-byte BLAKE2b digest, so that an entry's size does not depend on the text.

    Raises UnicodeEncodeError for lone surrogates; `text.plain` replaces them.
    """
    return blake2b(text.encode(), digest_size=16).digest()


class VectorCache:
    """Keeps at most `entries` vectors and evicts the least recently used one. 0 keeps none.

    An entry takes about 2 KB at 384 dimensions. Not thread-safe: use it on one event loop.
    """

    def __init__(self, entries: int) -> None:
        self._limit = entries
        self._vectors: OrderedDict[bytes, CachedVector] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: bytes) -> CachedVector | None:
        """The entry, which becomes the most recently used one, or None."""
        found = self._vectors.get(key)
        if found is not None:
            self._vectors.move_to_end(key)
        return found

    def put(self, key: bytes, entry: CachedVector) -> None:
        """Store an entry. Its vector must not be changed later, and must not be a view into a larger array."""
        self._vectors[key] = entry
        self._vectors.move_to_end(key)
        if len(self._vectors) > self._limit:
            self._vectors.popitem(last=False)
