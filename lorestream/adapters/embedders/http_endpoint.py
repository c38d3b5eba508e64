"""One model behind `POST …/v1/embeddings`, as OpenAI, Ollama, vLLM, LocalAI and Text Embeddings Inference serve it.

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
_LATER = {408, 425, 429}
_SETTING_TO_BLAME = {401: "__API_KEY", 403: "__API_KEY", 404: "__URL and __MODEL", 405: "__URL"}
_SERVER_ERROR = 500


class _Embedding(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Embedding]


class _Busy(Unavailable):
    """It may work later; `after_s`: as the server says, None where it says nothing."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message, retry_after_ms=1000 if after_s is None else round(after_s * 1000))
        self.after_s = after_s


class EmbeddingsEndpoint:
    """Texts to rows of length 1. Safe for many calls at a time on one event loop."""

    def __init__(
        self, url: str, model: str, *, api_key: str | None, connections: int, timeout_s: float
    ) -> None:
        try:
            self._url = _endpoint(httpx2.URL(url))
        except httpx2.InvalidURL as error:
            raise Misconfigured(f"{SETTING} is no address: {url}") from error
        if self._url.scheme not in {"http", "https"} or not self._url.host:
            raise Misconfigured(f"{SETTING} is no address: {url}")
        self.model = model
        self.host = self._url.host
        self._timeout_s = timeout_s
        headers = {"User-Agent": f"lorestream/{__version__}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._http = httpx2.AsyncClient(
            headers=headers,
            timeout=None,  # ours, over all of a request
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=not _is_loopback(self.host),  # a proxy is for what lies beyond this machine
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def vectors(self, texts: Sequence[str], *, patience_s: float) -> NDArray[np.float32]:
        """Shape (len(texts), dim), tried again for `patience_s` after the first failure.

        Raises Unavailable, Misconfigured when the address, the model or the key is refused, and InvalidRequest
        when one of the texts is.
        """

        def pause(error: Exception) -> bool | float:
            if not isinstance(error, _Busy):
                return False
            if error.after_s is None:
                return True
            return max(0.01, error.after_s) if error.after_s <= patience_s else False

        async for attempt in stamina.retry_context(
            pause, attempts=None, timeout=patience_s, wait_max=2.0, wait_jitter=0.1
        ):
            with attempt:
                return self._read(await self._post(texts), len(texts))
        raise AssertionError  # the last attempt raises

    async def _post(self, texts: Sequence[str]) -> bytes:
        body = {"model": self.model, "input": texts, "encoding_format": "float"}
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._http.post(
                    self._url, content=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
                )
        except TimeoutError as error:
            raise _Busy(f"{self.host} did not answer within {self._timeout_s:g} s") from error
        except httpx2.TransportError as error:
            raise _Busy(f"{self.host} does not answer ({str(error) or type(error).__name__})") from error
        if answer.is_success:
            return answer.content
        said = f"{self.host} answered {answer.status_code} to {self.model}: {_brief(answer.text)}"
        if answer.status_code in _LATER or answer.status_code >= _SERVER_ERROR:
            raise _Busy(said, _retry_after(answer.headers.get("Retry-After")))
        if answer.is_redirect or answer.status_code in _SETTING_TO_BLAME:
            setting = _SETTING_TO_BLAME.get(answer.status_code, "__URL")
            raise Misconfigured(f"check LORESTREAM_EMBEDDER{setting}: {said}")
        raise InvalidRequest(said)

    def _read(self, body: bytes, count: int) -> NDArray[np.float32]:
        """The rows by their `index`; servers may send them in any order."""
        try:
            rows = sorted(msgspec.json.decode(body, type=_Answer).data, key=lambda row: row.index)
            if [row.index for row in rows] != list(range(count)):
                raise _Busy(f"{self.host} sent {len(rows)} vectors for {count} texts")
            with np.errstate(over="ignore"):  # an overflow is no direction, see below
                vectors = np.array([row.embedding for row in rows], np.float32)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise _Busy(f"{self.host} sent no vectors ({error})") from error
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        if vectors.ndim != 2 or not np.isfinite(lengths).all() or not (lengths > 0).all():  # noqa: PLR2004
            raise _Busy(f"{self.host} sent vectors without a direction")
        return vectors / lengths


def _endpoint(url: httpx2.URL) -> httpx2.URL:
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
    """Seconds, from a number or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        if value.isdecimal():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _brief(text: str) -> str:
    return " ".join(text.split())[:300]
