"""An embedder over a server of OpenAI's `/v1/embeddings`: batches, concurrent requests, single flight, cache.

Queries and ingest have separate connections, so that a query does not wait for the ingest. A text that is already
requested is not requested again (single flight), and a request that no caller waits for any more is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np

from lorestream import supervision
from lorestream.adapters.embedders.http_endpoint import SETTING, EmbeddingsEndpoint, NoVectors
from lorestream.adapters.embedders.prefixes import NO_PREFIXES, Prefixes
from lorestream.adapters.embedders.queue import OnTexts
from lorestream.adapters.embedders.texts import CachedVector, VectorCache, text_key
from lorestream.errors import InvalidRequest, Misconfigured, Overloaded, Unavailable
from lorestream.plain_text import plain
from lorestream.ports import Embeddings, Priority, Role, StoredVectors

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

MAX_TEXTS = 32
"""Texts in a request, at most: the default limit of Text Embeddings Inference."""
MAX_CHARACTERS = 64_000
"""Characters in a request of several texts, at most: far below OpenAI's limit of 300,000 tokens."""
RETRY_TIMEOUT_S: Mapping[Priority, float] = {Priority.QUERY: 2.0, Priority.INGEST: 20.0}
"""For how many seconds a failed request is retried before the caller gets the error."""
HALF_RETRY_TIMEOUT_S = 2.0
"""The same for a half of a request that failed for so long while the server answered another one."""
_PROBE_RETRY_TIMEOUT_S = 0.1

_BLANK = "."
"""Sent instead of a text of blanks only, which OpenAI refuses."""
_TOKENS_PER_WORD = 4 / 3
_BYTES_PER_TOKEN = 4

_Vectors: TypeAlias = "dict[bytes, NDArray[np.float32]]"


@dataclass(slots=True, eq=False)
class _PendingRequest:
    """A request that is running or waits for a free slot. `callers`: how many calls wait for it."""

    keys: Sequence[bytes]
    priority: Priority
    task: asyncio.Task[_Vectors]
    callers: int = 0


class HttpEmbedder:
    """`lorestream.ports.Embedder` over HTTP."""

    def __init__(
        self,
        *,
        url: str,
        model: str,
        dim: int,
        api_key: str | None = None,
        prefixes: Prefixes = NO_PREFIXES,
        max_texts: int = MAX_TEXTS,
        parallel: int = 4,
        timeout_s: float = 10.0,
        retry_timeout_s: Mapping[Priority, float] = RETRY_TIMEOUT_S,
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        on_texts: OnTexts | None = None,
    ) -> None:
        """`url`: as in `open`. `dim`: components of the server's vectors. `max_texts`: of one request.

        `prefixes`: put before the texts by their role, since such a server does not know it.

        `parallel`: how many requests run at a time, for each priority. `timeout_s`: of one request.
        `retry_timeout_s`: for how long a failed one is retried. `queue_texts`: how many distinct texts may be pending
        for each priority; when none is pending, a call of any size is accepted. `cache_entries`: how many vectors are
        cached. `on_texts`: counts texts for the metrics. Raises Misconfigured when `url` is no HTTP address.
        """
        self._endpoint = EmbeddingsEndpoint(
            url, model, api_key=api_key, connections=parallel * len(Priority), timeout_s=timeout_s
        )
        self.dim = dim
        self._prefixes = prefixes
        self._max_texts = max_texts
        self._retry_timeout_s = retry_timeout_s
        self._queue_texts = queue_texts
        self._cache = VectorCache(cache_entries)
        self._on_texts: OnTexts = on_texts or (lambda source, count: None)  # noqa: ARG005
        self._slots = {priority: asyncio.Semaphore(parallel) for priority in Priority}
        self._pending: dict[tuple[Priority, bytes], _PendingRequest] = {}
        self._closed = False
        self.ingested = 0
        """As in `lorestream.ports.Embedder`."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        *,
        url: str,
        model: str,
        api_key: str | None = None,
        dim: int | None = None,
        prefixes: Prefixes = NO_PREFIXES,
        max_texts: int = MAX_TEXTS,
        parallel: int = 4,
        timeout_s: float = 10.0,
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        on_texts: OnTexts | None = None,
    ) -> AsyncGenerator[HttpEmbedder]:
        """Open an embedder, after a request that reads the dimension of the server's vectors.

        `url`: with or without /v1, or the complete address that ends with /embeddings. `dim`: refuse another
        dimension. The rest as in the constructor. Raises Misconfigured when the server refuses the key or the model,
        or has another dimension, and Unavailable when it does not answer.
        """
        probe = EmbeddingsEndpoint(url, model, api_key=api_key, connections=1, timeout_s=timeout_s)
        try:
            found = (await probe.vectors(["."], retry_timeout_s=RETRY_TIMEOUT_S[Priority.INGEST])).shape[1]
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
            prefixes=prefixes,
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
        """Host, model name, dimension and prefixes: a server gives no revision of its model."""
        space = f"http:{self._endpoint.host}/{self._endpoint.model}@{self.dim}"
        return "/prefixes-".join(filter(None, [space, self._prefixes.fingerprint]))

    @property
    def failure(self) -> str | None:
        """Why the last request failed; None after one that succeeded."""
        return self._endpoint.failure

    @property
    def reranker(self) -> None:
        """None: a server sends one vector for a text."""
        return None

    def count_tokens(self, text: str) -> int:
        """An estimate, because the server's tokenizer is unknown: the larger of 4/3 of the words and 1/4 of the bytes.

        It is about 10 % too high for English prose.
        """
        text = plain(text)
        return round(max(len(text.split()) * _TOKENS_PER_WORD, len(text.encode()) / _BYTES_PER_TOKEN))

    async def embed(
        self,
        texts: Sequence[str],
        priority: Priority = Priority.INGEST,
        role: Role = Role.PASSAGE,
        *,
        stored: StoredVectors | None = None,
    ) -> Embeddings:
        """One row per text, in order, each sent with the prefix of `role` before it.

        `truncated` is always false, because a server does not report it. Raises Overloaded when too many texts are
        pending, Unavailable when the server fails, InvalidRequest when it refuses one of the texts or, in the ingest,
        fails over that text alone, and what `stored` raises.
        """
        if self._closed:
            raise Unavailable("the embedder is closed")
        prefix = self._prefixes.of(role)
        sent = [prefix + plain(text) for text in texts]
        keys = [text_key(text) for text in sent]
        found: _Vectors = {}
        rows: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if (entry := self._cache.get(key)) is not None:
                found[key] = entry.vector
            else:
                rows[key] = row
        kept = await self._ask_store({key: texts[row] for key, row in rows.items()}, stored)
        found |= kept
        missing = {key: sent[row] for key, row in rows.items() if key not in kept}
        new = [(key, text) for key, text in missing.items() if (priority, key) not in self._pending]
        self._admit(len(new), priority)
        for batch in self._batches(new):
            self._start(dict(batch), priority)
        if (cached := len(texts) - len(kept) - len(new)) > 0:
            self._on_texts("cache", cached)
        found |= await self._results({self._pending[priority, key] for key in missing})
        vectors = np.empty((len(texts), self.dim), np.float32)
        for row, key in enumerate(keys):
            vectors[row] = found[key]
        return Embeddings(vectors, [False] * len(texts))

    async def _ask_store(self, texts: Mapping[bytes, str], stored: StoredVectors | None) -> _Vectors:
        """The vectors that are stored, which are cached now."""
        if stored is None or not texts:
            return {}
        answers = await stored(list(texts.values()))
        if self._closed:
            raise Unavailable("the embedder is closed")
        found = {key: one[0] for key, one in zip(texts, answers, strict=True) if one is not None}
        for key, vector in found.items():
            self._cache.put(key, CachedVector(vector, truncated=False))
        if found:
            self._on_texts("store", len(found))
        return found

    async def close(self) -> None:
        """Cancel the pending requests; their callers get Unavailable. Idempotent."""
        self._closed = True
        requests = set(self._pending.values())
        for request in requests:
            self._cancel(request)
        await supervision.stop_tasks([request.task for request in requests])
        await self._endpoint.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- single flight: at most one pending request for a text, of each priority -----------------------------

    def _admit(self, count: int, priority: Priority) -> None:
        pending = sum(each == priority for each, _ in self._pending)
        if count and pending and pending + count > self._queue_texts:
            raise Overloaded(f"the queue of the embedder is full: {pending} texts are pending")

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

    def _start(self, batch: Mapping[bytes, str], priority: Priority) -> None:
        task = supervision.start_shared(self._run(batch, priority), "embedder")
        request = _PendingRequest(list(batch), priority, task)
        self._pending |= {(priority, key): request for key in batch}

        task.add_done_callback(lambda _: self._remove(request))

    async def _results(self, requests: Iterable[_PendingRequest]) -> _Vectors:
        """The vectors of these requests, once all have ended. Requests without another caller are cancelled then."""
        found: _Vectors = {}
        requests = list(requests)
        for request in requests:
            request.callers += 1
        try:
            if requests:
                await asyncio.wait([request.task for request in requests])
        finally:
            for request in requests:
                request.callers -= 1
                if not request.callers:
                    self._cancel(request)
        for request in requests:
            if request.task.cancelled():
                raise Unavailable("the embedder is closed")
            found |= request.task.result()
        return found

    def _cancel(self, request: _PendingRequest) -> None:
        request.task.cancel()
        self._remove(request)

    def _remove(self, request: _PendingRequest) -> None:
        for key in request.keys:
            if self._pending.get((request.priority, key)) is request:
                del self._pending[request.priority, key]

    async def _run(self, batch: Mapping[bytes, str], priority: Priority) -> _Vectors:
        async with self._slots[priority]:
            return await self._fetch(list(batch.items()), priority, self._retry_timeout_s[priority])

    async def _fetch(
        self, batch: Sequence[tuple[bytes, str]], priority: Priority, retry_timeout_s: float
    ) -> _Vectors:
        """Request the vectors of a batch. When the server refuses it, request each half separately.

        One text may be the reason, or the size of the batch; also where the server fails over this batch alone, which
        would be sent again for ever by the ingest. The vectors of one half are cached even if the other half fails.
        """
        try:
            vectors = await self._vectors([text for _, text in batch], retry_timeout_s)
        except (InvalidRequest, NoVectors) as error:
            if isinstance(error, NoVectors):
                if priority == Priority.QUERY:
                    raise
                await self._vectors([_BLANK], _PROBE_RETRY_TIMEOUT_S)  # Unavailable if it fails over any text
            if len(batch) == 1:
                raise InvalidRequest(str(error)) from error
            middle = len(batch) // 2
            halves = await asyncio.gather(  # noqa: TID251 (both halves end)
                *(
                    self._fetch(half, priority, min(retry_timeout_s, HALF_RETRY_TIMEOUT_S))
                    for half in (batch[:middle], batch[middle:])
                ),
                return_exceptions=True,
            )
            found: _Vectors = {}
            for half in halves:
                if isinstance(half, BaseException):
                    raise half from None
                found |= half
            return found
        self._on_texts("model", len(batch))
        self.ingested += len(batch) if priority == Priority.INGEST else 0
        found = {key: vector.copy() for (key, _), vector in zip(batch, vectors, strict=True)}
        for key, vector in found.items():
            self._cache.put(key, CachedVector(vector, truncated=False))
        return found

    async def _vectors(self, texts: Sequence[str], retry_timeout_s: float) -> NDArray[np.float32]:
        sent = [text if text.strip() else _BLANK for text in texts]
        try:
            vectors = await self._endpoint.vectors(sent, retry_timeout_s=retry_timeout_s)
        except Misconfigured as error:  # the settings were right at the start, so the server has changed
            raise Unavailable(str(error)) from error
        if vectors.shape[1] != self.dim:
            raise Unavailable(f"{self.model_id} sent vectors of {vectors.shape[1]} components")
        return vectors
