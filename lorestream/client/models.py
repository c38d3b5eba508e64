"""The types of the clients: events, results, and exceptions.

LorestreamError
├── InvalidValue                           an argument that JSON cannot represent: nothing was sent
├── ApiError                    an error response: status, code, message, details, request_id, retry_after_ms
│   ├── BadRequest              4xx        the request can never succeed; details["path"] names the field
│   │   └── TooLarge            413        the body or the batch is too large
│   ├── Unauthorized            401        no key, or not a valid one
│   ├── Forbidden               403        the key lacks the scope
│   ├── NotFound                404        this memory or erasure does not exist
│   ├── WrongService            404        a write sent to the query service, or a read to the gateway
│   ├── TooManyRequests         429        overload or rate limit; nothing was accepted, retry later
│   ├── ServiceUnavailable      503        an outage; retry later
│   └── Rejected                           an event that can never become a memory
└── Unavailable
    └── Unreachable                        no answer, or not one of a Lorestream

`retryable` says whether the same call may succeed later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict

import msgspec

from lorestream.errors import LorestreamError, Unavailable

CLIENT_ERRORS = range(400, 500)

Order: TypeAlias = Literal["recent", "oldest"]
Mode: TypeAlias = Literal["dense", "keyword", "hybrid"]


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
    """This memory, erasure or route does not exist."""


class WrongService(ApiError):
    """A service of the distributed shape that does not have this route: url and query_url may be swapped."""


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


class Event(TypedDict, total=False):
    """An event in its JSON form. `agent_id`, and `text` or `type`, are required.

    `id` is the producer's and is never used for another event; `ttl` is in seconds, 0 = for ever; `time` is in
    Unix seconds; `importance` goes from 0 to 10.
    """

    id: str
    agent_id: str
    type: str
    text: str
    data: Mapping[str, Any]
    player: str
    pos: Mapping[str, float]
    tick: float
    time: float
    importance: float
    ttl: float
    metadata: Mapping[str, Any]


class Near(TypedDict, total=False):
    """A sphere, in nodes. `radius` is required; a coordinate that is left out is not compared."""

    x: float
    y: float
    z: float
    radius: float


class Weights(TypedDict, total=False):
    """The weights of the parts of the score. A part that is left out weighs 0, relevance 1.

    `normalise`: True stretches relevance to 0 to 1 over the memories that are ranked, as recency and importance are.
    """

    relevance: float
    recency: float
    importance: float
    half_life_s: float
    recency_of: Literal["time", "access"]
    normalise: bool


class Reject(msgspec.Struct, frozen=True):
    """Why the event at `index` was not accepted."""

    index: int
    code: str
    message: str


class Receipt(msgspec.Struct, frozen=True):
    """The result of a write. `ids` has one memory id per event, None for a rejected one."""

    accepted: int
    rejected: list[Reject]
    ids: list[str | None]
    token: str
    indexed: bool = False


class FoundMemory(msgspec.Struct, frozen=True):
    """A memory in a response. Times are Unix seconds."""

    id: str
    agent_id: str
    text: str
    timestamp: float
    type: str | None = None
    metadata: dict[str, Any] = {}
    pos: dict[str, float] | None = None
    tick: float | None = None
    importance: float = 5.0
    server: str = ""
    player: str | None = None
    accepted_at: float = 0.0
    expires_at: float | None = None
    truncated: bool = False
    score: float | None = None
    score_details: dict[str, float] | None = None


class SearchAnswer(msgspec.Struct, frozen=True):
    """The memories, best first. `took_ms` is the time in the server."""

    memories: list[FoundMemory]
    cache: str = "off"
    fresh: bool = True
    took_ms: float = 0.0


class Page(msgspec.Struct, frozen=True):
    """One page of memories in the order of time; `next_cursor` is for the next page, None on the last one."""

    memories: list[FoundMemory]
    total: int
    next_cursor: str | None = None


class Context(msgspec.Struct, frozen=True):
    """Memories for a prompt, each in one list. `text` has all of them, oldest first.

    `neighbours` stand next to the relevant ones. `tokens` is the number of tokens of `text` for the embedding model.
    """

    recent: list[FoundMemory]
    relevant: list[FoundMemory]
    text: str
    tokens: int
    cache: str = "off"
    fresh: bool = True
    took_ms: float = 0.0
    neighbours: list[FoundMemory] = []


class AgentTotal(msgspec.Struct, frozen=True):
    """An agent and its number of memories."""

    agent_id: str
    total: int


class Erasure(msgspec.Struct, frozen=True):
    """A deletion that was accepted. A read with `after=token` does not show the deleted memories."""

    erasure_id: str
    token: str = ""


class Agents(msgspec.Struct, frozen=True):
    """The agents with the most memories, most first."""

    agents: list[AgentTotal]


class ErasureState(msgspec.Struct, frozen=True):
    """The state of an erasure: running or done."""

    state: str


class _Error(msgspec.Struct, frozen=True):
    code: str
    message: str
    details: dict[str, Any] = {}
    request_id: str | None = None
    retry_after_ms: float | None = None


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: _Error


class Health(msgspec.Struct, frozen=True):
    """Whether a service is alive."""

    status: str


class Readiness(msgspec.Struct, frozen=True):
    """Whether a service can do its job. `checks` has one entry for each part: "ok", or what is missing."""

    status: str
    checks: dict[str, str] = {}

    @property
    def ok(self) -> bool:
        """Whether the service can do its job."""
        return self.status == "ok"


class Document(msgspec.Struct, frozen=True):
    """An OpenAPI document; only the version is read."""

    class Info(msgspec.Struct, frozen=True):
        """The `info` object."""

        version: str

    info: Info


_ERRORS_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    429: TooManyRequests,
    503: ServiceUnavailable,
}


def api_error(status: int, body: bytes, base_url: str) -> LorestreamError:
    """The exception for a response that is not a success. `base_url`: where it came from, for the message."""
    try:
        error = msgspec.json.decode(body, type=_ErrorAnswer).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Unreachable(f"what answers at {base_url} is not a lorestream (HTTP {status})")
    kind = _ERRORS_BY_STATUS.get(status, BadRequest if status in CLIENT_ERRORS else ApiError)
    if error.code == "wrong_service":
        kind = WrongService
    return kind(
        error.message,
        status=status,
        code=error.code,
        details=error.details,
        request_id=error.request_id,
        retry_after_ms=error.retry_after_ms,
    )
