"""Vectors computed from hashes, for tests: equal texts have equal vectors on every machine; there is no meaning."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_128

import numpy as np

from lorestream.adapters.embedders.prefixes import NO_PREFIXES
from lorestream.adapters.embedders.queue import OnTexts, QueuedEmbedder
from lorestream.ports import Embeddings

_MAX_WORDS = 254


class _HashEncoder:
    """`queue.Encoder` over SHAKE-128 of the words."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.model_id = f"hash-v1-{dim}"
        self.max_characters = None
        self.prefixes = NO_PREFIXES

    def encode(self, texts: Sequence[str]) -> Embeddings:
        vectors = np.empty((len(texts), self.dim), np.float32)
        truncated = [False] * len(texts)
        for row, text in enumerate(texts):
            words = text.split(maxsplit=_MAX_WORDS)
            truncated[row] = len(words) > _MAX_WORDS
            digest = shake_128(" ".join(words[:_MAX_WORDS]).encode()).digest(self.dim)
            vectors[row] = np.frombuffer(digest, np.uint8)
        # Centred between two integers, so that no component is 0 and no vector has the length 0.
        vectors -= 127.5
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors, truncated)

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
