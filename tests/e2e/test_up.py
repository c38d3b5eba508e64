"""`lorestream up` as a process: what it prints, and errors at start, each of one line that says what to do."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests import zygote
from tests.deploy.test_observability import CONTRACT
from tests.models import real_model
from tests.processes import HASH, LorestreamProcess, clean_environment, free_port, running


@pytest.fixture(scope="module")
def lorestream_hash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LorestreamProcess]:
    """One for all tests that only read from it. It is a new interpreter, as users start one, and no fork."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LorestreamProcess, "popen", subprocess.Popen)
        process = LorestreamProcess(tmp_path_factory.mktemp("lorestream"), HASH)
        process.start()
    try:
        yield process
    finally:
        process.kill()


def refused(*options: str, **environment: str) -> str:
    """Run `lorestream up`, which must fail; return its error line."""
    command = [sys.executable, "-m", "lorestream.cli", "up", *options]
    environment = {**HASH, "LORESTREAM_LOG_LEVEL": "error", **environment}
    ended = zygote.run(command, env=clean_environment(**environment), timeout=60)
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == ""
    [line] = ended.stderr.strip().splitlines()
    return line


def ports() -> list[str]:
    return ["--port", str(free_port()), "--grpc-port", str(free_port())]


def test_it_prints_its_urls_and_paths(lorestream_hash: LorestreamProcess) -> None:
    output = lorestream_hash.output()
    for expected in (
        lorestream_hash.url,
        str(lorestream_hash.data),
        "/docs",
        "/metrics",
        "lorestream demo",
        "hash-v1-384",
    ):
        assert expected in output


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("--data", str(tmp_path), "--port", str(port))
        assert f"port {port}" in line
        assert "--port" in line
        line = refused("--data", str(tmp_path), "--port", str(free_port()), "--grpc-port", str(port))
        assert f"port {port}" in line
        assert "--grpc-port" in line


def test_a_data_directory_in_use(lorestream_hash: LorestreamProcess) -> None:
    line = refused("--data", str(lorestream_hash.data), *ports())
    assert f"in use by process {lorestream_hash.pid}" in line
    assert "--data" in line


def test_a_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("--data", str(tmp_path / "file" / "below"), *ports())


def test_a_missing_model(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "models")
    line = refused(*ports(), LORESTREAM_EMBEDDER__KIND="openvino", LORESTREAM_MODELS_DIR=nowhere)
    assert "lorestream model prepare" in line


def test_a_collection_of_another_model(tmp_path: Path) -> None:
    with running(tmp_path, HASH) as process:
        process.stop()
    line = refused("--data", str(tmp_path), *ports(), LORESTREAM_EMBEDDER__DIM="64")
    assert "hash-v1-384" in line
    assert "--data" in line


def test_a_wrong_dimension(tmp_path: Path) -> None:
    real_model()
    line = refused("--data", str(tmp_path), *ports(), LORESTREAM_EMBEDDER__KIND="auto", EMBEDDING_DIM="768")
    assert "EMBEDDING_DIM" in line
    assert "384" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_keys_only_loopback_is_served(tmp_path: Path, host: str) -> None:
    assert "API keys" in refused("--data", str(tmp_path), "--host", host, *ports())


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    assert "LORESTREAM_TTL_DAYS" in refused("--data", str(tmp_path), *ports(), LORESTREAM_TTL_DAYS="soon")


def test_the_memory_store_warns_and_forgets(tmp_path: Path) -> None:
    forgetful = {**HASH, "LORESTREAM_STORE__KIND": "memory"}
    event = {"events": [{"agent_id": "npc:a", "text": "soon forgotten"}]}
    with running(tmp_path, forgetful) as process:
        assert "forget everything at exit" in process.output()
        assert httpx2.post(f"{process.url}/v1/events?wait=indexed", json=event).status_code == 200
        process.stop()
        process.start()
        assert httpx2.get(f"{process.url}/v1/agents/npc:a/memories").json()["total"] == 0


def test_pages_and_metrics(lorestream_hash: LorestreamProcess) -> None:
    with httpx2.Client(base_url=lorestream_hash.url) as client:
        home = client.get("/")
        assert home.headers["content-type"].startswith("text/html")
        for link in ("/docs", "/metrics", "/openapi.json"):
            assert link in home.text
            assert client.get(link).status_code == 200
        assert "http://" not in client.get("/docs").text.replace("http://127.0.0.1", "")
        assert client.get("/health").json()["status"] == "ok"
        assert client.get("/ready").json()["checks"] == {
            "indexer": "ok",
            "log": "ok",
            "store": "ok",
            "clock": "ok",
        }
        assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
        for name in CONTRACT:
            assert f"# TYPE {name.removesuffix('_total')}" in client.get("/metrics").text


def test_unknown_paths_get_json_errors_and_no_redirect(lorestream_hash: LorestreamProcess) -> None:
    with httpx2.Client(base_url=lorestream_hash.url) as client:
        for path in ("/v1/events/", "/nothing", "/v1/agents/a/memories/"):
            answer = client.get(path)
            assert answer.status_code in {404, 405}
            assert answer.json()["error"]["code"] in {"not_found", "method_not_allowed"}
        assert client.put("/v1/events", json={"events": []}).status_code == 202
        assert set(client.get("/v1/events").headers["allow"].split(", ")) == {"POST", "PUT"}


def test_rate_limits(tmp_path: Path) -> None:
    limits = {"LORESTREAM_LIMITS__AGENT_QUERIES_PER_S": "0.1", "LORESTREAM_LIMITS__EVENTS_PER_S": "0.1"}
    asked = {"agent_id": "npc:asks-a-lot", "query": "again?"}
    event = {"events": [{"agent_id": "npc:a", "text": "again"}]}
    with running(tmp_path / "lorestream", HASH | limits) as lorestream:
        for path, body in (("/v1/memories/search", asked), ("/v1/events", event)):
            first, second = (httpx2.post(f"{lorestream.url}{path}", json=body) for _ in range(2))
            assert first.status_code in {200, 202}
            assert second.status_code == 429
            assert second.json()["error"]["code"] == "rate_limited"
            assert 0 < second.json()["retry_after_ms"] <= 10_000
            assert int(second.headers["Retry-After"]) >= 1
