"""The page at /: what runs here, how it is doing, where everything else is."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from lorestream import __version__
from lorestream.http.docs_page import STYLE


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One line of the page. `ok` colours it: True good, False bad, None neither."""

    name: str
    value: str
    ok: bool | None = None


def status_page(
    title: str, facts: Callable[[], Awaitable[Sequence[StatusRow]]], *, needs_keys: bool = False
) -> Route:
    """The page as a route; `facts` is asked at every visit.

    The page is open to whoever reaches the port: with keys, facts must tell nothing of what tenants have.
    """
    key = "export LORESTREAM_API_KEY=ID.SECRET\n" if needs_keys else ""

    async def page(_request: Request) -> Response:
        rows = "".join(_row(fact) for fact in await facts())
        return HTMLResponse(
            f"<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>"
            f"<meta name=viewport content='width=device-width'><title>{html.escape(title)}</title>"
            f"<style>{STYLE}</style><main><h1>{html.escape(title)}</h1>"
            f"<p>Memory for game agents, version {html.escape(__version__)}.</p><table>{rows}</table>"
            "<p><a href=/docs>API documentation</a> · <a href=/openapi.json>openapi.json</a> ·"
            " <a href=/metrics>metrics</a> · <a href=/ready>ready</a> · <a href=/health>health</a></p>"
            f"<h2>Try it</h2><pre>{key}lorestream demo\nlorestream put npc:woodcutter-1 &quot;pine trees stand north of the lake&quot;"
            "\nlorestream search npc:woodcutter-1 &quot;where are trees&quot;</pre></main></html>"
        )

    return Route("/", page)


def _row(fact: StatusRow) -> str:
    mark = {True: " class=ok", False: " class=bad", None: ""}[fact.ok]
    return f"<tr><th scope=row>{html.escape(fact.name)}</th><td{mark}>{html.escape(fact.value)}</td></tr>"
