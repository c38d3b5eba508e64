"""What Engram answers to a client: its values, and what goes wrong.

EngramError
├── ApiError             Engram said no: status, code, message, details, request_id
│   ├── Rejected         an event that can never become a memory
│   └── NotFound         there is no such thing
└── Unavailable
└── Unreachable      no answer, or not one of an Engram
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import msgspec

from engram.errors import EngramError, Unavailable

NOT_FOUND = 404


class ApiError(EngramError):
    """Engram refused. `status` is HTTP's, `code` the contract's word, `details` may name the field."""

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


class Rejected(ApiError):
    """An event that can never become a memory, however often it is sent."""


class NotFound(ApiError):
    """There is no such memory, erasure or route."""


class Unreachable(Unavailable):
    """Nobody answered at that address, or not as an Engram does."""


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


def retry_delay(error: Exception) -> bool | float:
    """Whether to try again: as long as the server asks, else with growing pauses. For stamina."""
    if isinstance(error, Unreachable):
        return True
    if isinstance(error, ApiError) and error.status in {429, 503}:
        return True if error.retry_after_ms is None else max(0.01, error.retry_after_ms / 1000)
    return False


def refusal(status: int, body: bytes, base: str) -> EngramError:
    """The exception that an answer other than success stands for; `base` is who answered."""
    try:
        error = msgspec.json.decode(body, type=_ErrorAnswer).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Unreachable(f"what answers at {base} is not an engram (HTTP {status})")
    kind = NotFound if status == NOT_FOUND else ApiError
    return kind(
        error.message,
        status=status,
        code=error.code,
        details=error.details,
        request_id=error.request_id,
        retry_after_ms=error.retry_after_ms,
    )
