"""The client of programs with an event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2
import stamina

from lorestream.client import calls
from lorestream.client.calls import Call
from lorestream.client.endpoint import Endpoint, as_method

P = ParamSpec("P")
T = TypeVar("T")


def _sent(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncMemoryClient, P], Coroutine[Any, Any, T]]:
    async def method(client: AsyncMemoryClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client.send(build(*args, **kwargs))

    return as_method(method, build)


class AsyncMemoryClient(Endpoint[httpx2.AsyncClient]):
    """A Lorestream for the tasks of one event loop. Its methods stand in `lorestream.client.calls`."""

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Make a call that a function of `lorestream.client.calls` has built."""
        return self._read(call, await self._body(call))

    async def _body(self, call: Call[Any]) -> bytes:
        patience = self._patience(call)
        async for attempt in stamina.retry_context(patience.pause, attempts=None, timeout=None):
            with attempt:
                with self._translated(self._base(call)):
                    answer = await self._http.send(self._request(call, patience.timeout_s()))
                return self._success(call, answer)
        raise AssertionError  # the last attempt raises

    def _open(
        self, headers: Mapping[str, str], limits: httpx2.Limits, *, trust_env: bool
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(headers=headers, limits=limits, trust_env=trust_env)
