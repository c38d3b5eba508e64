"""What every service answers beside its own types: what went wrong, and how it is."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class ErrorBody(Struct):
    """What went wrong: `code` for programs, `message` for people. `details.path` names the field at fault."""

    code: str
    message: str
    details: dict[str, Any]
    request_id: str
    retry_after_ms: int | UnsetType = UNSET


class ErrorAnswer(Struct):
    """The answer to every call that failed. With `retry_after_ms` the same call may succeed that much later."""

    error: ErrorBody
    retry_after_ms: int | UnsetType = UNSET


class Health(Struct):
    """The service is alive."""

    status: Literal["ok"]
    service: str


class Readiness(Struct):
    """Whether the service can do its job. `checks` says "ok" of each part, or what is missing."""

    status: Literal["ok", "unavailable"]
    service: str
    checks: dict[str, str]
