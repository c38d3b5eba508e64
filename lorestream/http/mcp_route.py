"""`POST /mcp`: the Model Context Protocol, over the service's own routes.

A tool calls the routes of this service in the process, with the Authorization header of the request: keys, scopes, rate
limits and errors are those of the routes. In the distributed shape, calls that write go to the gateway over the
network. The packages of the extra `mcp` are imported by the first request, in a thread: the import takes a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

import httpx2
from starlette.types import ASGIApp

from lorestream.access.key_file import KeyScope
from lorestream.client import AsyncMemoryClient
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest, ApiResponse, HttpError

IN_PROCESS = "http://localhost:1"
"""The address of this service for its own client. No connection is made to it."""
RETRY_TIMEOUT_S = 2.0
"""How long a tool retries a route that is overloaded or unavailable, before its caller is told."""

_Answer: TypeAlias = Callable[[ApiRequest], Awaitable[ApiResponse]]
_FORWARDED = (b"authorization", b"traceparent")

_forwarded: ContextVar[Mapping[str, str]] = ContextVar("mcp_forwarded_headers")
"""Headers of the request that is being answered, for the calls that it causes."""


class McpRoute:
    """The route. `gateway_url`: where writes go, if not to this service. `calls` must be called before a request comes."""

    def __init__(self, gateway_url: str | None = None) -> None:
        self._gateway_url = gateway_url
        self._app: ASGIApp | None = None
        self._starting = asyncio.Lock()
        self._answer: _Answer | None = None

    def calls(self, app: ASGIApp) -> ASGIApp:
        """Set the application whose routes the tools call; return it."""
        self._app = app
        return app

    def operation(self) -> Operation:
        """The route, for `lorestream.http.application.application`. What a tool needs, its own routes check."""
        return Operation(
            "POST",
            "/mcp",
            self._respond,
            "Model Context Protocol (streamable HTTP)",
            KeyScope.QUERY,
            dict[str, Any],
            hidden=True,
            or_scopes=(KeyScope.INGEST, KeyScope.ERASE),
        )

    async def _respond(self, request: ApiRequest) -> ApiResponse:
        if (answer := self._answer) is None:
            async with self._starting:
                answer = self._answer = self._answer or await self._start()
        sent = {
            name.decode(): request.headers[name].decode("latin-1")
            for name in _FORWARDED
            if name in request.headers
        }
        forwarded = _forwarded.set({**sent, "x-request-id": request.request_id})
        try:
            return await answer(request)
        finally:
            _forwarded.reset(forwarded)

    async def _start(self) -> _Answer:
        """Import the SDK, and open the client. Raises HttpError (501) where the SDK is not installed."""
        try:
            one_post, server = await asyncio.to_thread(_import_sdk)
        except ModuleNotFoundError as error:
            raise HttpError(
                501,
                "mcp_not_installed",
                f"this server has no MCP, because the package {error.name} is not installed on it: type"
                " `pip install '.[mcp]'` in its checkout of Lorestream and start it again",
            ) from error
        assert self._app is not None
        serving = server.server_over(_OwnClient(self._app, self._gateway_url))

        async def answer(request: ApiRequest) -> ApiResponse:
            body = await request.body()
            return ApiResponse(*await one_post.answer(serving, request.scope, body, request.receive))

        return answer


def _import_sdk() -> tuple[Any, Any]:
    from lorestream.integrations.mcp import one_post, server  # noqa: PLC0415 (see the module)

    return one_post, server


class _OwnClient(AsyncMemoryClient):
    """A client of this service, without a connection. It lives as long as the process."""

    def __init__(self, app: ASGIApp, gateway_url: str | None) -> None:
        self._app = app
        super().__init__(gateway_url or IN_PROCESS, query_url=IN_PROCESS, retry_timeout_s=RETRY_TIMEOUT_S)

    def _open(
        self, headers: Mapping[str, str], limits: httpx2.Limits, *, trust_env: bool
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers=headers,
            limits=limits,
            trust_env=trust_env,
            mounts={IN_PROCESS: httpx2.ASGITransport(self._app)},
            event_hooks={"request": [_forward]},
        )


async def _forward(request: httpx2.Request) -> None:
    request.headers.update(_forwarded.get())
