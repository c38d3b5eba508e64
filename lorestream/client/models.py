"""What Lorestream answers to a client: its values, and what goes wrong.

LorestreamError
├── ApiError                    Lorestream said no: status, code, message, details, request_id, retry_after_ms
│   ├── BadRequest              4xx        what was sent can never succeed; details["path"] names the field
│   │   └── TooLarge            413        so much at once never will
│   ├── Unauthorized            401        no key, or not a valid one
│   ├── Forbidden               403        the key lacks the scope
│   ├── NotFound                404        there is no such memory or erasure
│   ├── WrongService            404        a write sent to the reader, or the other way round
│   ├── TooManyRequests         429        later; nothing of it was accepted
│   ├── ServiceUnavailable      503        an outage
│   └── Rejected                           an event that can never become a memory
└── Unavailable
    └── Unreachable                        no answer, or not one of a Lorestream

`retryable` says of each whether the same call may succeed later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict

import msgspec

from lorestream.errors import LorestreamError, Unavailable

CLIENT_ERRORS = range(400, 500)

Order: TypeAlias = Literal["recent", "oldest"]
Mode: TypeAlias = Literal["dense", "keyword", "hybrid"]


class ApiError(LorestreamError):
    """Lorestream refused. `status` is HTTP's, `code` the contract's word, `details` may name the field."""

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
        """One line: where, what, why."""
        where = f"{self.details['path']}: " if "path" in self.details else ""
        return f"{where}{self.message} ({self.code})"


class BadRequest(ApiError):
    """What was sent can never succeed. `details["path"]` names the field where one is to blame."""


class TooLarge(BadRequest):
    """The body or the batch is larger than one may be."""


class Unauthorized(ApiError):
    """No API key, or not one that is valid."""


class Forbidden(ApiError):
    """The API key lacks the scope."""


class NotFound(ApiError):
    """There is no such memory, erasure or route."""


class WrongService(ApiError):
    """A service of the distributed shape that does not do this: url and query_url are mixed up."""


class TooManyRequests(ApiError):
    """Lorestream has too much to do, or this caller asked too much. Nothing of the request was accepted."""

    retryable: ClassVar[bool] = True


class ServiceUnavailable(ApiError):
    """A part that Lorestream needs is away."""

    retryable: ClassVar[bool] = True


class Rejected(ApiError):
    """An event that can never become a memory, however often it is sent."""


class Unreachable(Unavailable):
    """Nobody answered at that address, or not as a Lorestream does."""


class Event(TypedDict, total=False):
    """An event as the wire has it. `agent_id`, and `text` or `type`, are needed.

    `id` is the producer's own and names one event for ever; `ttl` is in seconds, 0 = for ever; `time` is in
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
    """A sphere, in nodes. `radius` is needed; a coordinate left out is not compared."""

    x: float
    y: float
    z: float
    radius: float


class Weights(TypedDict, total=False):
    """What the score is the weighted mean of. A part not named weighs 0, except relevance 1."""

    relevance: float
    recency: float
    importance: float
    half_life_s: float


class Reject(msgspec.Struct, frozen=True):
    """Why the event at `index` was not accepted."""

    index: int
    code: str
    message: str


class Receipt(msgspec.Struct, frozen=True):
    """What became of a write. `ids` has one entry per event, None for a rejected one."""

    accepted: int
    rejected: list[Reject]
    ids: list[str | None]
    token: str
    indexed: bool = False


class FoundMemory(msgspec.Struct, frozen=True):
    """A memory as readers get it. Times are Unix seconds."""

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
    """The best memories first. `took_ms` is the server's own time."""

    memories: list[FoundMemory]
    cache: str = "off"
    fresh: bool = True
    took_ms: float = 0.0


class Page(msgspec.Struct, frozen=True):
    """Some memories in the order of time; `next_cursor` leads to those behind them."""

    memories: list[FoundMemory]
    total: int
    next_cursor: str | None = None


class Context(msgspec.Struct, frozen=True):
    """What an agent should have in mind: no memory in both lists. `text`, oldest first, is ready for a prompt.

    `tokens` are those of `text`, as the embedding model counts them.
    """

    recent: list[FoundMemory]
    relevant: list[FoundMemory]
    text: str
    tokens: int
    cache: str = "off"
    fresh: bool = True
    took_ms: float = 0.0


class AgentTotal(msgspec.Struct, frozen=True):
    """An agent and how many memories it has."""

    agent_id: str
    total: int


class Erasure(msgspec.Struct, frozen=True):
    """A deletion that was accepted. From `token` on, no read shows what it took."""

    erasure_id: str
    token: str = ""


class Agents(msgspec.Struct, frozen=True):
    """The largest agents, the largest first."""

    agents: list[AgentTotal]


class ErasureState(msgspec.Struct, frozen=True):
    """How far an erasure has come: running, done."""

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
    """Whether a service can do its job; `checks` says of each part "ok" or what is missing."""

    status: str
    checks: dict[str, str] = {}

    @property
    def ok(self) -> bool:
        """Whether everything is."""
        return self.status == "ok"


class Document(msgspec.Struct, frozen=True):
    """What an OpenAPI document says of its service."""

    class Info(msgspec.Struct, frozen=True):
        """The part that names the version."""

        version: str

    info: Info


_REFUSALS: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    429: TooManyRequests,
    503: ServiceUnavailable,
}


def api_error(status: int, body: bytes, base: str) -> LorestreamError:
    """The exception that an answer other than success stands for; `base` is who answered."""
    try:
        error = msgspec.json.decode(body, type=_ErrorAnswer).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Unreachable(f"what answers at {base} is not a lorestream (HTTP {status})")
    kind = _REFUSALS.get(status, BadRequest if status in CLIENT_ERRORS else ApiError)
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
