"""The exceptions of the clients.

LorestreamError
├── InvalidValue                           an argument that JSON cannot represent: nothing was sent
├── ApiError                    an error response: status, code, message, details, request_id, retry_after_ms
│   ├── BadRequest              4xx        the request can never succeed; details["path"] names the field
│   │   └── TooLarge            413        the body or the batch is too large
│   ├── Unauthorized            401        no key, or not a valid one
│   ├── Forbidden               403        the key lacks the scope
│   ├── NotFound                404        this memory, erasure, document or policy does not exist
│   ├── WrongService            404        a write sent to the query service, or a read to the gateway
│   ├── VersionConflict         409        the document has another version than `if_version`: `current`
│   ├── VersionGone             410        this version of the document is no longer kept
│   ├── TooManyRequests         429        overload or rate limit; nothing was accepted, retry later
│   ├── ServiceUnavailable      503        an outage; retry later
│   └── Rejected                           an event that can never become a memory
└── Unavailable
    └── Unreachable                        no answer, or not one of a Lorestream
        └── NotLorestream                  an answer of something else, such as a proxy's 404: not retried

`retryable` says whether the same call may succeed later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from lorestream.errors import LorestreamError, Unavailable

CLIENT_ERRORS = range(400, 500)
SERVER_ERRORS = range(500, 600)
TOO_MANY = 429


class InvalidValue(LorestreamError, ValueError):
    """An argument that JSON cannot represent: NaN, infinity, a lone surrogate. Nothing was sent.

    `path` names the value, such as "events[0].ttl".
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path


class ApiError(LorestreamError):
    """An error response: HTTP `status`, error `code`, and `details` such as the path of the invalid field."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        retry_after_ms: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.details = details or {}
        self.request_id = request_id
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        """One line: path of the field, message, code."""
        path = f"{self.details['path']}: " if "path" in self.details else ""
        return f"{path}{self.message} ({self.code})"


class BadRequest(ApiError):
    """The request can never succeed. `details["path"]` names the invalid field, if there is one."""


class TooLarge(BadRequest):
    """The body or the batch is larger than allowed."""


class Unauthorized(ApiError):
    """No API key, or not a valid one."""


class Forbidden(ApiError):
    """The API key lacks the scope."""


class NotFound(ApiError):
    """This memory, erasure, document, policy or route does not exist."""


class WrongService(ApiError):
    """A service of the distributed shape that does not have this route: url and query_url may be swapped."""


class VersionConflict(ApiError):
    """The document has another version than `if_version` says. Nothing was changed: read it, and decide again."""

    @property
    def current(self) -> int | None:
        """The version that the document has; 0 if there is none, None if the server does not say."""
        return self.details.get("current")


class VersionGone(ApiError):
    """The document or policy had this version, but it is no longer kept."""


class TooManyRequests(ApiError):
    """Overload, or this caller is over its rate limit. Nothing of the request was accepted."""

    retryable: ClassVar[bool] = True


class ServiceUnavailable(ApiError):
    """A part that Lorestream needs is unavailable."""

    retryable: ClassVar[bool] = True


class Rejected(ApiError):
    """An event that can never become a memory, however often it is sent."""


class Unreachable(Unavailable):
    """No answer from that address, or an answer that is not Lorestream's."""


class NotLorestream(Unreachable):
    """What answers is not a Lorestream, and has no reason to answer otherwise later: a proxy's 404, 413 or redirect."""

    retryable: ClassVar[bool] = False


class _Error(msgspec.Struct, frozen=True):
    code: str
    message: str
    details: dict[str, Any] = {}
    request_id: str | None = None
    retry_after_ms: float | None = None


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: _Error


_ERRORS_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    410: VersionGone,
    413: TooLarge,
    TOO_MANY: TooManyRequests,
    503: ServiceUnavailable,
}
_ERRORS_BY_CODE: Mapping[str, type[ApiError]] = {
    "wrong_service": WrongService,
    "version_conflict": VersionConflict,
}


def api_error(status: int, body: bytes, base_url: str) -> LorestreamError:
    """The exception for a response that is not a success. `base_url`: where it came from, for the message."""
    try:
        error = msgspec.json.decode(body, type=_ErrorAnswer).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A proxy before a Lorestream that is starting answers 502 to 504; 429 says itself that it is for now.
        foreign = Unreachable if status in {TOO_MANY, *SERVER_ERRORS} else NotLorestream
        return foreign(f"what answers at {base_url} is not a lorestream (HTTP {status})")
    kind = _ERRORS_BY_STATUS.get(status, BadRequest if status in CLIENT_ERRORS else ApiError)
    kind = _ERRORS_BY_CODE.get(error.code, kind)
    return kind(
        error.message,
        status=status,
        code=error.code,
        details=error.details,
        request_id=error.request_id,
        retry_after_ms=error.retry_after_ms,
    )
