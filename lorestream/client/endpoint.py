"""Where a Lorestream is, and everything about a call to it but the sending."""

from __future__ import annotations

import inspect
import ipaddress
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import httpx2
import msgspec

from lorestream import __version__
from lorestream.client.calls import Call
from lorestream.client.models import ApiError, Unreachable, api_error
from lorestream.errors import LorestreamError, Misconfigured

DEFAULT_URL = "http://127.0.0.1:8080"

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

T = TypeVar("T")
Http = TypeVar("Http", httpx2.Client, httpx2.AsyncClient)
Method = TypeVar("Method", bound=Callable[..., object])


class Endpoint(ABC, Generic[Http]):
    """Writes go to `url`, reads to `query_url` (the same where it is None).

    An attempt may take `timeout_s`, more where the server was asked to wait. 429, 503, broken connections and
    silence are tried again for `patience_s`, never sooner than the server asks; 0 = never. At most
    `connections` are open at a time. Raises Misconfigured.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        query_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        patience_s: float = 30.0,
        connections: int = 32,
    ) -> None:
        self.url = url.rstrip("/")
        self.query_url = (query_url or url).rstrip("/")
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        headers = {"User-Agent": f"lorestream/{__version__}"}
        if api_key:
            if not (api_key.isascii() and api_key.isprintable()):
                raise Misconfigured("what was given as API key is none: one looks like ID.SECRET")
            headers["Authorization"] = f"Bearer {api_key}"
        # A proxy from the environment is for what lies beyond this machine.
        here = _is_loopback(self.url) and _is_loopback(self.query_url)
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = self._open(headers, limits, trust_env=not here)

    @abstractmethod
    def _open(self, headers: Mapping[str, str], limits: httpx2.Limits, *, trust_env: bool) -> Http:
        """The connections."""

    def _base(self, call: Call[Any]) -> str:
        return self.url if call.to_writer else self.query_url

    def _patience(self, call: Call[Any]) -> RetryBudget:
        return RetryBudget(self._patience_s if call.patient else 0.0, self._timeout_s + call.wait_s)

    def _request(self, call: Call[Any], timeout_s: float) -> httpx2.Request:
        headers = {} if call.content is None else {"Content-Type": "application/json"}
        return self._http.build_request(
            call.method,
            self._base(call) + call.path,
            content=call.content,
            params=call.params or None,
            headers=headers,
            timeout=timeout_s,
        )

    def _success(self, call: Call[Any], answer: httpx2.Response) -> bytes:
        if not answer.is_success and answer.status_code != call.also:
            raise api_error(answer.status_code, answer.content, self._base(call))
        return answer.content

    def _read(self, call: Call[T], body: bytes) -> T:
        try:
            return call.read(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"what answers at {self._base(call)} is not a lorestream ({error})") from error

    @contextmanager
    def _translated(self, base: str) -> Generator[None]:
        """Errors of the connection as errors of Lorestream."""
        try:
            yield
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise Misconfigured(f"{base!r} is not an address: one looks like {DEFAULT_URL}") from error
        except httpx2.ConnectError as error:
            raise Unreachable(f"no lorestream at {base}: start one with `lorestream up`") from error
        except httpx2.TransportError as error:
            raise Unreachable(
                f"the lorestream at {base} did not answer ({str(error) or type(error).__name__})"
            ) from error


class RetryBudget:
    """How long one call may go on: no attempt begins, and none but the first lasts, beyond its end."""

    def __init__(self, patience_s: float, attempt_s: float) -> None:
        now = time.monotonic()
        self._attempt_s = attempt_s
        self._last_begin = now + patience_s
        self._end = now + max(patience_s, attempt_s)
        self._pause_s = FIRST_PAUSE_S

    def timeout_s(self) -> float:
        """How long the attempt that begins now may wait for the server."""
        return max(0.001, min(self._attempt_s, self._end - time.monotonic()))

    def pause(self, error: Exception) -> bool | float:
        """The pause before the next attempt: what the server asks, else a growing one. False: give up. For stamina."""
        if not (isinstance(error, LorestreamError) and error.retryable):
            return False
        asked_ms = error.retry_after_ms if isinstance(error, ApiError) else None
        pause_s = self._pause_s * random.uniform(0.5, 1.0) if asked_ms is None else max(0.01, asked_ms / 1000)  # noqa: S311
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return pause_s if time.monotonic() + pause_s < self._last_begin else False


def as_method(sends: Method, build: Callable[..., Call[Any]]) -> Method:
    """`sends`, which shows the parameters and the documentation of the function that builds its call."""
    built = inspect.signature(build)
    answer = str(built.return_annotation).removeprefix("Call[").removesuffix("]")
    client = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    sends.__name__ = sends.__qualname__ = build.__name__
    sends.__doc__ = build.__doc__
    sends.__signature__ = built.replace(  # pyright: ignore[reportFunctionMemberAccess]
        parameters=[client, *built.parameters.values()], return_annotation=answer
    )
    return sends


def _is_loopback(url: str) -> bool:
    try:
        host = httpx2.URL(url).host
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except (httpx2.InvalidURL, ValueError):
        return False
