"""What describes a route: Operation, its example, and the open pages. Routing and documentation are made from these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from starlette.responses import StreamingResponse

from lorestream.access.key_file import KeyScope
from lorestream.http.request import ApiRequest, ApiResponse

JSON = "application/json"
BYTES = "application/octet-stream"

EVENTS = "text/event-stream"

OLDER_NAMES = "Under older names"
SERVICE = "The service itself"
"""The two tags that the documentation shows last."""

Response: TypeAlias = "ApiResponse | StreamingResponse"
Handler: TypeAlias = Callable[[ApiRequest], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Example:
    """One request and its response for the documentation: path and query parameters, body, response."""

    response: Any
    body: Any = None
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BinaryBody:
    """A body that is bytes, of at most `max_bytes`."""

    max_bytes: int


@dataclass(frozen=True, slots=True)
class EventStream:
    """A response of server-sent events, which does not end by itself. `data`: the msgspec type of their data."""

    data: Any


@dataclass(frozen=True, slots=True)
class Operation:
    """One route (an "operation" in OpenAPI).

    `body`, `query_params`, `path_params` and `response` are msgspec types. A body or a response that is
    not JSON is a BinaryBody, one without end an EventStream. `scope` is the scope that the caller's key needs; one of `or_scopes` does as well. `status`
    is the status of success; `other_statuses` maps further statuses to their meaning, beside those that every route has. A further status below 300 has the same response type. `hidden` operations are not
    in the documentation. `read_only` operations are cancelled when their client has gone. A POST route accepts PUT as well, because old Luanti releases send PUT instead.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    scope: KeyScope
    response: Any
    body: Any = None
    query_params: Any = None
    status: int = 200
    path_params: Any = None
    other_statuses: Mapping[int, str] = field(default_factory=dict)
    tag: str = "Operations"
    description: str = ""
    example: Example | None = None
    hidden: bool = False
    or_scopes: tuple[KeyScope, ...] = ()
    read_only: bool = False

    @property
    def scopes(self) -> tuple[KeyScope, ...]:
        """The scopes of which the caller's key needs one."""
        return (self.scope, *self.or_scopes)

    @property
    def methods(self) -> list[str]:
        """The HTTP methods that reach this route."""
        return methods_of(self.method)


def methods_of(method: str) -> list[str]:
    """The HTTP methods that a route of this method accepts."""
    return ["POST", "PUT"] if method == "POST" else [method]


@dataclass(frozen=True, slots=True)
class Page:
    """A GET route without parameters that needs no key. `response` is its msgspec type where it is JSON.

    `statuses` maps each status to its meaning.
    """

    path: str
    summary: str
    media_type: str = JSON
    response: Any = None
    statuses: Mapping[int, str] = field(default_factory=lambda: {200: "Done"})
