"""A running lorestream with API keys: isolation of two tenants, key rotation under load, commands with a key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.access.key_file import KeyScope, revoke, rotate
from lorestream.grpc import memory_pb2 as pb
from lorestream.grpc import memory_pb2_grpc
from tests import command_line, zygote
from tests.api_keys import bearer, key_id
from tests.processes import HASH, LorestreamProcess, clean_environment, free_port, running

CANARY = "the canary of tenant A sings of gold"
BUSY = {503, grpc.StatusCode.UNAVAILABLE}
"""What a machine that others use may answer, whoever asks."""


@dataclass
class Tenant:
    """The HTTP client of one tenant."""

    http: httpx2.Client
    rpc: memory_pb2_grpc.MemoryServiceStub
    authorization: str

    def post(self, path: str, body: object, status: int = 200) -> dict[str, Any]:
        answer = self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def remember(self, *events: dict[str, Any]) -> dict[str, Any]:
        return self.post("/v1/events?wait=indexed", {"events": list(events)})

    def wait_until_indexed(self) -> None:
        """Wait until all earlier writes and deletions are visible."""
        self.remember({"agent_id": "npc:settled", "text": "x"})

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", self.authorization),)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_bytes(b'{"version": 1, "keys": []}')
    return path


@pytest.fixture(scope="module")
def lorestream(tmp_path_factory: pytest.TempPathFactory, key_file: Path) -> Iterator[LorestreamProcess]:
    """One process for all tests, listening on all addresses, with a key file without keys."""
    environment = {**HASH, "LORESTREAM_API_KEYS_FILE": str(key_file)}
    with running(tmp_path_factory.mktemp("lorestream"), environment, "--host", "0.0.0.0") as process:
        yield process


def valid(lorestream: LorestreamProcess, authorization: str) -> bool:
    answer = httpx2.get(f"{lorestream.url}/v1/agents", headers={"Authorization": authorization})
    return answer.status_code != 401


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def open_tenant(lorestream: LorestreamProcess, key_file: Path, name: str) -> Iterator[Tenant]:
    authorization = bearer(key_file, tenant=name)
    until(lambda: valid(lorestream, authorization))
    headers = {"Authorization": authorization}
    with (
        httpx2.Client(base_url=lorestream.url, headers=headers, timeout=20) as http,
        grpc.insecure_channel(f"127.0.0.1:{lorestream.grpc_port}") as channel,
    ):
        yield Tenant(http, memory_pb2_grpc.MemoryServiceStub(channel), authorization)


@pytest.fixture(scope="module")
def a(lorestream: LorestreamProcess, key_file: Path) -> Iterator[Tenant]:
    with open_tenant(lorestream, key_file, "a") as tenant:
        yield tenant


@pytest.fixture(scope="module")
def b(lorestream: LorestreamProcess, key_file: Path) -> Iterator[Tenant]:
    with open_tenant(lorestream, key_file, "b") as tenant:
        yield tenant


def test_without_a_key_every_request_is_refused(lorestream: LorestreamProcess, a: Tenant) -> None:
    a.remember({"agent_id": "npc:open", "text": CANARY})
    assert httpx2.get(f"{lorestream.url}/v1/agents").status_code == 401
    assert httpx2.post(f"{lorestream.url}/v1/events", json={"events": []}).status_code == 401
    with grpc.insecure_channel(f"127.0.0.1:{lorestream.grpc_port}") as channel:
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetMemory(pb.GetMemoryRequest(agent_id="npc:open", query_text=CANARY), timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    for path in ("/", "/health", "/ready", "/metrics", "/docs", "/openapi.json"):
        answer = httpx2.get(lorestream.url + path)
        assert answer.status_code == 200, path
        assert "npc:open" not in answer.text, path
        assert CANARY not in answer.text, path
        assert "scope=row>Memories" not in answer.text, "the page tells what tenants have"


def test_a_tenant_sees_nothing_of_another(a: Tenant, b: Tenant) -> None:
    """With the same agent, event ids and player: no response to tenant b contains the canary."""
    agent = "npc:twin"
    event = {"agent_id": agent, "id": "e1", "type": "chat", "player": "sam", "data": {"n": 1}}
    more = [{"agent_id": agent, "id": f"m{n}", "text": f"{CANARY} {n}", "time": 1000 + n} for n in range(5)]
    written = a.remember({**event, "text": CANARY}, *more)
    own = b.remember({**event, "text": "b's own"})
    assert not set(written["ids"]) & set(own["ids"])
    deletion = a.http.delete(f"/v1/memories/{written['ids'][5]}?agent_id={agent}").json()
    erasure = a.post("/v1/erasures", {"agent_id": "npc:gone"}, 202)
    page = a.http.get(f"/v1/agents/{agent}/memories?limit=2").json()
    assert page["next_cursor"]

    search = {"query": CANARY, "k": 100}
    answers = [
        b.http.post("/v1/memories/search", json={**search, "agent_id": agent}),
        b.http.post(
            "/v1/memories/search",
            json={**search, "agent_id": agent, "after": written["token"], "explain": True},
        ),
        b.http.post("/v1/memories/search", json={**search, "agent_ids": [agent, "npc:open"]}),
        b.http.post("/v1/memories/search", json={**search, "scope": "tenant"}),
        b.http.post("/v1/memories/search", json={"scope": "tenant", "k": 100}),
        b.http.post("/v1/memories/search", json={"agent_id": agent, "filters": {"player": "sam"}}),
        b.http.post(
            "/v1/memories/search/batch",
            json={"searches": [{**search, "agent_id": agent}, {"scope": "tenant"}]},
        ),
        b.http.post("/memory/get", json={"agent_id": agent, "query": CANARY, "k": 100}),
        b.http.get(f"/v1/agents/{agent}/memories?limit=100"),
        b.http.get(f"/v1/agents/{agent}/memories?cursor={page['next_cursor']}"),
        b.http.get(f"/v1/agents/{agent}/memories?order=oldest&cursor={page['next_cursor']}"),
        b.http.get(f"/v1/agents/{agent}/summary"),
        b.http.get("/v1/agents?limit=1000"),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert "canary" not in answer.text
        assert not any(memory_id in answer.text for memory_id in written["ids"])
    assert answers[8].json()["total"] == answers[11].json()["total"] == 1
    assert {"agent_id": agent, "total": 1} in answers[12].json()["agents"]
    assert "npc:open" not in answers[12].text

    for memory_id in written["ids"]:
        assert b.http.get(f"/v1/memories/{memory_id}?agent_id={agent}").status_code == 404
    for mine in (deletion, erasure):
        assert a.http.get(f"/v1/erasures/{mine['erasure_id']}").status_code == 200
        assert b.http.get(f"/v1/erasures/{mine['erasure_id']}").status_code == 404
    found = b.rpc.GetMemory(
        pb.GetMemoryRequest(agent_id=agent, query_text=CANARY, k=100), metadata=b.metadata, timeout=30
    )
    assert [memory.text for memory in found.memories] == ["b's own"]


def test_a_tenant_deletes_nothing_of_another(a: Tenant, b: Tenant) -> None:
    agent = "npc:kept"
    ids = a.remember(
        {"agent_id": agent, "text": CANARY, "player": "kim"}, {"agent_id": "npc:player:kim", "text": "x"}
    )["ids"]
    before = a.http.get(f"/v1/agents/{agent}/memories").json()
    b.http.delete(f"/v1/memories/{ids[0]}?agent_id={agent}")
    b.post("/v1/erasures", {"agent_id": agent, "memory_id": ids[0]}, 202)
    b.http.delete(f"/v1/agents/{agent}")
    b.http.delete("/v1/players/kim")
    b.post("/memory/delete", {"player": "kim"}, 202)
    b.rpc.DeleteMemory(pb.DeleteMemoryRequest(agent_id=agent), metadata=b.metadata, timeout=30)
    b.wait_until_indexed()
    assert a.http.get(f"/v1/agents/{agent}/memories").json() == before
    assert a.http.get("/v1/agents/npc%3Aplayer%3Akim/summary").json()["total"] == 1
    a.rpc.DeleteMemory(pb.DeleteMemoryRequest(agent_id=agent), metadata=a.metadata, timeout=30)
    a.wait_until_indexed()
    assert a.http.get(f"/v1/agents/{agent}/memories").json()["total"] == 0


def test_a_tenant_tails_only_its_own_memories(a: Tenant, b: Tenant) -> None:
    seen: list[dict[str, Any]] = []
    with b.http.stream("GET", "/v1/stream") as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": connected"
        a.remember({"agent_id": "npc:watched", "text": CANARY})
        b.remember({"agent_id": "npc:watched", "text": "b's own"})
        for line in lines:
            if line.startswith("data: "):
                seen.append(json.loads(line[6:]))
                break
    assert [line["text"] for line in seen] == ["b's own"]


@pytest.fixture(scope="module")
def canary(a: Tenant) -> Tenant:
    """Tenant a with a canary memory that a search finds."""
    a.remember({"agent_id": "npc:open", "text": CANARY, "data": {"n": 1}})
    found = a.post("/v1/memories/search", {"scope": "tenant", "query": CANARY})
    assert CANARY in {memory["text"] for memory in found["memories"]}
    return a


_fields = st.sampled_from(
    [
        "tenant",
        "agent_id",
        "agent_key",
        "text",
        "type",
        "player",
        "id",
        "memory_id",
        "metadata.n",
        "n",
        "$",
        "*",
    ]
)
_values = st.sampled_from(["a", "b", "default", CANARY, "npc:open", 1, None, True, ["a", "b"]])
_conditions = st.dictionaries(
    _fields,
    _values
    | st.dictionaries(
        st.sampled_from(["eq", "ne", "in", "nin", "gte", "contains", "exists"]), _values, max_size=2
    ),
    max_size=3,
)
_filters = st.recursive(
    _conditions,
    lambda inner: (
        st.dictionaries(st.sampled_from(["AND", "OR"]), st.lists(inner, max_size=3), max_size=1)
        | st.dictionaries(st.just("NOT"), inner, max_size=1)
    ),
    max_leaves=4,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters=_filters, extra=st.dictionaries(st.sampled_from(["tenant", "grants"]), _values, max_size=1))
def test_no_filter_reaches_another_tenant(
    canary: Tenant, b: Tenant, filters: dict[str, Any], extra: dict[str, Any]
) -> None:
    for scope in ({"scope": "tenant"}, {"agent_id": "npc:open"}):
        for query in ({}, {"query": CANARY}):
            body = {**scope, **query, "filters": filters, "k": 100, **extra}
            answer = b.http.post("/v1/memories/search", json=body)
            assert answer.status_code in {200, 400}, answer.text
            if answer.status_code == 200:
                assert "canary" not in answer.text


# --- keys that change ------------------------------------------------------------------------------------------


async def test_keys_are_rotated_under_load_without_a_failed_call(
    lorestream: LorestreamProcess, key_file: Path
) -> None:
    """Create the new key, use it everywhere, revoke the old one: no call fails."""
    current = bearer(key_file, tenant="rotated")
    await asyncio.to_thread(until, lambda: valid(lorestream, current))
    codes: list[object] = []
    under_way: dict[int, str] = {}
    rotated = asyncio.Event()

    async def calls(number: int, http: httpx2.AsyncClient, stub: Any) -> None:
        while not rotated.is_set():
            under_way[number] = current
            headers, metadata = {"Authorization": current}, (("authorization", current),)
            answer = await http.post("/memory/put", json={"agent_id": "a", "text": "x"}, headers=headers)
            codes.append(answer.status_code)
            request = pb.GetMemoryRequest(agent_id="a", query_text="x")
            try:
                await stub.GetMemory(request, metadata=metadata, timeout=30)
                codes.append(grpc.StatusCode.OK)
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())

    async with (
        httpx2.AsyncClient(base_url=lorestream.url) as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{lorestream.grpc_port}") as channel,
    ):
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        calling = [asyncio.create_task(calls(number, http, stub)) for number in range(4)]
        for _ in range(3):
            old = current
            fresh = f"Bearer {rotate(key_file, key_id(old)).credential}"
            await asyncio.to_thread(until, lambda fresh=fresh: valid(lorestream, fresh))
            current = fresh
            while old in under_way.values():
                await asyncio.sleep(0.01)
            revoke(key_file, key_id(old))
            await asyncio.to_thread(until, lambda old=old: not valid(lorestream, old))
        rotated.set()
        await asyncio.gather(*calling)
    assert len(codes) > 100
    assert set(codes) - BUSY == {202, grpc.StatusCode.OK}


def test_a_stream_ends_when_its_key_is_revoked(
    lorestream: LorestreamProcess, key_file: Path, a: Tenant
) -> None:
    sent = bearer(key_file, KeyScope.ADMIN, KeyScope.QUERY, tenant="a")
    until(lambda: valid(lorestream, sent))
    with httpx2.stream("GET", f"{lorestream.url}/v1/stream", headers={"Authorization": sent}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": connected"
        revoke(key_file, key_id(sent))
        until(lambda: not valid(lorestream, sent))
        a.remember({"agent_id": "npc:after", "text": CANARY})
        assert [line for line in lines if line.startswith("data: ")] == []


def test_a_broken_file_leaves_the_keys_as_they_are(
    lorestream: LorestreamProcess, key_file: Path, a: Tenant
) -> None:
    good = key_file.read_bytes()
    try:
        draft = key_file.with_name("draft")
        draft.write_bytes(good[:100])
        draft.rename(key_file)  # at once: a file that is written in place is seen half
        until(lambda: "the key file cannot be read" in lorestream.output())
        assert a.http.get("/v1/agents").status_code == 200
    finally:
        key_file.write_bytes(good)
    fresh = bearer(key_file)
    until(lambda: valid(lorestream, fresh))
    assert lorestream.output().count("the key file cannot be read") == 1


def test_no_secret_is_logged(lorestream: LorestreamProcess, a: Tenant) -> None:
    secret = a.authorization.partition(".")[2]
    assert secret not in lorestream.output()


# --- garbage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [b"Bearer " + b"x" * 2**20, b"Bearer \xff\xfe.\x80", b"\x01\x02", b"Bearer a.b, Bearer c.d"]
)
def test_an_invalid_authorization_header_is_refused(
    lorestream: LorestreamProcess, a: Tenant, value: bytes
) -> None:
    request = b"GET /v1/agents HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r\nConnection: close\r\n\r\n" % value
    with socket.create_connection(("127.0.0.1", lorestream.port), timeout=10) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                answer += chunk
    assert answer == b"" or int(answer.split()[1]) in {400, 401, 431}
    assert a.http.get("/v1/agents").status_code == 200


# --- the start, and the verbs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, "", "{}", '{"version": 9, "keys": []}'])
def test_a_start_without_a_valid_file_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    ports = ["--port", str(free_port()), "--grpc-port", str(free_port())]
    command = [sys.executable, "-m", "lorestream.cli", "up", "--data", str(tmp_path / "data"), *ports]
    environment = {**HASH, "LORESTREAM_API_KEYS_FILE": str(path), "LORESTREAM_LOG_LEVEL": "error"}
    ended = zygote.run(command, env=clean_environment(**environment), timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.strip().splitlines()
    assert str(path) in line


def verb(
    lorestream: LorestreamProcess, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    given = clean_environment(
        LORESTREAM_URL=lorestream.url, LORESTREAM_DATA_DIR=str(lorestream.data), **HASH, **environment
    )
    return command_line.run_main(*arguments, environment=given, directory=lorestream.data)


def test_the_verbs_send_the_key_of_the_environment(
    lorestream: LorestreamProcess, a: Tenant, b: Tenant, tmp_path: Path
) -> None:
    credential = a.authorization.removeprefix("Bearer ")
    path = tmp_path / "key"
    path.write_text(credential + "\n")
    with_key, with_file = {"LORESTREAM_API_KEY": credential}, {"LORESTREAM_API_KEY_FILE": str(path)}
    assert verb(lorestream, "put", "npc:verb", CANARY, **with_key).returncode == 0
    assert CANARY in verb(lorestream, "search", "npc:verb", CANARY, **with_key).stdout
    assert CANARY in verb(lorestream, "recent", "npc:verb", **with_file).stdout
    assert "npc:verb" in verb(lorestream, "agents", "-n", "1000", **with_key).stdout
    seen = json.loads(verb(lorestream, "doctor", "--wait", "5", "--json", **with_key).stdout)["checks"]
    assert {check["name"]: check["verdict"] for check in seen}["canary"] == "ok"
    assert verb(lorestream, "erase", "--agent", "npc:verb", "--yes", **with_key).returncode == 0
    assert CANARY not in verb(lorestream, "recent", "npc:verb", **with_file).stdout
    other = verb(
        lorestream, "agents", "-n", "1000", LORESTREAM_API_KEY=b.authorization.removeprefix("Bearer ")
    )
    assert "npc:verb" not in other.stdout
    for key in (None, "nobody.nothing", "schl\u00fcssel"):
        answer = verb(lorestream, "agents", **({} if key is None else {"LORESTREAM_API_KEY": key}))
        assert answer.returncode == 1
        assert answer.stderr.startswith("lorestream: ")
        assert answer.stderr.count("\n") == 1


def test_the_tail_sends_the_key_too(lorestream: LorestreamProcess, a: Tenant) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.2):
            a.remember({"agent_id": "npc:tail", "text": "x"})

    writing = threading.Thread(target=write)
    writing.start()
    try:
        credential = a.authorization.removeprefix("Bearer ")
        answer = verb(lorestream, "tail", "-n", "1", "--json", LORESTREAM_API_KEY=credential)
    finally:
        stop.set()
        writing.join()
    assert json.loads(answer.stdout)["agent_id"].startswith("npc:")
