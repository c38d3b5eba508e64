"""Vectors computed from hashes, for tests: equal texts have equal vectors on every machine; there is no meaning."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_128
from typing import TYPE_CHECKING

import numpy as np

from lorestream.adapters.embedders.prefixes import NO_PREFIXES
from lorestream.adapters.embedders.queue import OnTexts, QueuedEmbedder
from lorestream.ports import Embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_WORDS = 254


class _HashEncoder:
    """`queue.Encoder` over SHAKE-128 of the words."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.model_id = f"hash-v1-{dim}"
        self.max_characters = None
        self.prefixes = NO_PREFIXES

    @staticmethod
    def same_tokens(text: str) -> str:
        return " ".join(text.split())

    def encode(self, texts: Sequence[str]) -> Embeddings:
        vectors = np.empty((len(texts), self.dim), np.float32)
        truncated = [False] * len(texts)
        for row, text in enumerate(texts):
            words = text.split(maxsplit=_MAX_WORDS)
            truncated[row] = len(words) > _MAX_WORDS
            vectors[row] = self._vector(" ".join(words[:_MAX_WORDS]))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors, truncated)

    def token_vectors(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        words = [text.split(maxsplit=_MAX_WORDS)[:_MAX_WORDS] for text in texts]
        return [
            np.array([self._vector(word) for word in one], np.float32).reshape(-1, self.dim) for one in words
        ]

    def _vector(self, text: str) -> NDArray[np.float32]:
        digest = np.frombuffer(shake_128(text.encode()).digest(self.dim), np.uint8)
        # Centred between two integers, so that no component is 0 and no vector has the length 0.
        return digest.astype(np.float32) - np.float32(127.5)

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class HashEmbedder(QueuedEmbedder):
    """`lorestream.ports.Embedder` over hashes. A token is a word between blanks; the first 254 are read."""

    def __init__(
        self,
        dim: int = 384,
        *,
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        on_texts: OnTexts | None = None,
    ) -> None:
        """`dim`: components of a vector; the rest as in `QueuedEmbedder`."""
        super().__init__(
            _HashEncoder(dim), queue_texts=queue_texts, cache_entries=cache_entries, on_texts=on_texts
        )
