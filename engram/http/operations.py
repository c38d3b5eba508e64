"""Operations: what a service offers, from which both its routes and its documentation are made."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from engram.errors import EngramError, InvalidRequest, Unavailable
from engram.http.access import ANYONE, Grant
from engram.http.call import Call, Refused, refusal, reply, reply_encoded, request_id
from engram.http.openapi import document, render
from engram.telemetry import CONTENT_TYPE, Metrics

_log = structlog.get_logger("engram.http")

Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. A POST route takes PUT as the same, because old Luanti releases turn one into the other.

    `body`, `params` and `answer` are msgspec types; `needs` is the scope that a key must carry.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    needs: Grant
    answer: Any
    body: Any = None
    params: Any = None
    status: int = 200

    @property
    def methods(self) -> list[str]:
        """The HTTP methods that reach it."""
        return ["POST", "PUT"] if self.method == "POST" else [self.method]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a service needs to do its job. `problem` returns None, or what is missing."""

    name: str
    problem: Callable[[], Awaitable[str | None]]


def application(
    service: str,
    operations: Sequence[Operation],
    *,
    metrics: Metrics,
    checks: Sequence[Check] = (),
    pages: Sequence[Route] = (),
) -> ASGIApp:
    """The ASGI application of a service: its operations, /health, /ready, /metrics, /docs, /openapi.json."""
    description = document(service, operations)

    async def health(_request: Request) -> Response:
        return reply({"status": "ok", "service": service})

    async def ready(_request: Request) -> Response:
        problems = {check.name: problem for check in checks if (problem := await check.problem()) is not None}
        parts = {check.name: problems.get(check.name, "ok") for check in checks}
        status = "unavailable" if problems else "ok"
        return reply({"status": status, "service": service, "checks": parts}, 503 if problems else 200)

    async def exposition(_request: Request) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    async def openapi(_request: Request) -> Response:
        return reply_encoded(description)

    async def docs(_request: Request) -> Response:
        return HTMLResponse(render(description))

    async def fault(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {404: "not_found", 405: "method_not_allowed"}.get(status, "bad_request")
        path = request.scope["path"]
        refused = Refused(status, code, f"{request.method} {path} is not offered here")
        response = refusal(refused, request_id(request))
        if isinstance(error, HTTPException):
            response.headers.update(error.headers or {})  # Allow, with a 405
        return response

    routes = [Route(op.path, _endpoint(op, metrics), methods=op.methods) for op in operations]
    open_routes = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", exposition),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
    ]
    app = Starlette(routes=[*routes, *open_routes, *pages], exception_handlers={HTTPException: fault})
    app.router.redirect_slashes = False
    return _EncodedPaths(app)


def _endpoint(operation: Operation, metrics: Metrics) -> Callable[[Request], Awaitable[Response]]:
    name = f"{operation.method} {operation.path}"

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        call = Call(request, ANYONE, request_id(request))
        try:
            call.require(operation.needs)
            response = await operation.handler(call)
        except (EngramError, Refused) as error:
            response = refusal(error, call.request_id)
            if isinstance(error, Unavailable):
                _log.warning("unavailable", route=name, error=str(error), request_id=call.request_id)
            elif not isinstance(error, InvalidRequest | Refused):
                _log.error("failed", route=name, error=str(error), request_id=call.request_id)
        except Exception:
            _log.exception("failed", route=name, request_id=call.request_id)
            response = refusal(RuntimeError(), call.request_id)
        response.headers["X-Request-Id"] = call.request_id
        metrics.http_requests.labels(name, str(response.status_code)).inc()
        _log.debug("answered", route=name, code=response.status_code, seconds=time.perf_counter() - started)
        return response

    return endpoint


class _EncodedPaths:
    """Routes by the path as it was sent: an id may hold %2F without becoming two parts of a path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw: bytes = scope.get("raw_path") or scope["path"].encode()
            scope = {**scope, "path": raw.partition(b"?")[0].decode("latin-1")}
        await self._app(scope, receive, send)
