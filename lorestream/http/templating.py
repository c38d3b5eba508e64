"""Renders the HTML pages from the Jinja2 templates in templates/. The pages contain no script and load nothing."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    from jinja2 import Environment

_CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def render(template: str, **values: object) -> str:
    """The page of a template. All values are escaped, except those of type Markup."""
    return _environment().get_template(template).render(values)


def html_response(page: str) -> HTMLResponse:
    """The response for a page, with a policy that forbids scripts and everything from other addresses."""
    return HTMLResponse(page, headers={"Content-Security-Policy": _CONTENT_SECURITY_POLICY})


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (a tenth of a start)

    environment = Environment(
        loader=PackageLoader("lorestream.http"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    return environment


def prose(text: str) -> Markup:
    """Escaped text in which backquotes mark code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text)))  # noqa: S704 (escaped before)
