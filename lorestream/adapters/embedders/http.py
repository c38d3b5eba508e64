"""Vectors from a server of OpenAI's `/v1/embeddings`, several requests at a time.

Queries have connections of their own, so that they never stand behind the ingest. A text that is on its way for
one caller is not sent again for another, and a request that nobody waits for any more is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np

from lorestream.adapters.embedders.http_endpoint import SETTING, EmbeddingsEndpoint
from lorestream.adapters.embedders.queue import OnTexts
from lorestream.adapters.embedders.text import plain
from lorestream.adapters.embedders.vector_cache import CachedVector, VectorCache, text_key
from lorestream.errors import InvalidRequest, Misconfigured, Overloaded, Unavailable
from lorestream.ports import Embeddings, Priority

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

MAX_TEXTS = 32
"""Of one request: as many as Text Embeddings Inference takes unless told otherwise."""
MAX_CHARACTERS = 64_000
"""Of one request of several texts: far below the 300,000 tokens that OpenAI takes."""
PATIENCE_S: Mapping[Priority, float] = {Priority.QUERY: 2.0, Priority.INGEST: 20.0}
"""How long a failed request is tried again; who asks again afterwards does so on their own account."""

_BLANK = "."
"""Sent for a text of nothing but blanks: OpenAI refuses it."""
_TOKENS_PER_WORD = 4 / 3
_BYTES_PER_TOKEN = 4

_Vectors: TypeAlias = "dict[bytes, NDArray[np.float32]]"


@dataclass(slots=True, eq=False)
class _Flight:
    """A request under way, or waiting for its turn."""

    keys: Sequence[bytes]
    priority: Priority
    task: asyncio.Task[_Vectors]
    callers: int = 0


class HttpEmbedder:
    """`lorestream.ports.Embedder` over HTTP.

    `queue_texts` bounds the distinct texts under way, for each priority; a call that is larger than that is
    taken while nothing else is. `cache_entries` bounds the vectors kept.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        dim: int,
        api_key: str | None = None,
        max_texts: int = MAX_TEXTS,
        parallel: int = 4,
        timeout_s: float = 10.0,
        patience_s: Mapping[Priority, float] = PATIENCE_S,
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        on_texts: OnTexts | None = None,
    ) -> None:
        """`parallel`: requests at a time, of each priority; `timeout_s`: for one of them. Raises Misconfigured."""
        self._endpoint = EmbeddingsEndpoint(
            url, model, api_key=api_key, connections=parallel * len(Priority), timeout_s=timeout_s
        )
        self.dim = dim
        self._max_texts = max_texts
        self._patience_s = patience_s
        self._queue_texts = queue_texts
        self._cache = VectorCache(cache_entries)
        self._on_texts: OnTexts = on_texts or (lambda source, count: None)  # noqa: ARG005
        self._turns = {priority: asyncio.Semaphore(parallel) for priority in Priority}
        self._flights: dict[tuple[Priority, bytes], _Flight] = {}
        self._closed = False

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        *,
        url: str,
        model: str,
        api_key: str | None = None,
        dim: int | None = None,
        max_texts: int = MAX_TEXTS,
        parallel: int = 4,
        timeout_s: float = 10.0,
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        on_texts: OnTexts | None = None,
    ) -> AsyncGenerator[HttpEmbedder]:
        """`url`: with or without /v1, or the whole of …/embeddings. One text is embedded to learn the dimension.

        Raises Misconfigured when the server refuses the key or the model, or has another dimension than `dim`,
        and Unavailable when it does not answer.
        """
        probe = EmbeddingsEndpoint(url, model, api_key=api_key, connections=1, timeout_s=timeout_s)
        try:
            found = (await probe.vectors(["."], patience_s=PATIENCE_S[Priority.INGEST])).shape[1]
        except InvalidRequest as error:
            raise Misconfigured(f"{SETTING}: {error.message}") from error
        finally:
            await probe.close()
        if dim not in {None, found}:
            raise Misconfigured(
                f"LORESTREAM_EMBEDDER__DIM is {dim}, but {model} at {probe.host} has {found}:"
                f" set it to {found} or leave it out"
            )
        embedder = cls(
            url=url,
            model=model,
            dim=found,
            api_key=api_key,
            max_texts=max_texts,
            parallel=parallel,
            timeout_s=timeout_s,
            queue_texts=queue_texts,
            cache_entries=cache_entries,
            on_texts=on_texts,
        )
        async with embedder:
            yield embedder

    @property
    def model_id(self) -> str:
        """Where the model is served, its name there, and the dimension: a server says no more about it."""
        return f"http:{self._endpoint.host}/{self._endpoint.model}@{self.dim}"

    def count_tokens(self, text: str) -> int:
        """An estimate, since a server shows no tokenizer: four thirds of the words, or a quarter of the bytes.

        The larger of both; so English prose is estimated some 10 % too long rather than too short.
        """
        text = plain(text)
        return round(max(len(text.split()) * _TOKENS_PER_WORD, len(text.encode()) / _BYTES_PER_TOKEN))

    async def embed(self, texts: Sequence[str], priority: Priority = Priority.INGEST) -> Embeddings:
        """One row per text, in order. `truncated` is always false: a server does not say.

        Raises Overloaded, Unavailable, and InvalidRequest when the server refuses one of the texts.
        """
        if self._closed:
            raise Unavailable("the embedder is closed")
        texts = [plain(text) for text in texts]
        keys = [text_key(text) for text in texts]
        found: _Vectors = {}
        missing: dict[bytes, str] = {}
        for key, text in zip(keys, texts, strict=True):
            if (entry := self._cache.get(key)) is not None:
                found[key] = entry.vector
            else:
                missing[key] = text
        new = [(key, text) for key, text in missing.items() if (priority, key) not in self._flights]
        self._admit(len(new), priority)
        for batch in self._batches(new):
            self._take_off(dict(batch), priority)
        if len(texts) > len(new):
            self._on_texts("cache", len(texts) - len(new))
        found |= await self._land({self._flights[priority, key] for key in missing})
        vectors = np.empty((len(texts), self.dim), np.float32)
        for row, key in enumerate(keys):
            vectors[row] = found[key]
        return Embeddings(vectors, [False] * len(texts))

    async def close(self) -> None:
        """Refuse what is under way with Unavailable. Twice is once."""
        self._closed = True
        flights = set(self._flights.values())
        for flight in flights:
            self._give_up(flight)
        if flights:
            await asyncio.wait([flight.task for flight in flights])
        await self._endpoint.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- flights -------------------------------------------------------------------------------------------

    def _admit(self, count: int, priority: Priority) -> None:
        under_way = sum(of == priority for of, _ in self._flights)
        if count and under_way and under_way + count > self._queue_texts:
            raise Overloaded(f"{under_way} texts wait for the embedder already")

    def _batches(self, texts: Iterable[tuple[bytes, str]]) -> Iterable[list[tuple[bytes, str]]]:
        batch: list[tuple[bytes, str]] = []
        size = 0
        for key, text in texts:
            if batch and (len(batch) == self._max_texts or size + len(text) > MAX_CHARACTERS):
                yield batch
                batch, size = [], 0
            batch.append((key, text))
            size += len(text)
        if batch:
            yield batch

    def _take_off(self, batch: Mapping[bytes, str], priority: Priority) -> None:
        task = asyncio.create_task(self._fly(batch, priority), name="lorestream-embedder")
        flight = _Flight(list(batch), priority, task)
        self._flights |= {(priority, key): flight for key in batch}

        def landed(task: asyncio.Task[_Vectors]) -> None:
            self._forget(flight)
            if not task.cancelled():
                task.exception()  # seen, even when nobody waits for it any more

        task.add_done_callback(landed)

    async def _land(self, flights: Iterable[_Flight]) -> _Vectors:
        """What the flights bring, once all have ended. One that everybody has left is given up."""
        found: _Vectors = {}
        flights = list(flights)
        for flight in flights:
            flight.callers += 1
        try:
            if flights:
                await asyncio.wait([flight.task for flight in flights])
        finally:
            for flight in flights:
                flight.callers -= 1
                if not flight.callers:
                    self._give_up(flight)
        for flight in flights:
            if flight.task.cancelled():
                raise Unavailable("the embedder is closed")
            found |= flight.task.result()
        return found

    def _give_up(self, flight: _Flight) -> None:
        flight.task.cancel()
        self._forget(flight)

    def _forget(self, flight: _Flight) -> None:
        for key in flight.keys:
            if self._flights.get((flight.priority, key)) is flight:
                del self._flights[flight.priority, key]

    async def _fly(self, batch: Mapping[bytes, str], priority: Priority) -> _Vectors:
        async with self._turns[priority]:
            return await self._fetch(list(batch.items()), priority)

    async def _fetch(self, batch: Sequence[tuple[bytes, str]], priority: Priority) -> _Vectors:
        """Ask for the vectors; of a batch that is refused, for each half, because one text may be to blame.

        Or there are too many for this server. What the good half brings is kept even if the other fails.
        """
        try:
            vectors = await self._vectors([text for _, text in batch], priority)
        except InvalidRequest:
            if len(batch) == 1:
                raise
            middle = len(batch) // 2
            halves = await asyncio.gather(
                *(self._fetch(half, priority) for half in (batch[:middle], batch[middle:])),
                return_exceptions=True,
            )
            found: _Vectors = {}
            for half in halves:
                if isinstance(half, BaseException):
                    raise half from None
                found |= half
            return found
        self._on_texts("model", len(batch))
        found = {key: vector.copy() for (key, _), vector in zip(batch, vectors, strict=True)}
        for key, vector in found.items():
            self._cache.put(key, CachedVector(vector, truncated=False))
        return found

    async def _vectors(self, texts: Sequence[str], priority: Priority) -> NDArray[np.float32]:
        asked = [text if text.strip() else _BLANK for text in texts]
        try:
            vectors = await self._endpoint.vectors(asked, patience_s=self._patience_s[priority])
        except Misconfigured as error:  # it was right at the start: somebody is at work on the server
            raise Unavailable(str(error)) from error
        if vectors.shape[1] != self.dim:
            raise Unavailable(f"{self.model_id} sent vectors of {vectors.shape[1]} components")
        return vectors
