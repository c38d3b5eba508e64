"""Without API keys, web pages of others can neither write nor read: Host, Origin and Sec-Fetch-Site."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lorestream.http import local_only
from tests.api_keys import bearer
from tests.whole_app import WholeApp, open_app

EVENTS = b'{"events": [{"agent_id": "a", "text": "planted"}]}'


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[WholeApp]:
    async with open_app(tmp_path / "data") as opened:
        yield opened


ROUTES = [
    ("POST", "/v1/events", EVENTS),
    ("POST", "/v1/erasures", b'{"agent_id": "a"}'),
    ("POST", "/v1/admin/cache-clear", b"{}"),
    ("POST", "/v1/memories/search", b'{"agent_id": "a", "query": "x"}'),
    ("GET", "/v1/agents", b""),
    *(("GET", page, b"") for page in ("/", "/docs", "/openapi.json", "/metrics", "/ready", "/nowhere")),
]


PAGES = [
    {"Host": "evil.example"},
    {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Host": "localhost.evil.example:8080"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]
"""What browsers send for pages of others."""


async def test_a_web_page_of_another_origin_neither_writes_nor_reads(app: WholeApp):
    for page in PAGES:
        for method, path, body in ROUTES:
            headers = {"Content-Type": "text/plain", **page}
            answer = await app.http.request(method, path, content=body, headers=headers)
            assert answer.status_code == 403, (path, page)
            assert answer.json()["error"]["code"] == "forbidden"
            assert "LORESTREAM_API_KEYS_FILE" in answer.json()["error"]["message"]
    assert sum((await app.runtime.log.end()).values()) == 0


CALLERS = [
    {},
    {"Content-Type": "text/plain"},
    {"Host": "localhost"},
    {"Host": "[::1]:8080"},
    {"Host": "LOCALHOST:9", "Origin": "http://localhost:9", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
]
"""What other programs send, and browsers for pages of the service."""


async def test_programs_and_the_pages_of_the_service_are_answered(app: WholeApp):
    for caller in CALLERS:
        planted = await app.http.post("/v1/events", content=EVENTS, headers=caller)
        assert planted.status_code == 202, caller
        for page in ("/", "/docs", "/v1/agents"):
            assert (await app.http.get(page, headers=caller)).status_code == 200, caller


LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


async def test_a_link_on_a_page_of_another_origin_is_followed(app: WholeApp):
    for site in ("cross-site", "same-site"):
        for method in ("GET", "HEAD"):
            followed = await app.http.request(method, "/docs", headers={**LINK, "Sec-Fetch-Site": site})
            assert followed.status_code == 200


async def test_all_else_of_a_page_of_another_origin_is_refused_though_it_looks_like_a_link(app: WholeApp):
    """A form is a navigation too; a frame shows the page under another one; a name may resolve to 127.0.0.1."""
    for changed in (
        {"Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Mode": "no-cors"},
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
    ):
        for path in ("/docs", "/v1/agents"):
            assert (await app.http.get(path, headers={**LINK, **changed})).status_code == 403, changed
    for method, path, body in ROUTES:
        if method == "POST":
            for verb in ("POST", "PUT", "DELETE", "OPTIONS"):
                answer = await app.http.request(verb, path, content=body, headers=LINK)
                assert answer.status_code == 403, (verb, path)
    assert sum((await app.runtime.log.end()).values()) == 0


async def test_with_keys_any_host_name_serves_and_the_page_shows_no_path(tmp_path: Path):
    """Browsers send no key by themselves, so other pages can do nothing; proxies keep the name that the client used."""
    bearer(tmp_path / "keys.json")
    async with open_app(tmp_path / "data", api_keys_file=tmp_path / "keys.json") as app:
        http = app.http
        answer = await http.get("/", headers={"Host": "memory.example", "Origin": "https://game.example"})
        assert answer.status_code == 200
        assert str(tmp_path) not in answer.text
        planted = await http.post("/v1/events", content=EVENTS, headers={"Origin": "https://evil.example"})
        assert planted.status_code == 401


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        (b"localhost", True),
        (b"localhost:", True),
        (b"127.0.0.1:65535", True),
        (b"127.99.0.3", True),
        (b"[::1]", True),
        (b"[0:0:0:0:0:0:0:1]:80", True),
        (b"[::ffff:127.0.0.1]", True),
        (b"", False),
        (b"0.0.0.0:8080", False),
        (b"[::]", False),
        (b"192.168.1.2", False),
        (b"127.0.0.1.evil.example", False),
        (b"evil.example:127", False),
        (b"localhost@evil.example", False),
        (b"127.0.0.1, evil.example", False),
        (b"127.1", False),
        (b"2130706433", False),
        (b"[::1", False),
        (b"\xff", False),
        (b"localhost\x00", False),
    ],
)
def test_which_host_names_are_this_machine(host: bytes, is_local: bool):
    assert local_only.is_loopback(host) is is_local
