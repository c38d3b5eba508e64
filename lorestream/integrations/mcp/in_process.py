"""MCP for a service that answers its tools' calls itself: a client of its own routes, without a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TypeAlias

import httpx2
from starlette.types import ASGIApp, Receive, Scope

from lorestream.client import AsyncMemoryClient
from lorestream.integrations.mcp.one_post import Answer, answer_post
from lorestream.integrations.mcp.server import server_over

IN_PROCESS = "http://localhost:1"
"""The address of the service for its own client. No connection is made to it."""
RETRY_TIMEOUT_S = 2.0
"""How long a tool retries a route that is overloaded or unavailable, before its caller is told."""

Respond: TypeAlias = Callable[[Scope, bytes, Receive, Mapping[str, str]], Awaitable[Answer]]

_forwarded: ContextVar[Mapping[str, str]] = ContextVar("mcp_forwarded_headers")
"""Headers for the calls that the request which is being answered causes."""


def responder(app: ASGIApp, gateway_url: str | None) -> Respond:
    """The function that answers a request, from its scope, its body, what tells that its client left, and `forwarded`.

    Tools call the routes of `app`, with the headers `forwarded`; those that write go to `gateway_url`, if there is one.
    """
    server = server_over(_OwnClient(app, gateway_url))

    async def respond(scope: Scope, body: bytes, receive: Receive, forwarded: Mapping[str, str]) -> Answer:
        before = _forwarded.set(forwarded)
        try:
            return await answer_post(server, scope, body, receive)
        finally:
            _forwarded.reset(before)

    return respond


class _OwnClient(AsyncMemoryClient):
    """A client of the service in this process. It lives as long as the process."""

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
