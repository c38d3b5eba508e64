"""How much of a text an embedding model reads, and a cache of the vectors of recent texts."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

_CHARACTERS_PER_TOKEN = 64
"""An upper bound: a word piece has 4 to 5 characters on average, and the longest words have fewer than 64."""


def characters_read(max_tokens: int) -> int:
    """A number of characters that holds all tokens that a model reads: 64 for each of `max_tokens`.

    Texts are cut to it: tokenizing costs time for every character, also for those that the model does not read.
    """
    return max_tokens * _CHARACTERS_PER_TOKEN


def special_ends(tokenizer: Tokenizer) -> tuple[int, int]:
    """How many special tokens stand before and behind the tokens of a text."""
    mask = tokenizer.encode("a").special_tokens_mask
    return mask.index(0), mask[::-1].index(0)


class CachedVector(NamedTuple):
    """`vector`: float32 of shape (dim,), length 1. `truncated`: the model read only a part of the text."""

    vector: NDArray[np.float32]
    truncated: bool


def text_key(text: str) -> bytes:
    """The cache key of a text: a 16-byte BLAKE2b digest, so that an entry's size does not depend on the text.

    Raises UnicodeEncodeError for lone surrogates; `plain` replaces them.
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
