"""Error responses: their JSON types, and the response for each exception. Also the types of /health and /ready."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from lorestream.access.authentication import Forbidden, Unauthenticated
from lorestream.errors import InvalidRequest, OperationRefused, Overloaded, RateLimited, Unavailable
from lorestream.http.request import ApiResponse, HttpError, json_response


class ErrorBody(Struct):
    """What went wrong: `code` for programs, `message` for people. `details.path` names the invalid field."""

    code: str
    message: str
    details: dict[str, Any]
    request_id: str
    retry_after_ms: int | UnsetType = UNSET


class ErrorResponse(Struct):
    """The body of every error response. With `retry_after_ms`, the same request may succeed after that time."""

    error: ErrorBody
    retry_after_ms: int | UnsetType = UNSET


class Health(Struct):
    """The service is alive."""

    status: Literal["ok"]
    service: str


class Readiness(Struct):
    """Whether the service can do its job. `checks` has one entry per part: "ok", or what is missing."""

    status: Literal["ok", "unavailable"]
    service: str
    checks: dict[str, str]


def error_response(error: Exception, request_id: str) -> ApiResponse:
    """The response for an exception; 500 for any exception that is not listed here."""
    headers: dict[str, str] = {}
    retry_after_ms: int | UnsetType = UNSET
    match error:
        case HttpError():
            status, code, message, details = error.status, error.code, error.message, dict(error.details)
        case Unauthenticated():
            status, code, message, details = 401, "unauthorized", str(error), {}
            headers["WWW-Authenticate"] = "Bearer"
        case Forbidden():
            status, code, message, details = 403, "forbidden", str(error), {}
        case InvalidRequest():
            status, code, message = 400, error.code, error.message
            details = {"path": error.path} if error.path else {}
        case OperationRefused():
            status, code, message, details = 409, "refused", str(error), {}
        case Unavailable():
            status, code = _status_of_outage(error)
            message, details = error.message, {"retry_after_ms": error.retry_after_ms}
            retry_after_ms = error.retry_after_ms  # in the body too: a Luanti mod cannot read headers
            headers["Retry-After"] = str(max(1, -(-error.retry_after_ms // 1000)))
        case _:
            status, code, message, details = (
                500,
                "internal",
                "internal error; the server's log has the details",
                {},
            )
    body = ErrorBody(code, message, details, request_id, retry_after_ms)
    return json_response(ErrorResponse(body, retry_after_ms), status, headers)


def _status_of_outage(error: Unavailable) -> tuple[int, str]:
    match error:
        case RateLimited():
            return 429, "rate_limited"
        case Overloaded():
            return 429, "overloaded"
        case _:
            return 503, "unavailable"
