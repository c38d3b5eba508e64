"""A client of one model at `POST …/v1/embeddings`: OpenAI, Ollama, vLLM, LocalAI, Text Embeddings Inference.

https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx2
import msgspec
import numpy as np
import stamina

from lorestream import __version__
from lorestream.errors import InvalidRequest, Misconfigured, Unavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

SETTING = "LORESTREAM_EMBEDDER__URL"
_RETRYABLE_STATUS = {408, 425, 429}
_SETTING_BY_STATUS = {401: "__API_KEY", 403: "__API_KEY", 404: "__URL and __MODEL", 405: "__URL"}
_SERVER_ERROR = 500
_MAX_RETRY_AFTER_S = 3600.0
"""A longer pause is not asked for, whatever the server says: a number of hundreds of digits is infinite."""


class _Embedding(msgspec.Struct):
    """One vector of a response, as OpenAI specifies it."""

    index: int
    embedding: list[float]


class _Response(msgspec.Struct):
    """The body of a response, as OpenAI specifies it."""

    data: list[_Embedding]


class _Retryable(Unavailable):
    """A failure that may be over later. `after_s`: the server's Retry-After in seconds, None without one."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message, retry_after_ms=1000 if after_s is None else round(after_s * 1000))
        self.after_s = after_s


class NoVectors(_Retryable):
    """The server is there, and has failed over these texts: one of them may be the reason."""


class EmbeddingsEndpoint:
    """Requests vectors of texts and retries. Safe for concurrent calls on one event loop."""

    def __init__(
        self, url: str, model: str, *, api_key: str | None, connections: int, timeout_s: float
    ) -> None:
        """`url`: as in `HttpEmbedder.open`. `connections`: how many at most. `timeout_s`: of one request.

        Raises Misconfigured when `url` is no HTTP address.
        """
        try:
            self._url = _endpoint(httpx2.URL(url))
        except httpx2.InvalidURL as error:
            raise Misconfigured(f"{SETTING} is no HTTP address: one looks like http://HOST:8080") from error
        if self._url.scheme not in {"http", "https"} or not self._url.host:
            raise Misconfigured(f"{SETTING} is no HTTP address: one looks like http://HOST:8080")
        self.model = model
        self.host = self._url.host
        self.failure: str | None = None
        """Why the last request failed; None after one that succeeded."""
        self._timeout_s = timeout_s
        headers = {"User-Agent": f"lorestream/{__version__}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._http = httpx2.AsyncClient(
            headers=headers,
            timeout=None,  # `_post` limits the whole request
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=not _is_loopback(self.host),  # no proxy for this machine itself
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def vectors(self, texts: Sequence[str], *, retry_timeout_s: float) -> NDArray[np.float32]:
        """Request the vectors of the texts: shape (len(texts), dim), float32, rows of length 1.

        Retries for `retry_timeout_s` seconds after the first failure. Raises Unavailable when they fail (NoVectors if
        the texts may be the reason), Misconfigured when the server refuses the address, the model or the key, and
        InvalidRequest when it refuses one of the texts.
        """

        def retry_delay(error: Exception) -> bool | float:
            if not isinstance(error, _Retryable):
                return False
            if error.after_s is None:
                return True
            return max(0.01, error.after_s) if error.after_s <= retry_timeout_s else False

        async for attempt in stamina.retry_context(
            retry_delay, attempts=None, timeout=retry_timeout_s, wait_max=2.0, wait_jitter=0.1
        ):
            with attempt:
                try:
                    vectors = self._read(await self._post(texts), len(texts))
                except (Unavailable, Misconfigured) as error:
                    self.failure = str(error)
                    raise
                self.failure = None
                return vectors
        raise AssertionError  # not reached: the last attempt raises

    async def _post(self, texts: Sequence[str]) -> bytes:
        body = {"model": self.model, "input": texts, "encoding_format": "float"}
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.post(
                    self._url, content=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
                )
        except TimeoutError as error:
            raise _Retryable(f"{self.host} did not answer within {self._timeout_s:g} s") from error
        except httpx2.TransportError as error:
            raise _Retryable(f"{self.host} does not answer ({str(error) or type(error).__name__})") from error
        if response.is_success:
            return response.content
        reason = f"{self.host} answered {response.status_code} for {self.model}: {_brief(response.text)}"
        if response.status_code == _SERVER_ERROR:
            raise NoVectors(reason, _retry_after(response.headers.get("Retry-After")))
        if response.status_code in _RETRYABLE_STATUS or response.status_code >= _SERVER_ERROR:
            raise _Retryable(reason, _retry_after(response.headers.get("Retry-After")))
        if response.is_redirect or response.status_code in _SETTING_BY_STATUS:
            setting = _SETTING_BY_STATUS.get(response.status_code, "__URL")
            raise Misconfigured(f"check LORESTREAM_EMBEDDER{setting}: {reason}")
        raise InvalidRequest(reason)

    def _read(self, body: bytes, count: int) -> NDArray[np.float32]:
        """Decode a response body. Servers may send the vectors in any order; `index` gives it."""
        try:
            rows = sorted(msgspec.json.decode(body, type=_Response).data, key=lambda row: row.index)
            if [row.index for row in rows] != list(range(count)):
                raise NoVectors(f"{self.host} sent {len(rows)} vectors for {count} texts")
            with np.errstate(over="ignore"):  # an overflow to infinity is refused below
                vectors = np.array([row.embedding for row in rows], np.float32)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise NoVectors(f"{self.host} sent a response without vectors ({error})") from error
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        if vectors.ndim != 2 or not np.isfinite(lengths).all() or not (lengths > 0).all():  # noqa: PLR2004
            raise NoVectors(f"{self.host} sent vectors of length 0 or with values that are not finite")
        return vectors / lengths


def _endpoint(url: httpx2.URL) -> httpx2.URL:
    """The URL with the path …/v1/embeddings, unless it ends with /embeddings."""
    path = url.path.rstrip("/")
    if not path.endswith("/embeddings"):
        path += "/embeddings" if path.endswith("/v1") else "/v1/embeddings"
    return url.copy_with(path=path)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _retry_after(value: str | None) -> float | None:
    """The seconds to wait, from a Retry-After header with a number or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        after_s = (
            float(value) if value.isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
        )
        return min(max(0.0, after_s), _MAX_RETRY_AFTER_S)
    except ValueError:
        return None


def _brief(text: str) -> str:
    """The first 300 characters, on one line."""
    return " ".join(text.split())[:300]
