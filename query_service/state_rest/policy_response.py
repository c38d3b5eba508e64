"""The HTTP responses of a policy: its bytes, or that the caller has them already."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorestream.errors import Overloaded
from lorestream.http.operation import BYTES
from lorestream.http.request import ApiResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from query_service.state.policies import Policy

MAX_BYTES_IN_MEMORY = 512 * 2**20
"""Bytes of policies in memory at a time. They are sent only once all were checked, which slow clients make long."""


class Share:
    """A share of the memory for policies. It is given back when nothing refers to it any more."""


class PolicyMemory:
    """The memory that all responses with policies have together."""

    def __init__(self, max_bytes: int = MAX_BYTES_IN_MEMORY) -> None:
        self._max_bytes = max_bytes
        self._used = 0

    def take(self, byte_count: int) -> Share:
        """A share of this size. Raises Overloaded where there is not so much left; a single policy always has room."""
        if self._used and self._used + byte_count > self._max_bytes:
            raise Overloaded("too many policies are being sent: send this request again later")
        self._used += byte_count
        share = Share()
        weakref.finalize(share, self._give_back, byte_count)
        return share

    def _give_back(self, byte_count: int) -> None:
        self._used -= byte_count


@dataclass(slots=True)
class PolicyResponse(ApiResponse):
    """A response whose body is sent part by part. `share`: the memory of the parts."""

    parts: Sequence[bytes]
    share: Share

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response (ASGI)."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for part in self.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def whole(policy: Policy, parts: Sequence[bytes], share: Share, *, fresh: bool) -> ApiResponse:
    """The bytes of a policy."""
    headers = [
        (b"content-type", BYTES.encode()),
        (b"content-length", b"%d" % sum(map(len, parts))),
        *_headers(policy, fresh=fresh),
    ]
    return PolicyResponse(200, b"", headers, parts, share)


def not_modified(policy: Policy, *, fresh: bool) -> ApiResponse:
    """The answer to a caller that has this version's bytes already."""
    return ApiResponse(304, b"", _headers(policy, fresh=fresh))


def is_known(policy: Policy, if_none_match: str) -> bool:
    """Whether a header If-None-Match (RFC 9110, 13.1.2) names the bytes of this version."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return bool(tags & {"*", f'"{policy.manifest.sha256}"'})


def _headers(policy: Policy, *, fresh: bool) -> list[tuple[bytes, bytes]]:
    return [
        (b"etag", f'"{policy.manifest.sha256}"'.encode()),
        (b"cache-control", b"no-cache"),
        (b"x-lorestream-version", b"%d" % policy.version),
        (b"x-lorestream-format", policy.manifest.format.encode()),
        (b"x-lorestream-fresh", b"true" if fresh else b"false"),
    ]
