"""The client of programs with threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2
import msgspec
import stamina

from lorestream.client import calls
from lorestream.client.calls import Call
from lorestream.client.endpoint import Endpoint, as_method
from lorestream.client.models import api_error

SILENCE_S = 60.0
"""A stream that says nothing for so long is dead: a Lorestream sends an empty line every 10 s."""

P = ParamSpec("P")
T = TypeVar("T")


def _sent(build: Callable[P, Call[T]]) -> Callable[Concatenate[MemoryClient, P], T]:
    def method(client: MemoryClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.send(build(*args, **kwargs))

    return as_method(method, build)


class MemoryClient(Endpoint[httpx2.Client]):
    """A Lorestream for programs with threads, which may share one client. Its methods stand in `lorestream.client.calls`."""

    add = _sent(calls.add)
    add_batch = _sent(calls.add_batch)
    delete = _sent(calls.delete)
    forget = _sent(calls.forget)
    forget_player = _sent(calls.forget_player)
    erasure_done = _sent(calls.erasure_done)
    search = _sent(calls.search)
    context = _sent(calls.context)
    get = _sent(calls.get)
    recent = _sent(calls.recent)
    agents = _sent(calls.agents)
    check = _sent(calls.check)
    ready = _sent(calls.ready)
    version = _sent(calls.version)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Make a call that a function of `lorestream.client.calls` has built."""
        return self._read(call, self._body(call))

    def _body(self, call: Call[Any]) -> bytes:
        patience = self._patience(call)
        for attempt in stamina.retry_context(patience.pause, attempts=None, timeout=None):
            with attempt:
                with self._translated(self._base(call)):
                    answer = self._http.send(self._request(call, patience.timeout_s()))
                return self._success(call, answer)
        raise AssertionError  # the last attempt raises

    def tail(self) -> Iterator[dict[str, Any]]:
        """The memories as they become findable, without end, from now on."""
        request = self._http.build_request(
            "GET", f"{self.url}/v1/admin/tail", params={"since": "now"}, timeout=SILENCE_S
        )
        for line in self._lines(request):
            yield msgspec.json.decode(line, type=dict[str, Any])

    def reports(self, path: str, arguments: Mapping[str, Any]) -> Generator[str]:
        """The reports of a task of care (see `lorestream.admin`), one JSON text each."""
        request = self._http.build_request("POST", self.url + path, json=arguments, timeout=SILENCE_S)
        yield from self._lines(request)

    def _lines(self, request: httpx2.Request) -> Generator[str]:
        with self._translated(self.url):
            answer = self._http.send(request, stream=True)
            try:
                if not answer.is_success:
                    raise api_error(answer.status_code, answer.read(), self.url)
                for line in answer.iter_lines():
                    if line.strip():
                        yield line
            finally:
                answer.close()

    def _open(self, headers: Mapping[str, str], limits: httpx2.Limits, *, trust_env: bool) -> httpx2.Client:
        return httpx2.Client(headers=headers, limits=limits, trust_env=trust_env)
