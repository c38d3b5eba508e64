"""Operations: what a service offers, from which both its routes and its documentation are made."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias, cast

import structlog
from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from lorestream.access.principals import KEYLESS, Access, Forbidden, Grant, Unauthenticated
from lorestream.errors import InvalidRequest, LorestreamError, RateLimited, Refusal, Unavailable
from lorestream.http.docs_page import render
from lorestream.http.errors import Health, Readiness
from lorestream.http.openapi import Example, Page, document
from lorestream.http.other_service import Elsewhere
from lorestream.http.request import Call, Refused, authorization, headers_of, refusal, request_id
from lorestream.http.response import Reply, reply, reply_encoded
from lorestream.telemetry import CONTENT_TYPE, Metrics

_log = structlog.get_logger("lorestream.http")

Answer: TypeAlias = "Reply | StreamingResponse"
Handler = Callable[[Call], Awaitable[Answer]]
Endpoint = Callable[[Scope, Receive], Awaitable[Answer]]

_HTML = "text/html"
_NOTHING_FROM_ELSEWHERE = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_PAGES = (
    Page("/health", "Whether the service is alive", answer=Health),
    Page(
        "/ready",
        "Whether the service can do its job",
        answer=Readiness,
        statuses={200: "It can", 503: "It cannot: `checks` says what is missing"},
    ),
    Page("/metrics", "Measurements for Prometheus", "text/plain"),
    Page("/openapi.json", "This document"),
    Page("/docs", "This document as a page", _HTML),
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. A POST route takes PUT as the same, because old Luanti releases turn one into the other.

    `body`, `params`, `place` and `answer` are msgspec types: of the body, the query string, the path and the answer.
    `needs` is the scope that a key must carry. `also` says which other statuses there are, beside those of every
    route, and what they mean; one of success has the same answer. What is `hidden` is not in the document.
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
    place: Any = None
    also: Mapping[int, str] = field(default_factory=dict)
    topic: str = "Operations"
    details: str = ""
    example: Example | None = None
    hidden: bool = False

    @property
    def methods(self) -> list[str]:
        """The HTTP methods that reach it."""
        return methods(self.method)


def methods(method: str) -> list[str]:
    """The methods that a route of this method takes."""
    return ["POST", "PUT"] if method == "POST" else [method]


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
    access: Access = KEYLESS,
    elsewhere: Elsewhere | None = None,
) -> ASGIApp:
    """The ASGI application of a service: its operations, /health, /ready, /metrics, /docs, /openapi.json.

    The operations are for callers that `access` lets in; everything else is open, `pages` too. What stands in
    `elsewhere` is refused with the name of the service that answers it.
    """

    async def health(_request: Request) -> Reply:
        return reply(Health("ok", service))

    async def ready(_request: Request) -> Reply:
        problems = {check.name: problem for check in checks if (problem := await check.problem()) is not None}
        parts = {check.name: problems.get(check.name, "ok") for check in checks}
        readiness = Readiness("unavailable" if problems else "ok", service, parts)
        return reply(readiness, 503 if problems else 200)

    async def exposition(_request: Request) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    async def openapi(_request: Request) -> Reply:
        return reply_encoded(description)

    async def docs(request: Request) -> Response:
        page = render(description, f"{request.url.scheme}://{request.headers.get('host', '')}")
        return HTMLResponse(page, headers={"Content-Security-Policy": _NOTHING_FROM_ELSEWHERE})

    async def fault(request: Request, error: Exception) -> Reply:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {404: "not_found", 405: "method_not_allowed"}.get(status, "bad_request")
        path = request.scope["path"]
        refused = Refused(status, code, f"{request.method} {path} is not offered here")
        response = refusal(refused, request_id(headers_of(request.scope)))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:  # Starlette names the methods of one route of several
            response.header("Allow", ", ".join(_allowed([*routes, *open_routes, *pages], path)))
        return response

    log = _log.bind()
    endpoints = [(op, _endpoint(op, metrics, access, log)) for op in operations]
    routes = [Route(op.path, _route(endpoint), methods=op.methods) for op, endpoint in endpoints]
    open_routes = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", exposition),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
    ]
    others = [] if elsewhere is None else _others(elsewhere)
    description = document(
        service,
        operations,
        [*_PAGES, *(Page(page.path, "A page for people", _HTML) for page in pages)],
        needs_keys=access.needs_keys,
        other=None if elsewhere is None else f"the {elsewhere.service} service",
    )
    app = Starlette(
        routes=[*routes, *open_routes, *pages, *others],
        exception_handlers={HTTPException: cast("Any", fault)},
    )
    app.router.redirect_slashes = False
    whole = {(method, op.path): endpoint for op, endpoint in endpoints for method in op.methods}
    return _EncodedPaths(app, {key: endpoint for key, endpoint in whole.items() if "{" not in key[1]})


def _endpoint(operation: Operation, metrics: Metrics, access: Access, log: FilteringBoundLogger) -> Endpoint:
    name = f"{operation.method} {operation.path}"
    counted: dict[int, Counter] = {}  # to look a counter up by its labels costs more than to count

    async def endpoint(scope: Scope, receive: Receive) -> Answer:
        started = time.perf_counter()
        headers = headers_of(scope)
        spoken_of = request_id(headers)
        sent = authorization(scope, headers)
        answer: Answer
        try:
            call = Call(scope, receive, headers, access.principal(sent), spoken_of)
            call.require(operation.needs)
            call.query()  # what is ambiguous is refused, also where no parameter is looked at
            answer = await operation.handler(call)
        except (LorestreamError, Refused, Unauthenticated, Forbidden) as error:
            answer = refusal(error, spoken_of)
            if isinstance(error, Unavailable) and not isinstance(error, RateLimited):
                _log.warning("unavailable", route=name, error=str(error), request_id=spoken_of)
            elif isinstance(error, LorestreamError) and not isinstance(
                error, InvalidRequest | RateLimited | Refusal
            ):
                _log.error("failed", route=name, error=str(error), request_id=spoken_of)
        except Exception:
            _log.exception("failed", route=name, request_id=spoken_of)
            answer = refusal(RuntimeError(), spoken_of)
        if isinstance(answer, Reply):
            answer.header("X-Request-Id", spoken_of)
            code = answer.status
        else:
            answer.headers["X-Request-Id"] = spoken_of
            answer.body_iterator = _while_valid(answer.body_iterator, access, sent)
            code = answer.status_code
        counter = counted.get(code)
        if counter is None:
            counter = counted[code] = metrics.http_requests.labels(name, str(code))
        counter.inc()
        log.debug("answered", route=name, code=code, seconds=time.perf_counter() - started)
        return answer

    return endpoint


def _route(endpoint: Endpoint) -> Callable[[Request], Awaitable[Answer]]:
    """The endpoint as Starlette calls it."""

    async def called(request: Request) -> Answer:
        return await endpoint(request.scope, request.receive)

    return called


async def _while_valid(
    chunks: AsyncIterable[Any], access: Access, authorization: str | None
) -> AsyncGenerator[Any]:
    """An answer without end is for those whose key is valid all the while."""
    async with contextlib.aclosing(cast("AsyncGenerator[Any]", chunks)) as stream:
        async for chunk in stream:
            try:
                access.principal(authorization)
            except Unauthenticated:
                return
            yield chunk


def _allowed(routes: Sequence[Route], path: str) -> list[str]:
    """The methods that there are for a path, all its routes together."""
    matching = (route for route in routes if route.path_regex.match(path))
    return sorted({method for route in matching for method in route.methods or ()})


def _others(elsewhere: Elsewhere) -> list[Route]:
    async def endpoint(request: Request) -> Reply:
        message = f"{request.method} {request.scope['path']} is answered by the {elsewhere.service} service"
        refused = Refused(404, "wrong_service", message, service=elsewhere.service)
        return refusal(refused, request_id(headers_of(request.scope)))

    return [Route(path, endpoint, methods=methods(method)) for method, path in elsewhere.routes]


class _EncodedPaths:
    """Routes by the path as it was sent: an id may hold %2F without becoming two parts of a path.

    `whole`: endpoints by method and path, where no part of the path varies. They are called at once, past
    Starlette's middleware and its search through all routes, which cost as much CPU as the rest of a short answer.
    """

    def __init__(self, app: ASGIApp, whole: Mapping[tuple[str, str], Endpoint]) -> None:
        self._app = app
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw: bytes = scope.get("raw_path") or scope["path"].encode()
            path = raw.partition(b"?")[0].decode("latin-1")
            scope = {**scope, "path": path}
            if (endpoint := self._whole.get((scope["method"], path))) is not None:
                answer = await endpoint(scope, receive)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
