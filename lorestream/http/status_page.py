"""The page at /: the state of this process, and links to everything else. Rendered by templates/status.html."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lorestream import __version__
from lorestream.http.templating import html_response, render


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One line of the page. `ok` colours the value: True good, False bad, None neutral."""

    name: str
    value: str
    ok: bool | None = None


def status_page(
    title: str, rows: Callable[[], Awaitable[Sequence[StatusRow]]], *, needs_keys: bool = False
) -> Route:
    """The route of the page; `rows` is called at every visit.

    The page needs no key: where there are API keys, the rows must not show what tenants have stored.
    """

    async def page(_request: Request) -> Response:
        values = {"title": title, "version": __version__, "rows": await rows(), "needs_keys": needs_keys}
        # In a thread, because the first call loads the template engine, which takes a tenth of a second.
        return html_response(await asyncio.to_thread(render, "status.html", **values))

    return Route("/", page)
