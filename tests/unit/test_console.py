"""The files of the console: how they are served, how large they are, and that the vendored ones are what they say."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette

from deploy.vendored import ROOT, digest, load_manifest
from lorestream.http.console import CONTENT_SECURITY_POLICY, console_routes

CONSOLE = ROOT / "lorestream" / "console"
MAX_BYTES = 200_000
"""What a browser loads for all views together, compressed."""
_IMPORTED = re.compile(r"""(?:from|import\()\s*"([^"]+)\"""")


@pytest.fixture
def http() -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=Starlette(routes=console_routes()))
    return httpx2.AsyncClient(transport=transport, base_url="http://lorestream")


def own_modules() -> list[Path]:
    return [path for path in CONSOLE.rglob("*.js") if path.parent.name != "lib"]


async def test_the_page_and_its_files_are_served_with_their_policy_and_are_kept_by_the_browser(
    http: httpx2.AsyncClient,
):
    for path, media_type in {
        "/console": "text/html",
        "/console/app.js": "text/javascript",
        "/console/style.css": "text/css",
        "/console/icon.svg": "image/svg+xml",
    }.items():
        answer = await http.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(media_type)
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-encoding"] == "gzip"
        again = await http.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        plain = await http.get(path, headers={"Accept-Encoding": "gzip;q=0, identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content


@pytest.mark.parametrize(
    "path",
    [
        *("/console/nothing.js", "/console/lib", "/console/../__init__.py", "/console/..%2f__init__.py"),
        *("/console//etc/passwd", "/console/lib/../../errors.py", "/console/%00", "/console/app.js/"),
    ],
)
async def test_nothing_but_its_files_is_served(http: httpx2.AsyncClient, path: str):
    assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("path", ["/console", "/console/", "/console/index.html"])
async def test_the_page_has_several_addresses_and_its_references_lead_to_files_from_each(
    http: httpx2.AsyncClient, path: str
):
    answer = await http.get(path)
    assert (answer.status_code, answer.url.path) == (200, path)
    references = [str(answer.url.join(one)) for one in re.findall(r'(?:href|src)="([^"]+)"', answer.text)]
    assert "http://lorestream/docs" in references
    for reference in references:
        if reference != "http://lorestream/docs":
            assert (await http.get(reference)).status_code == 200, reference


def test_there_is_nothing_inline_and_no_markup_from_texts():
    page = (CONSOLE / "index.html").read_text(encoding="utf-8")
    assert "default-src 'self'" in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|https?://", page)
    for path in own_modules():
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
        ), path


def test_every_import_leads_to_a_file():
    for path in CONSOLE.rglob("*.js"):
        if path.name in {"uplot.js", "leaflet.js"}:
            continue
        for name in _IMPORTED.findall(path.read_text(encoding="utf-8")):
            assert name.startswith("."), f"{path} imports {name}, which no browser finds"
            assert (path.parent / name).is_file(), f"{path} imports {name}"


def test_all_views_together_are_small():
    files = [path for path in CONSOLE.rglob("*") if path.suffix in {".js", ".css", ".html", ".svg"}]
    size = sum(len(gzip.compress(path.read_bytes(), 9)) for path in files)
    assert size <= MAX_BYTES, f"{size:,} bytes"


def test_vendored_files_are_those_of_their_packages():
    listed = {file["to"]: file["sha256"] for package in load_manifest() for file in package["files"]}
    for path, expected in listed.items():
        assert digest((ROOT / path).read_bytes()) == expected, f"{path} was changed: make vendored"
    lib = {path.relative_to(ROOT).as_posix() for path in (CONSOLE / "lib").rglob("*") if path.is_file()}
    assert lib <= set(listed), "a file has no entry in deploy/vendored.json"
