"""Gateway, worker and query service as commands: each does its own work, and says who does the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest

from deploy.local.cluster import Cluster
from deploy.local.services import Service
from lorestream.grpc import memory_pb2, memory_pb2_grpc
from tests import zygote
from tests.brokers import missing_is_skipped
from tests.processes import clean_environment

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One of each, and a worker only where a test runs one."""
    directory = tmp_path_factory.mktemp("services")
    made = Cluster(
        directory, gateways=1, workers=1, queries=1, settings={"LORESTREAM_EMBEDDER__KIND": "hash"}
    )
    with missing_is_skipped():
        for stage in (made.engines, [*made.gateways, *made.queries]):
            for each in [one.spawn() for one in stage]:
                each.wait_ready()
    try:
        yield made
    finally:
        made.stop()


def write(cluster: Cluster, agent: str, *texts: str) -> str:
    """Accepted by the gateway; the token."""
    events = [{"agent_id": agent, "id": text, "text": text} for text in texts]
    answer = httpx2.post(f"{cluster.gateways[0].url}/v1/events", json={"events": events}, timeout=10)
    assert answer.status_code == 202, answer.text
    return answer.json()["token"]


def search(cluster: Cluster, agent: str, **body: object) -> dict:
    asked = {"agent_id": agent, "query": "anything", "k": 100, **body}
    answer = httpx2.post(f"{cluster.queries[0].url}/v1/memories/search", json=asked, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def found(cluster: Cluster, agent: str) -> list[str]:
    return sorted(memory["text"] for memory in search(cluster, agent)["memories"])


def run(cluster: Cluster, *command: str) -> subprocess.CompletedProcess[str]:
    environment = cluster.workers[0].environment
    return zygote.run([sys.executable, "-m", "lorestream.cli", *command], env=environment, timeout=TIMEOUT_S)


def test_a_burst_worker_drains_the_log_and_ends(cluster: Cluster) -> None:
    url = f"{cluster.queries[0].url}/v1/stream?agent_id=npc:burst"
    with httpx2.stream("GET", url, timeout=TIMEOUT_S) as stream:
        token = write(cluster, "npc:burst", "one", "two", "three")
        assert search(cluster, "npc:burst", after=token, wait_ms=300)["fresh"] is False

        done = run(cluster, "worker", "--burst", "--metrics-port", "0")

        data = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        assert [next(data)["text"] for _ in range(3)] == ["one", "two", "three"]

    assert done.returncode == 0, done.stderr
    assert search(cluster, "npc:burst", after=token, wait_ms=5000)["fresh"] is True
    assert found(cluster, "npc:burst") == ["one", "three", "two"]


def test_those_at_home_in_faust_start_the_same_worker(cluster: Cluster) -> None:
    token = write(cluster, "npc:faust", "still here")
    command = [sys.executable, "-m", "faust", "-A", "stream_workers.faust_app", "worker"]
    worker = subprocess.Popen(
        command,
        env=cluster.workers[0].environment | {"PYTHONPATH": str(ROOT)},
        cwd=cluster.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert search(cluster, "npc:faust", after=token, wait_ms=45_000)["fresh"] is True
    finally:
        worker.send_signal(signal.SIGTERM)
        said, _ = worker.communicate(timeout=TIMEOUT_S)
    assert worker.returncode == 0, said
    assert found(cluster, "npc:faust") == ["still here"]
    assert not (cluster.directory / "lorestream-data").exists()


def test_each_service_sends_callers_of_the_other_away_by_name(cluster: Cluster) -> None:
    gateway, query = cluster.gateways[0], cluster.queries[0]
    for service, method, path, other in (
        (gateway, "POST", "/v1/memories/search", "query"),
        (gateway, "GET", "/v1/agents", "query"),
        (gateway, "POST", "/memory/get", "query"),
        (query, "POST", "/v1/events", "gateway"),
        (query, "DELETE", "/v1/agents/npc%3Aa", "gateway"),
        (query, "PUT", "/memory/put", "gateway"),
        (query, "GET", "/v1/erasures/x", "gateway"),
    ):
        answer = httpx2.request(method, f"{service.url}{path}", timeout=10)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "wrong_service"
        assert other in answer.json()["error"]["message"]
        assert answer.history == []


def test_the_query_service_has_the_console(cluster: Cluster) -> None:
    for path in ("/console", "/console/views/agents.js"):
        answer = httpx2.get(f"{cluster.queries[0].url}{path}", timeout=10)
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_a_verb_that_no_service_serves_says_what_to_do(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.gateways[0].url
    environment = clean_environment(LORESTREAM_URL=url, LORESTREAM_DATA_DIR=str(tmp_path))
    command = [sys.executable, "-m", "lorestream.cli", "dlq", "ls"]
    done = zygote.run(command, env=environment, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"lorestream: the service at {url} ")
    assert "LORESTREAM_LOG__BOOTSTRAP=" in done.stderr
    assert done.stderr.count("\n") == 1


def test_over_grpc_too(cluster: Cluster) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{cluster.gateways[0].grpc_port}") as channel:
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        assert stub.PutMemory(memory_pb2.PutMemoryRequest(agent_id="npc:rpc", text="hello")).success
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetMemory(memory_pb2.GetMemoryRequest(agent_id="npc:rpc", query_text="hello"))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "query service" in caught.value.details()
    with grpc.insecure_channel(f"127.0.0.1:{cluster.queries[0].grpc_port}") as channel:
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.PutMemory(memory_pb2.PutMemoryRequest(agent_id="npc:rpc", text="hello"))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "gateway" in caught.value.details()


def pipeline(cluster: Cluster) -> tuple[dict, dict[str, dict]]:
    """What the query service tells of the pipeline, and its parts by name."""
    told = httpx2.get(f"{cluster.queries[0].url}/v1/admin/pipeline", timeout=30).json()
    return told, {one["name"]: one for one in told["parts"]}


def test_the_worker_says_how_it_is_doing(cluster: Cluster) -> None:
    worker = cluster.workers[0].start()
    try:
        ready: dict[str, Any] = {}
        deadline = time.monotonic() + 60
        while ready.get("checks") != dict.fromkeys(("indexer", "store", "log", "cache", "clock"), "ok"):
            assert time.monotonic() < deadline, ready  # on a busy machine an answer of Redis may be late once
            ready = httpx2.get(f"{worker.url}/ready", timeout=30).json()
        assert (ready["status"], ready["service"]) == ("ok", "worker")
        token = write(cluster, "npc:told", "counted")
        assert search(cluster, "npc:told", after=token, wait_ms=30_000)["fresh"] is True
        metrics = httpx2.get(f"{worker.url}/metrics", timeout=30).text
        for name in (
            "lorestream_event_visible_seconds_count",
            'lorestream_stage_duration_seconds_count{stage="upsert"}',
            "lorestream_batch_size_count",
            "lorestream_consumer_lag_records",
            "lorestream_rebalances_total",
        ):
            assert f"\n{name} " in metrics
        priorities = [os.getpriority(os.PRIO_PROCESS, each.pid) for each in (worker, cluster.queries[0])]
        assert priorities[0] == min(19, priorities[1] + 15), "whoever asks goes before who writes"
        told, parts = pipeline(cluster)
        assert {one["owner"].partition(" at ")[0][:11] for one in told["partitions"]} == {"lorestream-"}
        assert parts["worker"]["gauges"] == {"workers": 1}
        assert (parts["worker"]["state"], parts["gateway"]["state"]) == ("elsewhere", "elsewhere")
        assert parts["store"]["gauges"]["memories"] >= 1
        assert worker.stop() == 0, "killed, because it did not end within stop_s"
    finally:
        worker.kill()
    told, parts = pipeline(cluster)
    assert (told["lag_records"], told["lag_seconds"]) == (0, 0)
    assert parts["worker"]["state"] == "problem"
    write(cluster, "npc:told", "later")
    told, _ = pipeline(cluster)
    assert told["lag_records"] == 1
    assert told["lag_seconds"] > 0
    answer = httpx2.post(f"{cluster.queries[0].url}/v1/admin/dlq-ls", json={}, timeout=30)
    assert json.loads(answer.text.splitlines()[-1])["value"]["shown"] == 0
    refused = httpx2.post(f"{cluster.queries[0].url}/v1/admin/dlq-drop", json={"every": True}, timeout=30)
    assert refused.status_code == 404


def test_the_doctor_looks_at_every_server(cluster: Cluster) -> None:
    told = json.loads(run(cluster, "doctor", "--json").stdout)
    verdicts = {check["name"]: check["verdict"] for check in told["checks"]}
    assert {verdicts[name] for name in ("kafka", "qdrant", "player key")} == {"ok"}
    assert verdicts["redis"] in {"ok", "warning"}

    away = dict(cluster.workers[0].environment)
    away |= {"LORESTREAM_LOG__BOOTSTRAP": "127.0.0.1:1", "LORESTREAM_STORE__URL": "http://127.0.0.1:1"}
    away |= {"LORESTREAM_STORE__GRPC_PORT": "1", "LORESTREAM_CACHE__URL": "redis://127.0.0.1:1/0"}
    away.pop("LORESTREAM_PLAYER_KEY_FILE")
    command = [sys.executable, "-m", "lorestream.cli", "doctor", "--json"]
    done = zygote.run(command, env=away, timeout=TIMEOUT_S)
    assert done.returncode == 3
    failed = {
        check["name"]: check for check in json.loads(done.stdout)["checks"] if check["verdict"] == "failed"
    }
    assert {"kafka", "qdrant", "redis", "player key"} <= set(failed)
    assert "LORESTREAM_LOG__BOOTSTRAP" in failed["kafka"]["fix"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"LORESTREAM_LOG__RETENTION_DAYS": "7"}, "retention.ms"),
        ({"LORESTREAM_EMBEDDER__DIM": "128"}, "filled by"),
        (
            {
                "LORESTREAM_STORE__KIND": "edge",
                "LORESTREAM_STORE__URL": None,
                "LORESTREAM_STORE__GRPC_PORT": None,
            },
            "LORESTREAM_STORE__URL",
        ),
        ({"LORESTREAM_CACHE__KIND": "local", "LORESTREAM_CACHE__URL": None}, "LORESTREAM_CACHE__URL"),
    ],
)
def test_what_does_not_fit_is_refused_at_start_in_one_line(
    cluster: Cluster, changed: dict[str, str | None], said: str
) -> None:
    environment = dict(cluster.workers[0].environment)
    for name, value in changed.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    command = [sys.executable, "-m", "lorestream.cli", "worker", "--metrics-port", "0"]
    done = zygote.run(command, env=environment, timeout=TIMEOUT_S)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("lorestream: ")
    assert said in last
    assert "Traceback" not in done.stderr


def test_off_loopback_a_service_wants_keys(cluster: Cluster) -> None:
    done = run(cluster, "query", "--host", "0.0.0.0", "--port", "0", "--grpc-port", "0")
    assert done.returncode == 1
    assert "API keys" in done.stderr


def test_with_a_key_file_both_services_know_their_callers(cluster: Cluster, tmp_path: Path) -> None:
    file = str(tmp_path / "keys.json")
    made = run(cluster, "keys", "create", "--tenant", "east", "--scope", "query", "--file", file)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    query = Service("query-keys", tmp_path, cluster.queries[0].environment, "query")
    query.environment["LORESTREAM_API_KEYS_FILE"] = file
    gateway = Service("gateway-keys", tmp_path, cluster.gateways[0].environment, "gateway")
    gateway.environment["LORESTREAM_API_KEYS_FILE"] = file
    with query, gateway:
        asked = {"agent_id": "npc:burst", "query": "one"}
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {key}"}, 200)):
            answer = httpx2.post(f"{query.url}/v1/memories/search", json=asked, headers=headers, timeout=10)
            assert answer.status_code == status
        assert answer.json()["memories"] == []  # another tenant's
        events = {"events": [{"agent_id": "a", "text": "t"}]}
        sent = httpx2.post(
            f"{gateway.url}/v1/events", json=events, headers={"Authorization": f"Bearer {key}"}, timeout=10
        )
        assert sent.status_code == 403  # the key may only ask
