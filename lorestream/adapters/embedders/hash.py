"""Vectors without meaning, for tests: the same text has the same vector on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_128

import numpy as np

from lorestream.adapters.embedders.queue import OnTexts, QueuedEmbedder
from lorestream.ports import Embeddings

_MAX_WORDS = 254


class _HashEncoder:
    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.model_id = f"hash-v1-{dim}"

    def encode(self, texts: Sequence[str]) -> Embeddings:
        vectors = np.empty((len(texts), self.dim), np.float32)
        truncated = [False] * len(texts)
        for row, text in enumerate(texts):
            words = text.split(maxsplit=_MAX_WORDS)
            truncated[row] = len(words) > _MAX_WORDS
            digest = shake_128(" ".join(words[:_MAX_WORDS]).encode()).digest(self.dim)
            vectors[row] = np.frombuffer(digest, np.uint8)
        # No component is 0 then, so that no vector has the length 0.
        vectors -= 127.5
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors, truncated)

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class HashEmbedder(QueuedEmbedder):
    """`lorestream.ports.Embedder` of hashes: words separated by blanks, 254 of them at most."""

    def __init__(
        self,
        dim: int = 384,
        *,
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        on_texts: OnTexts | None = None,
    ) -> None:
        super().__init__(
            _HashEncoder(dim), queue_texts=queue_texts, cache_entries=cache_entries, on_texts=on_texts
        )
