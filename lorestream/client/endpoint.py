"""What both clients share: URLs, requests, retries, error translation. The clients themselves only send."""

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
from lorestream.client import environment, streams
from lorestream.client.call import Call, Reply
from lorestream.client.environment import DEFAULT_URL
from lorestream.client.exceptions import ApiError, NotLorestream, Unreachable, api_error
from lorestream.errors import LorestreamError, Misconfigured

INITIAL_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0

T = TypeVar("T")
Http = TypeVar("Http", httpx2.Client, httpx2.AsyncClient)
Method = TypeVar("Method", bound=Callable[..., object])


class Endpoint(ABC, Generic[Http]):
    """The base of both clients. Writes go to `url`, reads to `query_url` (the same where it is None).

    Without `url`, what is not given comes from LORESTREAM_URL, LORESTREAM_QUERY_URL and LORESTREAM_API_KEY (or the file in
    LORESTREAM_API_KEY_FILE). With `url`, nothing does: a key goes only to the address that it is meant for.

    An attempt takes at most `timeout_s`, plus the `wait_s` of the call. 429, 503, a proxy's 5xx, broken
    connections and timeouts are retried for `retry_timeout_s` (0 = never), with exponential backoff, and never
    before the `retry_after_ms` of the response. At most `connections` are open at a time. Raises Misconfigured for an
    `api_key` with characters that no key has.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        query_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        retry_timeout_s: float = 30.0,
        connections: int = 32,
    ) -> None:
        if url is None:
            found = environment.address()
            url, query_url = found["url"], query_url or found["query_url"]
            api_key = api_key or found["api_key"]
        self.url = url.rstrip("/")
        self.query_url = (query_url or url).rstrip("/")
        self._timeout_s = timeout_s
        self._retry_timeout_s = retry_timeout_s
        headers = {"User-Agent": f"lorestream/{__version__}"}
        if api_key:
            if not (api_key.isascii() and api_key.isprintable()):
                raise Misconfigured("the API key has characters that no key has: a key looks like ID.SECRET")
            headers["Authorization"] = f"Bearer {api_key}"
        # The environment's proxy settings are ignored for addresses of this machine.
        local = _is_loopback(self.url) and _is_loopback(self.query_url)
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = self._open(headers, limits, trust_env=not local)

    @abstractmethod
    def _open(self, headers: Mapping[str, str], limits: httpx2.Limits, *, trust_env: bool) -> Http:
        """Create the HTTP client."""

    def _base_url(self, call: Call[Any]) -> str:
        return self.url if call.to_writer else self.query_url

    def _retry_budget(self, call: Call[Any]) -> RetryBudget:
        return RetryBudget(self._retry_timeout_s if call.retries else 0.0, self._timeout_s + call.wait_s)

    def _request(self, call: Call[Any], timeout_s: float | None) -> httpx2.Request:
        """The request of an attempt. httpx2's timeout is one for each step: connect, write, and each read."""
        headers = {} if call.content is None else {"Content-Type": call.content_type}
        return self._http.build_request(
            call.method,
            self._base_url(call) + call.path,
            content=call.content,
            params=call.params or None,
            headers=headers,
            timeout=timeout_s,
        )

    def _stream_request(
        self, params: Mapping[str, str], last_event_id: str | None, timeout_s: float
    ) -> httpx2.Request:
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        return self._http.build_request(
            "GET",
            self.query_url + streams.PATH,
            params=params,
            headers=headers,
            timeout=httpx2.Timeout(timeout_s, read=streams.READ_TIMEOUT_S),
        )

    def _success(self, call: Call[Any], response: httpx2.Response, content: bytes) -> Reply:
        """A successful response with its content. Raises the exception for any other response."""
        if not response.is_success and response.status_code != call.other_success:
            raise api_error(response.status_code, content, self._base_url(call))
        return Reply(content, response.headers)

    def _read(self, call: Call[T], reply: Reply) -> T:
        try:
            return call.read(reply)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"what answers at {self._base_url(call)} is not a lorestream ({error})"
            raise NotLorestream(message) from error

    @contextmanager
    def _connection_errors(self, base_url: str) -> Generator[None]:
        """Translate the errors of requests. Raises Misconfigured and Unreachable."""
        try:
            yield
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise Misconfigured(f"{base_url!r} is not a URL: one looks like {DEFAULT_URL}") from error
        except httpx2.ConnectError as error:
            raise Unreachable(f"no lorestream at {base_url}: start one with `lorestream up`") from error
        except (httpx2.TransportError, TimeoutError) as error:
            raise Unreachable(
                f"the lorestream at {base_url} did not answer ({str(error) or type(error).__name__})"
            ) from error


class RetryBudget:
    """The time limits of one call: for starting attempts, and for the call as a whole. The time runs from its creation.

    No attempt starts after `retry_timeout_s`. Every attempt gets at most `attempt_timeout_s`, and ends when the
    budget ends; only the first attempt may last longer than `retry_timeout_s`.
    """

    def __init__(self, retry_timeout_s: float, attempt_timeout_s: float) -> None:
        now = time.monotonic()
        self._attempt_timeout_s = attempt_timeout_s
        self._last_start = now + retry_timeout_s
        self._end = now + max(retry_timeout_s, attempt_timeout_s)
        self._backoff_s = INITIAL_BACKOFF_S

    def timeout_s(self) -> float:
        """The timeout of an attempt that starts now."""
        return max(0.001, min(self._attempt_timeout_s, self._end - time.monotonic()))

    def backoff(self, error: Exception) -> bool | float:
        """Seconds until the next attempt, or False to give up (the form that stamina expects).

        The server's retry_after_ms where it sent one, else exponential backoff with jitter.
        """
        if not (isinstance(error, LorestreamError) and error.retryable):
            return False
        requested_ms = error.retry_after_ms if isinstance(error, ApiError) else None
        jittered_s = self._backoff_s * random.uniform(0.5, 1.0)  # noqa: S311
        backoff_s = jittered_s if requested_ms is None else max(0.01, requested_ms / 1000)
        self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)
        return backoff_s if time.monotonic() + backoff_s < self._last_start else False


def as_method(send: Method, build: Callable[..., Call[Any]]) -> Method:
    """Give `send` the name, signature and docstring of `build`, the function that builds its call."""
    built = inspect.signature(build)
    returned = str(built.return_annotation).removeprefix("Call[").removesuffix("]")
    client = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    send.__name__ = send.__qualname__ = build.__name__
    send.__doc__ = build.__doc__
    send.__signature__ = built.replace(  # pyright: ignore[reportFunctionMemberAccess]
        parameters=[client, *built.parameters.values()], return_annotation=returned
    )
    return send


def _is_loopback(url: str) -> bool:
    try:
        host = httpx2.URL(url).host
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except (httpx2.InvalidURL, ValueError):
        return False
