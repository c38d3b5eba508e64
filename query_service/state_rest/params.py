"""From the decoded parameters of a read of state to what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec import UnsetType

from lorestream.errors import InvalidRequest
from lorestream.tokens import parse_token
from query_service.queries import DEFAULT_WAIT_S
from query_service.state.documents import Which

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


class OfVersion(Protocol):
    """Which version of a document."""

    @property
    def version(self) -> float | UnsetType | None:
        """Its number, a whole one."""
        ...

    @property
    def at(self) -> float | UnsetType | None:
        """A time at which it was the current one, in Unix seconds."""
        ...


class Waiting(Protocol):
    """The write to wait for."""

    @property
    def after(self) -> str | UnsetType | None:
        """Its token."""
        ...

    @property
    def wait_ms(self) -> float | UnsetType | None:
        """How long to wait, in milliseconds."""
        ...


class OfDocument(OfVersion, Waiting, Protocol):
    """Which version of a document, and the write to wait for."""


def which_of(params: OfVersion) -> Which:
    """The version that is asked for. Raises InvalidRequest."""
    version, at = given(params.version), given(params.at)
    if version is not None and at is not None:
        raise InvalidRequest("give a version or a time, not both", path="at")
    return Which(None if version is None else int(version), at)


def wait_of(waiting: Waiting) -> tuple[Mapping[int, int] | None, float]:
    """The write to wait for, and how long, in seconds. Raises InvalidToken."""
    after, wait_ms = given(waiting.after), given(waiting.wait_ms)
    wait_s = DEFAULT_WAIT_S if wait_ms is None else wait_ms / 1000
    return None if after is None else parse_token(after), wait_s


def given(value: T | UnsetType | None) -> T | None:
    """None for what was left out."""
    return None if isinstance(value, UnsetType) else value
