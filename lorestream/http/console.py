"""The pages at /console: static files of lorestream/console/, which use the public API from the browser.

They need no key, as /docs does not: the data that they show comes from the API, which does. A browser keeps a file and
asks with its ETag whether it is still the same. Each file is compressed once, at its first request.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""No inline script or style, nothing of other addresses, in no frame, and no text that becomes markup."""

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))|,|$)", re.IGNORECASE)

_REFERENCE = re.compile(rb'((?:href|src)=")(console/)?')
"""Where a reference of the page begins; those to its own files begin with `console/`."""


@dataclass(frozen=True, slots=True)
class _File:
    media_type: str
    etag: str
    plain: bytes
    compressed: bytes


def console_routes() -> list[Route]:
    """The routes of the pages."""
    return [
        Route("/console", _index),
        Route("/console/{name:path}", _file),
    ]


async def _index(request: Request) -> Response:
    return _respond(request, await asyncio.to_thread(_read, "index.html"))


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name in {"", "index.html"}:
        return _respond(request, await asyncio.to_thread(_read_index_of_folder))
    if name not in _names():
        raise HTTPException(404)
    return _respond(request, await asyncio.to_thread(_read, name))


def _respond(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    body = file.plain
    if _GZIP.search(request.headers.get("accept-encoding", "")):
        body, headers["Content-Encoding"] = file.compressed, "gzip"
    return Response(body, media_type=file.media_type, headers=headers)


@cache
def _names() -> frozenset[str]:
    """The names of all files, such as `lib/preact.js`: no other path is ever read."""
    root = resources.files("lorestream") / "console"
    found: list[str] = []
    folders = [(root, PurePosixPath())]
    while folders:
        folder, path = folders.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((entry, path / entry.name))
            elif PurePosixPath(entry.name).suffix in _TYPES:
                found.append(str(path / entry.name))
    return frozenset(found)


@cache
def _read(name: str) -> _File:
    plain = (resources.files("lorestream") / "console" / name).read_bytes()
    return _prepared(plain, _TYPES[PurePosixPath(name).suffix])


@cache
def _read_index_of_folder() -> _File:
    """The page for addresses below /console/, from where its relative references lead elsewhere. Nothing redirects."""
    page = _read("index.html")
    return _prepared(
        _REFERENCE.sub(lambda found: found[1] + (b"" if found[2] else b"../"), page.plain), page.media_type
    )


def _prepared(plain: bytes, media_type: str) -> _File:
    etag = f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
    return _File(media_type, etag, plain, gzip.compress(plain, 9, mtime=0))
