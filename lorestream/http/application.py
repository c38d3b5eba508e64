"""The ASGI application of a service: authentication, dispatch of its operations, errors, metrics, and the open pages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, TypeAlias, cast

import structlog
from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from lorestream.access.authentication import (
    NO_AUTHENTICATION,
    Authenticator,
    Forbidden,
    Unauthenticated,
)
from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidRequest, LorestreamError, OperationRefused, RateLimited, Unavailable
from lorestream.http.disconnect import run_while_connected
from lorestream.http.docs_page import DocsPage
from lorestream.http.errors import Health, Readiness, error_response
from lorestream.http.local_only import LocalOnly
from lorestream.http.openapi import openapi_document
from lorestream.http.operation import Operation, Page, Response, methods_of
from lorestream.http.other_service import PeerService
from lorestream.http.readiness import ReadinessCheck, ReadinessChecks
from lorestream.http.request import (
    ApiRequest,
    ApiResponse,
    HttpError,
    authorization_of,
    encoded_json_response,
    headers_of,
    json_response,
    request_id_of,
)
from lorestream.telemetry import CONTENT_TYPE, Metrics
from lorestream.tracing import TRACEPARENT, Tracer

_log = structlog.get_logger("lorestream.http")

_Endpoint: TypeAlias = Callable[[Scope, Receive], Awaitable[Response]]

_HTML = "text/html"
_OPEN_PAGES = (
    Page("/health", "Whether the service is alive", response=Health),
    Page(
        "/ready",
        "Whether the service can do its job",
        response=Readiness,
        statuses={200: "The service can do its job", 503: "It cannot: `checks` says what is missing"},
    ),
    Page("/metrics", "Measurements for Prometheus", "text/plain"),
    Page("/openapi.json", "This document"),
    Page("/docs", "This document as a page", _HTML),
)


def application(
    service: str,
    operations: Sequence[Operation],
    *,
    metrics: Metrics,
    checks: Sequence[ReadinessCheck] = (),
    pages: Sequence[Route] = (),
    authenticator: Authenticator = NO_AUTHENTICATION,
    peer: PeerService | None = None,
    local_only: bool = False,
) -> ASGIApp:
    """The application of a service: its operations, and /health, /ready, /metrics, /docs, /openapi.json.

    Operations need a principal from `authenticator`; all other routes are open, `pages` too. A route of `peer` is
    answered with 404 `wrong_service` and the name of that service. `local_only`: refuse web pages of other origins,
    for services whose callers need no key.
    """

    async def health(_request: Request) -> ApiResponse:
        return json_response(Health("ok", service))

    async def ready(_request: Request) -> ApiResponse:
        results = await readiness.results()
        ready = readiness.is_ready(results)
        body = Readiness("ok" if ready else "unavailable", service, dict(results))
        return json_response(body, 200 if ready else 503)

    async def metrics_page(_request: Request) -> StarletteResponse:
        await (
            readiness.results()
        )  # sets the gauge of the dependencies: alerts must not depend on calls of /ready
        return StarletteResponse(metrics.exposition(), media_type=CONTENT_TYPE)

    async def openapi(_request: Request) -> ApiResponse:
        return encoded_json_response(document)

    async def no_route(request: Request, error: Exception) -> ApiResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {404: "not_found", 405: "method_not_allowed"}.get(status, "bad_request")
        path = request.scope["path"]
        http_error = HttpError(status, code, f"{request.method} {path} is not offered here")
        response = error_response(http_error, request_id_of(headers_of(request.scope)))
        # Starlette names the methods of the first matching route only.
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.set_header("Allow", ", ".join(_allowed([*routes, *open_routes, *pages], path)))
        return response

    readiness = ReadinessChecks(checks, metrics)
    document = openapi_document(
        service,
        operations,
        [
            *_OPEN_PAGES,
            *(Page(page.path, "A page for people", _HTML) for page in pages if _is_one_page(page)),
        ],
        needs_keys=authenticator.needs_keys,
        peer=None if peer is None else f"the {peer.name} service",
    )
    log = _log.bind()
    endpoints = [(op, _endpoint(op, metrics, authenticator, log)) for op in operations]
    routes = [Route(op.path, _starlette_endpoint(endpoint), methods=op.methods) for op, endpoint in endpoints]
    open_routes = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", metrics_page),
        Route("/openapi.json", openapi),
        Route("/docs", DocsPage(document).respond),
    ]
    app = Starlette(
        routes=[*routes, *open_routes, *pages, *([] if peer is None else _peer_routes(peer))],
        exception_handlers={HTTPException: cast("Any", no_route)},
    )
    app.router.redirect_slashes = False
    by_path = {(method, op.path): endpoint for op, endpoint in endpoints for method in op.methods}
    router = _RawPathRouter(app, {key: endpoint for key, endpoint in by_path.items() if "{" not in key[1]})
    return LocalOnly(router) if local_only else router


def _endpoint(
    operation: Operation, metrics: Metrics, authenticator: Authenticator, log: FilteringBoundLogger
) -> _Endpoint:
    name, scopes = f"{operation.method} {operation.path}", operation.scopes
    handle = partial(run_while_connected, operation.handler) if operation.read_only else operation.handler
    # What a write has done stays done: its caller is told.
    reads = not {KeyScope.INGEST, KeyScope.ERASE}.intersection(scopes)
    counters: dict[int, Counter] = {}  # looking a counter up by its labels costs more than counting

    async def answer(scope: Scope, receive: Receive) -> Response:
        started = time.perf_counter()
        headers = headers_of(scope)
        request_id = request_id_of(headers)
        authorization = authorization_of(scope, headers)
        response: Response
        try:
            principal = authenticator.authenticate(authorization)
            request = ApiRequest(scope, receive, headers, principal, request_id)
            request.require(*scopes)
            request.query_values()  # refuses an ambiguous query string for handlers that do not read it, too
            response = await handle(request)
            if reads and isinstance(response, ApiResponse):  # the key may have been revoked while it waited
                authenticator.authenticate(authorization)
        except (LorestreamError, HttpError, Unauthenticated, Forbidden) as error:
            response = error_response(error, request_id)
            if isinstance(error, Unavailable) and not isinstance(error, RateLimited):
                _log.warning(
                    "the request was refused: a needed part is unavailable or overloaded",
                    route=name,
                    error=str(error),
                    request_id=request_id,
                )
            elif isinstance(error, LorestreamError) and not isinstance(
                error, InvalidRequest | RateLimited | OperationRefused
            ):
                _log.error("the request failed", route=name, error=str(error), request_id=request_id)
        except Exception:
            _log.exception("the request failed", route=name, request_id=request_id)
            response = error_response(RuntimeError(), request_id)
        if isinstance(response, ApiResponse):
            response.set_header("X-Request-Id", request_id)
            status = response.status
        else:
            response.headers["X-Request-Id"] = request_id
            response.body_iterator = _while_authenticated(
                response.body_iterator, authenticator, authorization
            )
            status = response.status_code
        counter = counters.get(status)
        if counter is None:
            counter = counters[status] = metrics.http_requests.labels(name, str(status))
        counter.inc()
        log.debug("answered", route=name, code=status, seconds=time.perf_counter() - started)
        return response

    return answer if metrics.tracer is None else _traced(name, answer, metrics.tracer)


def _traced(name: str, endpoint: _Endpoint, tracer: Tracer) -> _Endpoint:
    async def traced(scope: Scope, receive: Receive) -> Response:
        given = headers_of(scope).get(TRACEPARENT.encode(), b"").decode("latin-1")
        with tracer.request(name, given) as span:
            response = await endpoint(scope, receive)
            status = response.status if isinstance(response, ApiResponse) else response.status_code
            span.note("http.response.status_code", status)
            return response

    return traced


def _starlette_endpoint(endpoint: _Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def called(request: Request) -> Response:
        return await endpoint(request.scope, request.receive)

    return called


async def _while_authenticated(
    chunks: AsyncIterable[Any], authenticator: Authenticator, authorization: str | None
) -> AsyncGenerator[Any]:
    """The chunks of a streamed response, until the caller's key is no longer valid."""
    async with contextlib.aclosing(cast("AsyncGenerator[Any]", chunks)) as stream:
        async for chunk in stream:
            try:
                authenticator.authenticate(authorization)
            except Unauthenticated:
                return
            yield chunk


def _is_one_page(route: Route) -> bool:
    """Whether it is a page, and not the files or other spellings of one."""
    return route.path == "/" or not ("{" in route.path or route.path.endswith("/"))


def _allowed(routes: Sequence[Route], path: str) -> list[str]:
    """The methods of all routes that match a path."""
    matching = (route for route in routes if route.path_regex.match(path))
    return sorted({method for route in matching for method in route.methods or ()})


def _peer_routes(peer: PeerService) -> list[Route]:
    async def wrong_service(request: Request) -> ApiResponse:
        message = f"{request.method} {request.scope['path']} is answered by the {peer.name} service"
        error = HttpError(404, "wrong_service", message, service=peer.name)
        return error_response(error, request_id_of(headers_of(request.scope)))

    return [Route(path, wrong_service, methods=methods_of(method)) for method, path in peer.routes]


class _RawPathRouter:
    """Routes by the path as it was sent, still percent-encoded, so that an id may contain %2F.

    `endpoints`: those whose path has no parameters, by method and path. They are called directly, without
    Starlette's middleware and its linear search for the route, which cost as much CPU time as a short response.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[tuple[str, str], _Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw: bytes = scope.get("raw_path") or scope["path"].encode()
            path = raw.partition(b"?")[0].decode("latin-1")
            scope = {**scope, "path": path}
            if (endpoint := self._endpoints.get((scope["method"], path))) is not None:
                response = await endpoint(scope, receive)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
