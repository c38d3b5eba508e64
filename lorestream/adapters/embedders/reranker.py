"""A reranker over any local model: one worker thread, which gets a chunk of texts at a time.

The callers take turns: each gives the thread its next chunk when the one before is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, Self

from lorestream.adapters.embedders.worker_thread import lower_priority
from lorestream.errors import Unavailable
from lorestream.plain_text import plain

if TYPE_CHECKING:
    from types import TracebackType

CHUNK_TEXTS = 16
"""Texts in a chunk, at most."""
CHUNK_CHARACTERS = 2048
"""Characters in a chunk, at most, padding included: a caller whose time is over waits for one chunk at most."""

Compare = Callable[[Sequence[str]], Sequence[float]]
"""Compares texts with one query: a score in [0, 1] for each."""


class PairModel(Protocol):
    """A model that reads a query and a text together: blocking, used by one thread."""

    @property
    def model_id(self) -> str:
        """As in `lorestream.ports.Reranker`."""
        ...

    def with_query(self, query: str) -> Compare:
        """A function that compares texts with this query. Both raise Unavailable when the model fails."""
        ...


class LocalReranker:
    """`lorestream.ports.Reranker` over a local model."""

    def __init__(self, model: PairModel) -> None:
        """`model` is used by the thread of this reranker only."""
        self._model = model
        self._thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="lorestream-reranker", initializer=lower_priority
        )
        self._closed = False

    @property
    def model_id(self) -> str:
        """As in `lorestream.ports.Reranker`."""
        return self._model.model_id

    async def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """One score in [0, 1] per text, in order. Raises Unavailable when the model fails or is closed."""
        loop = asyncio.get_running_loop()
        read = [plain(text) for text in texts]
        scores = [0.0] * len(texts)
        self._require_open()
        compare = await loop.run_in_executor(self._thread, self._model.with_query, plain(query))
        for rows in _chunks(read):
            self._require_open()
            found = await loop.run_in_executor(self._thread, compare, [read[row] for row in rows])
            for row, score in zip(rows, found, strict=True):
                scores[row] = score
        return scores

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("the reranker is closed")

    async def close(self) -> None:
        """Wait for the chunk that is being compared; further calls get Unavailable. Idempotent."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _chunks(texts: Sequence[str]) -> list[list[int]]:
    """The rows of the texts in chunks, the shortest first: texts of similar length need little padding."""
    chunks: list[list[int]] = []
    for row in sorted(range(len(texts)), key=lambda row: len(texts[row])):
        size = len(chunks[-1]) + 1 if chunks else 0
        if not chunks or size > CHUNK_TEXTS or size * len(texts[row]) > CHUNK_CHARACTERS:
            chunks.append([])
        chunks[-1].append(row)
    return chunks
