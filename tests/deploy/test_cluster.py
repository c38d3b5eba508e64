"""`make cluster`: the whole distributed shape as processes of this machine, from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx2
import pytest

from deploy.local.cluster import Cluster
from deploy.local.process import answers, free_port, program
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.grpc import memory_pb2, memory_pb2_grpc
from lorestream.ports import NewRecord
from lorestream.wiring import SystemClock
from tests.brokers import missing_is_skipped
from tests.command_line import lorestream
from tests.deploy.test_observability import dashboard
from tests.processes import clean_environment, stopped

ROOT = Path(__file__).parents[2]
HASH = {"LORESTREAM_EMBEDDER__KIND": "hash"}


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    with missing_is_skipped():
        cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


def put(cluster: Cluster, agent: str, text: str, event_id: str = "e1") -> dict:
    return put_at(cluster.url, agent, text, event_id)


def put_at(url: str, agent: str, text: str, event_id: str) -> dict:
    """One event through the door, and findable; repeated where a busy machine needs longer than one request may wait."""
    body = {"server": "s", "events": [{"id": event_id, "agent_id": agent, "text": text}]}
    for _ in range(3):
        answer = httpx2.post(f"{url}/v1/events?wait=indexed&timeout_ms=45000", json=body, timeout=50)
        if answer.status_code != 202:
            break
    assert answer.status_code == 200, answer.text
    return answer.json()


def texts(cluster: Cluster, agent: str) -> list[str]:
    answer = httpx2.get(f"{cluster.url}/v1/agents/{agent}/memories", timeout=10)
    assert answer.status_code == 200, answer.text
    return sorted(memory["text"] for memory in answer.json()["memories"])


def test_a_write_at_the_door_is_read_at_the_door(cluster):
    put(cluster, "npc:door", "pine trees stand north of the lake")
    assert texts(cluster, "npc:door") == ["pine trees stand north of the lake"]


def test_grpc_goes_through_the_door_too(cluster):
    with grpc.insecure_channel(cluster.grpc_address) as channel:
        service = memory_pb2_grpc.MemoryServiceStub(channel)
        assert service.PutMemory(memory_pb2.PutMemoryRequest(agent_id="npc:rpc", text="by rpc")).success
        put(cluster, "npc:rpc", "behind it")
        found = service.GetMemory(memory_pb2.GetMemoryRequest(agent_id="npc:rpc", query_text="rpc", k=5))
    assert sorted(memory.text for memory in found.memories) == ["behind it", "by rpc"]


@pytest.mark.soak
def test_the_tools_of_mcp_read_and_write_at_the_door(cluster):
    pytest.importorskip("mcp")

    def call(tool: str, **arguments: Any) -> Any:
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
        }
        headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
        answer = httpx2.post(f"{cluster.url}/mcp", json=body, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        result = answer.json()["result"]
        assert not result["isError"], result
        return result["structuredContent"]

    agent = "npc:mcp"
    assert call("remember", agent_id=agent, text="the lake is frozen")["findable"]
    found = call("recall", agent_id=agent, query="the lake")
    assert [one["text"] for one in found["memories"]] == ["the lake is frozen"]
    assert call("put_state", agent_id=agent, data={"name": "Ada"}) == {"applied": True, "version": 1}
    assert call("get_state", agent_id=agent)["data"] == {"name": "Ada"}
    assert call("forget", agent_id=agent)["done"]
    assert call("recall", agent_id=agent, query="the lake") == {"memories": []}


def test_either_gateway_takes_writes(cluster):
    for number, gateway in enumerate(cluster.gateways):
        body = {"server": "s", "events": [{"id": str(number), "agent_id": "npc:two", "text": f"at {number}"}]}
        assert httpx2.post(f"{gateway.url}/v1/events", json=body, timeout=10).status_code == 202
    put(cluster, "npc:two", "and the door")
    assert texts(cluster, "npc:two") == ["and the door", "at 0", "at 1"]


def test_a_service_that_is_killed_can_be_started_again(cluster):
    gateway, query = cluster.gateways[0], cluster.queries[0]
    gateway.kill()
    query.kill()
    assert set(cluster.ended()) == {gateway, query}
    put(cluster, "npc:killed", "one gateway is enough")
    answer = httpx2.get(f"{cluster.url}/v1/agents", timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    query.start()
    gateway.start()
    assert list(cluster.ended()) == []
    time.sleep(2.1)  # nginx asks again whom it has found away
    assert texts(cluster, "npc:killed") == ["one gateway is enough"]


def test_a_worker_can_be_added(cluster):
    worker = cluster.add_worker()
    assert worker in cluster.services
    put(cluster, "npc:third", "three share the work")
    assert worker.stop() == 0
    cluster.workers.remove(worker)


def test_prometheus_reads_every_service(cluster, tmp_path):
    """A real Prometheus, with our alerts, and with the queries of our dashboard."""
    with missing_is_skipped():
        prometheus = program("prometheus", "apt-get install -y prometheus")
    jobs = {"gateway": cluster.gateways, "worker": cluster.workers, "query": cluster.queries}
    targets = {job: [urlsplit(each.url).netloc for each in services] for job, services in jobs.items()}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "deploy/prometheus/alerts.yml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": each}]} for job, each in targets.items()
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        prometheus,
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
    ]
    command.append(f"--web.listen-address={urlsplit(url).netloc}")
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)

    def asked(path: str, **params: str) -> Any:
        return httpx2.get(f"{url}/api/v1/{path}", params=params, timeout=10).json()["data"]

    def up() -> set[tuple[str, str]]:
        assert process.poll() is None, (tmp_path / "output").read_text()
        with contextlib.suppress(httpx2.TransportError, KeyError, ValueError):
            found = asked("query", query="up == 1")["result"]
            return {(one["metric"]["job"], one["metric"]["instance"]) for one in found}
        return set()

    with stopped(process):
        wait_until(lambda: up() == {(job, one) for job, each in targets.items() for one in each})
        wait_until(lambda: all(rule["health"] != "unknown" for rule in rules(asked("rules"))))
        assert {rule["health"] for rule in rules(asked("rules"))} == {"ok"}
        assert [
            one["labels"]["alertname"] for one in asked("alerts")["alerts"] if one["state"] == "firing"
        ] == []
        for expression in dashboard():
            asked("query", query=expression.replace("$__rate_interval", "1m"))


def rules(answer: Any) -> list[dict[str, Any]]:
    return [rule for group in answer["groups"] for rule in group["rules"]]


async def append(cluster: Cluster, *records: NewRecord) -> None:
    """What some stranger writes into the log."""
    connection = KafkaConnection(cluster.kafka.bootstrap)
    async with KafkaLog.open(
        connection,
        topic="lorestream.events",
        dlq_topic="lorestream.events.dlq",
        retention_s=30 * 86_400,
        clock=SystemClock(),
    ) as log:
        await log.append(records)


def test_dead_letters_are_cared_for_by_the_verb_itself(cluster):
    environment = cluster.workers[0].environment

    def dead_letters() -> list[tuple[int, str]]:
        answer = json.loads(lorestream("dlq", "ls", "--json", environment=environment).stdout)
        return [(one["attempts"], one["reason"]) for one in answer["letters"]]

    asyncio.run(append(cluster, NewRecord(b'["default","npc:broken"]', b"rubbish", {"schema": b"1"})))
    wait_until(lambda: dead_letters() == [(1, "undecodable")])
    assert b"1 tried again" in lorestream("dlq", "retry", "--all", "--yes", environment=environment).stdout
    wait_until(lambda: dead_letters() == [(2, "undecodable")])
    lorestream("dlq", "drop", "--all", "--yes", environment=environment)
    assert dead_letters() == []


def test_memories_go_out_and_in_by_the_verb_itself(cluster, tmp_path):
    environment, path = cluster.workers[0].environment, str(tmp_path / "out.jsonl")
    put(cluster, "npc:out", "pine trees stand north of the lake")
    lorestream("export", path, "--agent", "npc:out", environment=environment)
    with Path(path).open("a") as file:
        file.write(Path(path).read_text().splitlines()[1].replace("npc:out", "npc:in") + "\n")

    answer = lorestream("import", path, "--json", environment=environment)
    assert json.loads(answer.stdout) | {"imported": 1, "present": 1} == json.loads(answer.stdout)
    assert texts(cluster, "npc:in") == texts(cluster, "npc:out")
    assert b"0 memories imported" in lorestream("import", path, environment=environment).stdout

    httpx2.delete(f"{cluster.url}/v1/agents/npc:in", timeout=10).raise_for_status()
    wait_until(lambda: texts(cluster, "npc:in") == [])
    answer = lorestream("import", path, "--json", environment=environment)
    assert json.loads(answer.stdout) | {"imported": 0, "erased": 1, "present": 1} == json.loads(answer.stdout)
    assert texts(cluster, "npc:in") == []


def test_a_named_store_is_used_instead_of_the_stand_in(tmp_path):
    cluster = Cluster(tmp_path, settings={"LORESTREAM_STORE__URL": "http://qdrant:6333"})
    assert cluster.store is None
    for service in cluster.services:
        assert service.environment["LORESTREAM_STORE__URL"] == "http://qdrant:6333"
        assert "LORESTREAM_STORE__GRPC_PORT" not in service.environment


def test_our_own_environment_does_not_configure_the_services(tmp_path, monkeypatch):
    monkeypatch.setenv("LORESTREAM_TTL_DAYS", "3")
    cluster = Cluster(tmp_path, settings=HASH)
    assert all("LORESTREAM_TTL_DAYS" not in each.environment for each in cluster.services)


@pytest.mark.soak
def test_make_cluster_runs_until_a_signal_and_leaves_behind_what_the_engines_keep(tmp_path):
    with missing_is_skipped():
        Cluster(tmp_path / "probe").kafka.command()
    port = free_port()
    command = [sys.executable, "-m", "deploy.local.cluster", str(tmp_path / "cluster"), "--port", str(port)]
    command += ["--grpc-port", str(free_port()), "--gateways", "1", "--workers", "1"]
    log = tmp_path / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=clean_environment(**HASH), cwd=ROOT, stdout=output, stderr=output
        )

    def said(pattern: str) -> bool:
        assert process.poll() is None, log.read_text()
        return re.search(pattern, log.read_text()) is not None

    try:
        wait_until(lambda: said("Ctrl-C stops all of it"))
        assert said(f"http://127.0.0.1:{port} ")
        assert said("a stand-in")
        put_at(f"http://127.0.0.1:{port}", "npc:lasting", "once and for all", "e1")
        worker = int(re.search(r"worker-1 .* process (\d+)", log.read_text())[1])
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: said("worker-1 ended with exit code -9, starting it again"))
        wait_until(lambda: len(children_of(process.pid)) == 7)
        children = [int(pid) for pid in children_of(process.pid)]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
        assert not answers(port)
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.terminate()  # killed at once, it would leave its children behind
            process.wait(60)
        process.kill()

    with running(Cluster(tmp_path / "cluster", gateways=1, workers=1, settings=HASH)) as second:
        assert second.kafka.bootstrap not in log.read_text()
        assert texts(second, "npc:lasting") == ["once and for all"]
        put(second, "npc:lasting", "and again", "e2")
        assert texts(second, "npc:lasting") == ["and again", "once and for all"]
    assert [each.exit_code for each in second.services] == [0, 0, 0]
    assert not list(second.nginx.directory.glob("nginx.pid"))


def wait_until(condition, seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
