"""An embedder over any local model: a vector cache, then a bounded queue, then one worker thread.

The event loop owns the queue, the thread owns the model. The thread gets a chunk of texts at a time. The next chunk
is taken from the queries if there are any, so a query waits for at most one chunk of the ingest, which is smaller
while queries come in; but after QUERY_CHUNKS of the queries the ingest that waits gets one. The calls that wait take
turns, text by text, so that a call with many texts does not keep the others waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeAlias

import numpy as np

from lorestream import supervision
from lorestream.adapters.embedders.call_queue import Call, CallQueue, QueuedText
from lorestream.adapters.embedders.chunk_size import CHUNK_TEXTS, ChunkSize
from lorestream.adapters.embedders.late_interaction import LateInteraction
from lorestream.adapters.embedders.prefixes import Prefixes
from lorestream.adapters.embedders.reranker import LocalReranker
from lorestream.adapters.embedders.texts import CachedVector, VectorCache, text_key
from lorestream.adapters.embedders.worker_thread import lower_priority
from lorestream.errors import InvalidRequest, Overloaded, Unavailable
from lorestream.plain_text import plain
from lorestream.ports import Embeddings, Priority, Reranker, Role, StoredVectors
from lorestream.turns import Turns

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray


class Encoder(Protocol):
    """A model: blocking, one call of `encode` at a time."""

    @property
    def model_id(self) -> str:
        """As in `lorestream.ports.Embedder`."""
        ...

    @property
    def dim(self) -> int:
        """As in `lorestream.ports.Embedder`."""
        ...

    @property
    def max_characters(self) -> int | None:
        """The model reads nothing beyond this number of characters; None: unknown."""
        ...

    @property
    def prefixes(self) -> Prefixes:
        """What the model reads before a text, by the text's role. `encode` gets the texts with it."""
        ...

    @property
    def same_tokens(self) -> Callable[[str], str]:
        """Texts with the same result have the same vector; called from another thread than `encode`."""
        ...

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """One row of length 1 per text. Raises Unavailable when the model fails."""
        ...

    def count_tokens(self, text: str) -> int:
        """As in `lorestream.ports.Embedder`; called from another thread than `encode`."""
        ...

    def token_vectors(self, texts: Sequence[str]) -> Sequence[NDArray[np.float32]]:
        """The vectors of the tokens of each text, shape (tokens, dim); called from another thread than `encode`.

        Raises Unavailable when the model fails.
        """
        ...


QUERY_CHUNKS = 8
"""Chunks of the queries, at most, before one of the ingest that waits: more queries than the model can take would stop
the indexing."""
_PROBE = "."
"""A text that every model that works can compute."""
OnTexts = Callable[[Literal["model", "cache", "store"], int], None]
"""Called with the source of vectors and the number of texts that got theirs from it."""
Precision: TypeAlias = Literal["auto", "fp32", "fp16"]
"""What a model computes in, as in LORESTREAM_EMBEDDER__PRECISION."""


class QueuedEmbedder:
    """`lorestream.ports.Embedder` over an encoder, with a queue and a cache."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        chunk_texts: int = CHUNK_TEXTS,
        on_texts: OnTexts | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`queue_texts`: how many distinct texts may be queued for each priority; an empty queue takes any call.

        `cache_entries`: how many vectors are cached. `chunk_texts`: how many texts the model gets at once, at most. `on_texts`: counts texts for the metrics. `monotonic`: seconds.
        """
        self._encoder = encoder
        self._queue_texts = queue_texts
        self._cache = VectorCache(cache_entries)
        self._on_texts: OnTexts = on_texts or (lambda source, count: None)  # noqa: ARG005
        self._monotonic = monotonic
        self._chunk_size = ChunkSize(monotonic, chunk_texts)
        self._queues: Mapping[Priority, CallQueue] = {p: CallQueue() for p in sorted(Priority)}
        self._thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="lorestream-embedder", initializer=lower_priority
        )
        self._dispatcher: asyncio.Task[object] | None = None
        self._reranker = LocalReranker(LateInteraction(encoder))
        self._closed = False
        self._passed_over = 0
        """Chunks of the queries since the last of the ingest, while ingest waited."""
        self.ingested = 0
        """As in `lorestream.ports.Embedder`."""

    @property
    def model_id(self) -> str:
        """As in `lorestream.ports.Embedder`."""
        return self._encoder.model_id

    @property
    def dim(self) -> int:
        """As in `lorestream.ports.Embedder`."""
        return self._encoder.dim

    @property
    def failure(self) -> str | None:
        """As in `lorestream.ports.Embedder`: a local model fails at once or not at all."""
        return None

    @property
    def reranker(self) -> Reranker:
        """A reranker over the vectors of single tokens. It is closed with this embedder."""
        return self._reranker

    def count_tokens(self, text: str) -> int:
        """Tokens of the text, without special tokens."""
        return self._encoder.count_tokens(plain(text))

    async def embed(
        self,
        texts: Sequence[str],
        priority: Priority = Priority.INGEST,
        role: Role = Role.PASSAGE,
        *,
        stored: StoredVectors | None = None,
    ) -> Embeddings:
        """One row per text, in order, each read with the prefix of `role` before it.

        Raises Overloaded when the queue is full, Unavailable when the model fails or the embedder is closed,
        InvalidRequest when the model has no vector for one of the texts, and what `stored` raises.
        """
        if self._closed:
            raise Unavailable("the embedder is closed")
        call = Call(
            vectors=np.empty((len(texts), self.dim), np.float32),
            truncated=[False] * len(texts),
            missing=0,
            done=asyncio.get_running_loop().create_future(),
        )
        missing = await self._look_up(texts, role, call, priority)
        if self._closed:
            raise Unavailable("the embedder is closed")
        if len(texts) > len(missing):
            self._on_texts("cache", len(texts) - len(missing))
        if stored is not None and missing:
            missing = await self._ask_store(missing, texts, stored)
        if missing:
            self._enqueue(missing, priority)
        if missing:
            try:
                await call.done
            finally:
                if call.missing:
                    self._remove(call)
        return Embeddings(call.vectors, call.truncated)

    async def close(self) -> None:
        """Fail the queued texts with Unavailable and wait for the chunk that is being encoded. Idempotent."""
        self._closed = True
        self._fail(self._clear_queues(), Unavailable("the embedder is closed"))
        if self._dispatcher is not None and not self._dispatcher.done():
            await asyncio.wait([self._dispatcher])
        await self._reranker.close()
        self._thread.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _look_up(
        self, texts: Sequence[str], role: Role, call: Call, priority: Priority
    ) -> list[QueuedText]:
        """Fill the rows that are cached; return the other distinct texts, the shortest first."""
        prefix = self._encoder.prefixes.of(role)
        missing: dict[bytes, QueuedText] = {}
        turns = Turns()
        for row, given in enumerate(texts):
            await turns.next()
            whole = prefix + plain(given)
            text = whole[: self._encoder.max_characters]
            cut = len(text) < len(whole)
            # Cut or not, a text has an entry of its own: whether it was truncated is a part of it.
            same = self._encoder.same_tokens(text)
            key = text_key(same + "\0" if cut else same)
            if key in missing:
                missing[key].rows.append(row)
            elif (entry := self._cache.get(key)) is not None:
                call.vectors[row] = entry.vector
                call.truncated[row] = entry.truncated
            else:
                missing[key] = QueuedText(key, text, cut, call, [row], priority)
        call.missing = len(missing)
        # Texts of similar length need little padding in a chunk: a third less work for mixed batches.
        return sorted(missing.values(), key=lambda item: len(item.text))

    async def _ask_store(
        self, missing: Sequence[QueuedText], texts: Sequence[str], stored: StoredVectors
    ) -> Sequence[QueuedText]:
        """Fill the rows of texts whose vectors are stored; return the others."""
        found = await stored([texts[item.rows[0]] for item in missing])
        if self._closed:
            raise Unavailable("the embedder is closed")
        left: list[QueuedText] = []
        for item, one in zip(missing, found, strict=True):
            if one is None:
                left.append(item)
                continue
            entry = CachedVector(*one)
            self._cache.put(item.key, entry)
            item.fill(entry)
        if len(left) < len(missing):
            self._on_texts("store", len(missing) - len(left))
        return left

    def _enqueue(self, texts: Sequence[QueuedText], priority: Priority) -> None:
        queue = self._queues[priority]
        if queue.texts and queue.texts + len(texts) > self._queue_texts:
            raise Overloaded(f"the queue of the embedder is full: it holds {queue.texts} texts")
        queue.add(texts)
        if priority == Priority.QUERY:
            self._chunk_size.query_came()
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = supervision.start_detached(self._dispatch(), "embedder")

    async def _dispatch(self) -> None:
        """Give chunk after chunk to the thread until the queues are empty. However it ends, every caller is answered."""
        loop = asyncio.get_running_loop()
        chunk: dict[bytes, list[QueuedText]] = {}
        try:
            while chunk := self._next_chunk():
                texts = [items[0].text for items in chunk.values()]
                encoding = loop.run_in_executor(self._thread, self._encode, texts)
                await asyncio.wait([encoding])
                error = encoding.exception()
                if error is None:
                    embeddings, seconds = encoding.result()
                    self._chunk_size.encoded(max(map(len, texts)) * len(texts), seconds)
                    self._deliver(chunk, embeddings)
                else:
                    self._fail(chain.from_iterable(chunk.values()), error)
        finally:
            unanswered = [*chain.from_iterable(chunk.values()), *self._clear_queues()]
            self._fail(unanswered, Unavailable("the embedder was stopped"))

    def _encode(self, texts: Sequence[str]) -> tuple[Embeddings, float]:
        """The vectors, and how many seconds the model took for them."""
        began = self._monotonic()
        embeddings = self._encode_all(texts)
        seconds = self._monotonic() - began
        vectors = embeddings.vectors
        if vectors.shape != (len(texts), self.dim):
            raise Unavailable(f"{self.model_id} returned no valid vectors for {len(texts)} texts")
        # A text that the model cannot compute is refused; a model that can compute nothing is away.
        if (
            not np.isfinite(vectors).all(axis=1).any()
            and not np.isfinite(self._encoder.encode([_PROBE]).vectors).all()
        ):
            raise Unavailable(f"{self.model_id} returned no valid vectors for {len(texts)} texts")
        return embeddings, seconds

    def _encode_all(self, texts: Sequence[str]) -> Embeddings:
        """The vectors. A text over which the model fails, while it computes others, has one that is not finite."""
        try:
            return self._encoder.encode(texts)
        except Unavailable:
            self._encoder.encode([_PROBE])  # raises Unavailable if the model fails over any text
        if len(texts) == 1:
            return Embeddings(np.full((1, self.dim), np.nan, np.float32), [False])
        middle = len(texts) // 2
        halves = [self._encode_all(half) for half in (texts[:middle], texts[middle:])]
        return Embeddings(
            np.concatenate([half.vectors for half in halves]),
            [cut for half in halves for cut in half.truncated],
        )

    def _next_chunk(self) -> dict[bytes, list[QueuedText]]:
        """Take the next chunk off the queues, by cache key: of the queries if there are any, else of the ingest.

        Of the ingest, if it was passed over QUERY_CHUNKS times.
        """
        turns = list(self._queues.items())
        for priority, queue in reversed(turns) if self._passed_over == QUERY_CHUNKS else turns:
            chunk: dict[bytes, list[QueuedText]] = {}
            longest = 0
            characters = self._chunk_size.characters(priority)
            while (item := queue.next()) is not None and len(chunk) < self._chunk_size.texts:
                longest = max(longest, len(item.text))
                if chunk and longest * (len(chunk) + 1) > characters:
                    break
                queue.take()
                entry = self._cache.get(item.key)
                if entry is not None or item.key in chunk:
                    self._on_texts("cache", 1)
                if entry is not None:
                    item.fill(entry)
                else:
                    chunk.setdefault(item.key, []).append(item)
            if chunk:
                waits = priority == Priority.QUERY and self._queues[Priority.INGEST].texts
                self._passed_over = self._passed_over + 1 if waits else 0
                return chunk
        return {}

    def _deliver(self, chunk: Mapping[bytes, Sequence[QueuedText]], embeddings: Embeddings) -> None:
        self._on_texts("model", len(chunk))
        for (key, items), vector, truncated in zip(
            chunk.items(), embeddings.vectors, embeddings.truncated, strict=True
        ):
            if not np.isfinite(vector).all():
                self._fail(items, InvalidRequest(f"{self.model_id} has no vector for {items[0].text[:60]!r}"))
                continue
            entry = CachedVector(vector.astype(np.float32, copy=True), truncated or items[0].cut)
            self._cache.put(key, entry)
            self.ingested += any(item.priority == Priority.INGEST for item in items)
            for item in items:
                item.fill(entry)

    def _fail(self, items: Iterable[QueuedText], error: BaseException) -> None:
        for call in {id(item.call): item.call for item in items}.values():
            if not call.done.done():
                call.done.set_exception(error)

    def _clear_queues(self) -> list[QueuedText]:
        return [item for queue in self._queues.values() for item in queue.clear()]

    def _remove(self, call: Call) -> None:
        """Remove the queued texts of a call that failed or was cancelled."""
        for queue in self._queues.values():
            queue.remove(call)
