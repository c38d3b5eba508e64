"""`POST /mcp`: the Model Context Protocol, over the service's own routes.

A tool calls the routes of this service in the process, with the Authorization header of the request: keys, scopes, rate
limits and errors are those of the routes. In the distributed shape, calls that write go to the gateway over the
network. The packages of the extra `mcp` and the client are imported by the first request, in a thread: that takes a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from lorestream.access.key_file import KeyScope
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest, ApiResponse, HttpError

if TYPE_CHECKING:
    from lorestream.integrations.mcp.in_process import Respond

_FORWARDED = (b"authorization", b"traceparent")
"""Headers of a request that the calls which it causes have, too."""
_JSON = (b"content-type", b"application/json")
"""A refusal that has it is an error of JSON-RPC. The SDK refuses without a body for JSON where it reads headers only."""


class McpRoute:
    """The route. `gateway_url`: where writes go, if not to this service. `calls` must be called before a request comes."""

    def __init__(self, gateway_url: str | None = None) -> None:
        self._gateway_url = gateway_url
        self._app: ASGIApp | None = None
        self._starting = asyncio.Lock()
        self._responding: Respond | None = None

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
        if (respond := self._responding) is None:
            async with self._starting:
                respond = self._responding = self._responding or await self._start()
        body = await request.body()
        sent = {
            name.decode(): request.headers[name].decode("latin-1")
            for name in _FORWARDED
            if name in request.headers
        }
        forwarded = {**sent, "x-request-id": request.request_id}
        scope = {
            **request.scope,
            "method": "POST",
        }  # a PUT is a POST on every route; the SDK knows only this one
        status, answer, headers = await respond(scope, body, request.receive, forwarded)
        if status >= HTTPStatus.BAD_REQUEST and _JSON not in headers:
            raise HttpError(
                status,
                "mcp_refused",
                "MCP needs the headers `Content-Type: application/json` and `Accept: application/json, text/event-stream`",
            )
        return ApiResponse(status, answer, headers)

    async def _start(self) -> Respond:
        """Import the SDK, and open the client. Raises HttpError (404) where the SDK is not installed."""
        assert self._app is not None
        try:
            responder = await asyncio.to_thread(_import_responder)
        except ModuleNotFoundError as error:
            raise HttpError(
                404,
                "mcp_not_installed",
                f"this server has no MCP, because the package {error.name} is not installed on it: type"
                " `make mcp` or `pip install '.[mcp]'` in its checkout of Lorestream and start it again",
            ) from error
        return responder(self._app, self._gateway_url)


def _import_responder() -> Callable[[ASGIApp, str | None], Respond]:
    from lorestream.integrations.mcp.in_process import responder  # noqa: PLC0415 (see the module)

    return responder
