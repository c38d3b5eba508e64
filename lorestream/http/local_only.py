"""Protects a service without API keys from web pages.

Without keys a service listens on loopback only, and every caller may do everything. A browser on the same machine runs
pages of others, which can send requests to loopback addresses, too: across origins (a form or `fetch` with a text/plain
body needs no permission), or under a name of their own that they let resolve to 127.0.0.1 (DNS rebinding), where the page
can even read the answers. Browsers state both: `Host` is the name in the page's address, and `Origin` and
`Sec-Fetch-Site` tell where the page comes from. Other programs send neither of the last two, and are not affected.

A link on a page of another origin is followed: GET changes nothing, and the browser shows the answer in place of that
page, which cannot read it. `Sec-Fetch-Mode: navigate` with `Sec-Fetch-Dest: document` tells this apart from a frame, an
image or `fetch`; pages cannot set these headers (https://www.w3.org/TR/fetch-metadata/).

The gRPC port needs no such check: browsers cannot speak HTTP/2 without TLS.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from lorestream.access.authentication import Forbidden
from lorestream.http.errors import error_response
from lorestream.http.request import headers_of, request_id_of

_WITHOUT_KEYS = (
    "while there are no API keys, only this machine is served. To serve others, make a key (`lorestream keys create"
    " --help`) and set LORESTREAM_API_KEYS_FILE"
)
FOREIGN_HOST = f"use http://localhost or http://127.0.0.1 as the address: {_WITHOUT_KEYS}"
FOREIGN_PAGE = f"this request comes from a web page of another origin: {_WITHOUT_KEYS}"

_AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,255}))(?::[0-9]{0,5})?")
_OWN_PAGES = frozenset({b"same-origin", b"none"})
"""Values of Sec-Fetch-Site: the page is one of this service; the user typed the address."""
_FOLLOWED_LINK = {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}
_SAFE_METHODS = frozenset({"GET", "HEAD"})
"""The methods that change nothing. A link sends GET."""


class LocalOnly:
    """An ASGI application that answers 403 to web pages of other origins, and passes all other requests on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "http" and (reason := refusal(scope["method"], scope["headers"])) is not None:
            response = error_response(Forbidden(reason), request_id_of(headers_of(scope)))
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


def refusal(method: str, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Why a request with this method and these headers (names in lower case) is refused; None if it is not."""
    host: bytes | None = None
    origins: list[bytes] = []
    foreign, fetch = False, dict[bytes, bytes]()
    for name, value in headers:
        if name == b"host":
            if not is_loopback(value):
                return FOREIGN_HOST
            host = value
        elif name == b"origin":
            origins.append(value)
        elif name == b"sec-fetch-site":
            foreign = foreign or value not in _OWN_PAGES
        elif name in {b"sec-fetch-mode", b"sec-fetch-dest"}:
            fetch[name] = value
    if foreign and not (method in _SAFE_METHODS and fetch == _FOLLOWED_LINK):
        return FOREIGN_PAGE
    own = None if host is None else host.lower()
    for origin in origins:
        scheme, _, authority = origin.lower().partition(b"://")
        if scheme not in {b"http", b"https"} or authority != own:
            return FOREIGN_PAGE
    return None


@lru_cache(maxsize=256)
def is_loopback(authority: bytes) -> bool:
    """Whether a Host header names this machine: localhost, 127.0.0.0/8 or ::1, with any port."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return False
    name = (found[1] or found[2]).decode("ascii")
    if name.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
