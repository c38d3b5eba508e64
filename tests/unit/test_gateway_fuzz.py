"""Fuzzing: no input causes a server error, and the worker can process everything that was accepted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.http_gateway import HttpGateway, open_http_gateway
from tests.parts import read_dead_letters

QUICK = settings(max_examples=80, suppress_health_check=list(HealthCheck))

# Lone surrogates too: json.dumps writes them as escapes.
TEXT = st.text(st.characters(), max_size=20)
NUMBERS = (
    st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([0, -0.0, 1e308, 5e-324, 2**63, -(2**63) - 1, 1_760_000_000.5, 10**400])
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "agent_id": st.sampled_from(["a", "player:Bob", "x:player:", ""]) | TEXT,
    "id": TEXT,
    "text": TEXT,
    "type": st.sampled_from(["dig", "chat", "lorestream.x"]) | TEXT,
    "data": st.dictionaries(TEXT, JSON, max_size=3),
    "metadata": st.dictionaries(TEXT, JSON, max_size=3),
    "player": TEXT,
    "memory_id": st.uuids().map(str) | TEXT,
    "pos": st.dictionaries(st.sampled_from("xyzw"), NUMBERS | st.none()),
    "tick": NUMBERS,
    "time": NUMBERS,
    "importance": NUMBERS | st.floats(0, 10),
    "ttl": NUMBERS,
    "server": TEXT,
}
LIKELY = st.fixed_dictionaries({}, optional={name: of | JSON for name, of in FIELDS.items()})
WELL_MEANT = st.fixed_dictionaries(
    {"agent_id": FIELDS["agent_id"], "text": FIELDS["text"]},
    optional={name: of for name, of in FIELDS.items() if name not in {"agent_id", "text"}},
)
ROUTES = st.sampled_from(
    [
        ("POST", "/v1/events"),
        ("PUT", "/v1/events?wait=indexed&timeout_ms=0"),
        ("POST", "/memory/put"),
        ("POST", "/memory/delete"),
        ("POST", "/v1/erasures"),
    ]
)
ENCODINGS = st.sampled_from([None, "gzip", "zstd", "identity", "br", "gzip, zstd"])


@contextmanager
def running_edge(data: Path) -> Iterator[tuple[asyncio.Runner, HttpGateway]]:
    with asyncio.Runner() as runner:
        opened = open_http_gateway(data)
        service = runner.run(opened.__aenter__())
        try:
            yield runner, service
            # Everything that got in is something that the worker can work with.
            runner.run(service.index())
            assert runner.run(read_dead_letters(service.runtime.log)) == []
        finally:
            runner.run(opened.__aexit__(None, None, None))


def test_random_bytes_cause_no_server_error(tmp_path: Path) -> None:
    with running_edge(tmp_path) as (runner, service):

        @QUICK
        @given(
            ROUTES, st.binary(max_size=200) | LIKELY.map(lambda each: json.dumps(each).encode()), ENCODINGS
        )
        @example(("POST", "/v1/events"), b'{"events":[%s' % (b'{"events":[' * 20_000), None)
        @example(("POST", "/v1/erasures"), b"[" * 100_000, None)
        @example(
            ("POST", "/memory/put"), b'{"agent_id":"a","text":"x","metadata":%s' % (b'{"a":' * 50_000), None
        )
        def attempt(route: tuple[str, str], body: bytes, encoding: str | None) -> None:
            method, path = route
            headers = {"content-encoding": encoding} if encoding else {}
            answer = runner.run(service.http.request(method, path, content=body, headers=headers))
            assert answer.status_code < 500, answer.text
            assert answer.status_code < 300 or answer.json()["error"]["message"]

        attempt()


def test_random_json_causes_no_server_error(tmp_path: Path) -> None:
    with running_edge(tmp_path) as (runner, service):

        @QUICK
        @given(ROUTES, LIKELY | st.fixed_dictionaries({"events": st.lists(LIKELY | JSON)}) | JSON)
        def attempt(route: tuple[str, str], body: object) -> None:
            method, path = route
            answer = runner.run(service.http.request(method, path, content=json.dumps(body).encode()))
            assert answer.status_code < 500, answer.text
            assert answer.status_code < 300 or answer.json()["error"]["message"]

        attempt()


def test_a_bad_event_never_affects_the_others(tmp_path: Path) -> None:
    good = {"agent_id": "good", "text": "as it should be"}
    with running_edge(tmp_path) as (runner, service):

        @QUICK
        @given(st.lists(WELL_MEANT | LIKELY | JSON, max_size=6))
        def attempt(others: list[object]) -> None:
            mixed = [part for other in others for part in (good, other)]
            body = json.dumps({"events": [*mixed, good]}).encode()
            answer = runner.run(service.http.post("/v1/events", content=body))
            assert answer.status_code == 202, answer.text
            result = answer.json()
            assert all(result["ids"][index] for index in range(0, len(mixed) + 1, 2))
            refused = [index for index, given_id in enumerate(result["ids"]) if given_id is None]
            assert [each["index"] for each in result["rejected"]] == refused
            assert result["accepted"] + len(refused) == len(mixed) + 1

        attempt()


def test_random_paths_cause_no_server_error(tmp_path: Path) -> None:
    with running_edge(tmp_path) as (runner, service):

        @QUICK
        @given(
            st.sampled_from(["/v1/memories/", "/v1/agents/", "/v1/players/", "/v1/erasures/"]),
            st.binary(max_size=30),
            st.none() | st.binary(max_size=30),
        )
        def attempt(path: str, part: bytes, query: bytes | None) -> None:
            encoded = "".join(f"%{byte:02X}" for byte in part)
            asked = "" if query is None else "?agent_id=" + "".join(f"%{byte:02X}" for byte in query)
            for method in ("DELETE", "GET"):
                answer = runner.run(service.http.request(method, f"{path}{encoded}{asked}"))
                assert answer.status_code < 500, answer.text

        attempt()
