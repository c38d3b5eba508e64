"""The distributed shape while processes are killed, frozen and cut off: nothing is lost, doubled or stale.

Faults that follow each other share one load. After the load the store must equal the fold of the log, and hold every
accepted event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from deploy.local.cluster import Cluster
from deploy.local.services import Service
from tests import zygote
from tests.brokers import missing_is_skipped
from tests.collection_compare import opened
from tests.log_fold import differences, fold, level, stored
from tests.processes import clean_environment, metric
from tests.proxy import Proxy
from tests.staleness_probe import StalenessProbe

pytestmark = pytest.mark.alone

SESSION_S = 6
TAKE_OVER_S = 6.0
"""For a rebalance and the batches after it, on a busy machine."""
HASH = {
    "LORESTREAM_EMBEDDER__KIND": "hash",
    "LORESTREAM_LOG__SESSION_TIMEOUT_S": str(SESSION_S),
    "LORESTREAM_LOG__PARTITIONS": "6",
}


@dataclass
class Load:
    """A running `lorestream simulate` against the gateways. Its ledger holds every event that was accepted."""

    process: subprocess.Popen[str]
    ledger: Path

    def finish(self) -> dict[str, Any]:
        """Wait until every event is accepted and can be found; return its report."""
        output, errors = self.process.communicate(timeout=180)
        assert self.process.returncode == 0, f"{output}\n{errors}"
        return json.loads(output)

    def accepted(self) -> dict[str, str]:
        """The text of every accepted event, by memory id."""
        lines = [json.loads(line) for line in self.ledger.read_text().splitlines()]
        return {line["memory_id"]: line["text"] for line in lines}


class Stage:
    """A cluster, a proxy between its workers and Redis, and all loads so far."""

    def __init__(self, cluster: Cluster, to_redis: Proxy, directory: Path) -> None:
        self.cluster = cluster
        self.to_redis = to_redis
        self._directory = directory
        self._loads: list[Load] = []

    def play(self, *, rate: float, seconds: float, agents: int = 200, servers: int = 4) -> Load:
        number = len(self._loads)
        ledger = self._directory / f"ledger-{number}.jsonl"
        urls = [part for gateway in self.cluster.gateways for part in ("--url", gateway.url)]
        command = [sys.executable, "-m", "lorestream.cli", "simulate", *urls, "--query-url", self.cluster.url]
        command += ["--servers", str(servers), "--agents", str(agents), "--rate", str(rate)]
        command += ["--seconds", str(seconds), "--seed", str(number), "--resend", "0.05", "--drain", "60"]
        command += ["--wait-indexed", "90", "--ledger", str(ledger), "--json"]
        process = zygote.Popen(
            command, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._loads.append(Load(process, ledger))
        return self._loads[-1]

    def erase_agents(self, count: int) -> None:
        """Erase the agents that have the most memories, while events about them arrive."""
        url = self.cluster.url
        listed = httpx2.get(f"{url}/v1/agents?limit=100", timeout=10).json()["agents"]
        agents = [one["agent_id"] for one in listed if not one["agent_id"].startswith("npc:fresh")]
        for agent in agents[:count]:
            answer = httpx2.delete(f"{url}/v1/agents/{quote(agent, safe='')}", timeout=10)
            assert answer.status_code == 202, answer.text

    def check(self) -> int:
        """Assert that the store equals the fold of the log and holds every accepted event; count the memories."""
        return asyncio.run(self._check())

    async def _check(self) -> int:
        async with opened(self.cluster, 6) as parts:
            await level(parts.log, parts.group)
            truth = await fold(parts.log, f"fold-{time.monotonic_ns()}")
            now = parts.clock.now()
            found = await stored(parts.store, now)
        accepted = {key: text for load in self._loads for key, text in load.accepted().items()}
        assert differences(truth, found, accepted, now) == []
        assert truth.unreadable == 0
        return len(found)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("faults")
    with contextlib.ExitStack() as stack:
        stack.enter_context(missing_is_skipped())
        cluster = Cluster(directory, settings=HASH)
        to_redis = stack.enter_context(Proxy(cluster.redis.port))
        for worker in cluster.workers:
            worker.environment["LORESTREAM_CACHE__URL"] = f"redis://127.0.0.1:{to_redis.port}/0"
        stack.enter_context(cluster)
        yield Stage(cluster, to_redis, directory)


def test_a_thousand_agents_of_ten_servers(stage: Stage) -> None:
    with StalenessProbe(stage.cluster.url) as fresh:
        load = stage.play(rate=400, seconds=6, agents=1000, servers=10)
        report = load.finish()
    assert report["events"]["accepted"] == report["events"]["scheduled"]
    assert fresh.stale == fresh.errors == []
    assert fresh.completed > 5
    assert stage.check() > 0


def test_workers_and_redis_killed_frozen_and_cut_off(stage: Stage) -> None:
    """Redis fails while a worker is frozen: the workers' faults and those of Redis overlap once."""
    with StalenessProbe(stage.cluster.url) as fresh:
        load = stage.play(rate=100, seconds=40)
        kill_each_worker(stage)
        freeze_a_worker_beyond_its_session(stage)
        add_and_remove_a_third_worker(stage)
        cut_the_workers_off_from_redis(stage)
        load.finish()
        kill_a_worker_and_wait_for_the_other(stage)
    assert fresh.stale == fresh.errors == []
    stage.check()


def kill_each_worker(stage: Stage) -> None:
    for worker in stage.cluster.workers:
        time.sleep(1)
        stage.erase_agents(10)
        worker.kill()
        time.sleep(0.5)
        worker.start()


def freeze_a_worker_beyond_its_session(stage: Stage) -> None:
    """It resumes as a zombie: the other worker has its partitions. Meanwhile Redis fails in every way."""
    worker = stage.cluster.workers[0]
    time.sleep(1)
    worker.pause()
    paused = time.monotonic()
    empty_kill_and_freeze_redis(stage)
    time.sleep(max(0.0, paused + SESSION_S + 2 - time.monotonic()))
    worker.resume()


def add_and_remove_a_third_worker(stage: Stage) -> None:
    time.sleep(1)
    third = stage.cluster.add_worker()
    time.sleep(3)
    assert metric(third.url, "lorestream_rebalances_total") >= 1
    assert third.stop() == 0
    stage.cluster.workers.remove(third)


def kill_a_worker_and_wait_for_the_other(stage: Stage) -> None:
    """Events of any partition can be found soon after a worker was killed."""
    events = [{"agent_id": f"npc:heir-{n}", "id": "1", "text": "still remembered"} for n in range(60)]
    worker = stage.cluster.workers[1]
    worker.kill()
    started = time.monotonic()
    path = "/v1/events?wait=indexed&timeout_ms=60000"
    written = httpx2.post(f"{stage.cluster.url}{path}", json={"events": events}, timeout=70)
    took = time.monotonic() - started
    worker.start()
    assert written.status_code == 200, written.text
    assert took < SESSION_S + TAKE_OVER_S


@pytest.mark.parametrize("away_s", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_a_broker_and_a_store_that_are_killed(stage: Stage, away_s: float) -> None:
    with StalenessProbe(stage.cluster.url) as fresh:
        load = stage.play(rate=100, seconds=away_s + 10)
        kill_the_broker(stage)
        kill_the_store(stage, away_s)
        report = load.finish()
    assert report["requests"]["retried"] > 0
    assert fresh.stale == []
    stage.check()


def assert_shown(service: Service, dependency: str, *, ready: bool) -> None:
    """Assert that /ready and /metrics of the service name the part that is away."""
    answer = httpx2.get(f"{service.url}/ready", timeout=10)
    assert answer.json()["checks"][dependency] != "ok"
    assert answer.status_code == (200 if ready else 503)
    assert metric(service.url, f'lorestream_dependency_up{{dependency="{dependency}"}}') == 0


def kill_the_broker(stage: Stage) -> None:
    """A gateway refuses events in time, and takes them again when the broker is back."""
    time.sleep(2)
    stage.cluster.kafka.kill()
    time.sleep(1)
    started = time.monotonic()
    event = {"server": "s", "events": [{"agent_id": "npc:patient", "id": "1", "text": "again"}]}
    refused = httpx2.post(f"{stage.cluster.gateways[0].url}/v1/events", json=event, timeout=10)
    took = time.monotonic() - started
    assert_shown(stage.cluster.gateways[0], "log", ready=False)
    stage.cluster.kafka.start()
    assert refused.status_code == 503
    assert refused.json()["retry_after_ms"] > 0
    assert refused.json()["error"]["code"] == "unavailable"
    assert took < 2


def kill_the_store(stage: Stage, away_s: float) -> None:
    """Searches are an outage, never an empty answer."""
    store = stage.cluster.store
    assert store is not None
    time.sleep(2)
    store.kill()
    time.sleep(away_s / 2)
    body = {"agent_id": "npc:nobody", "query": "anything"}
    away = httpx2.post(f"{stage.cluster.url}/v1/memories/search", json=body, timeout=20)
    assert_shown(stage.cluster.queries[0], "store", ready=False)
    time.sleep(away_s / 2)
    store.start()
    assert away.status_code == 503
    assert away.json()["error"]["code"] == "unavailable"


def empty_kill_and_freeze_redis(stage: Stage) -> None:
    redis = stage.cluster.redis
    for _ in range(5):
        time.sleep(0.4)
        redis.send_command("FLUSHALL")
    redis.kill()
    time.sleep(2)
    assert_shown(stage.cluster.queries[0], "cache", ready=True)
    redis.start()
    time.sleep(2)
    redis.pause()
    time.sleep(3)
    redis.resume()


def cut_the_workers_off_from_redis(stage: Stage) -> None:
    """Readers still have their cache: no write may count as finished before every older answer has expired."""
    with StalenessProbe(stage.cluster.url, name="npc:cut") as fresh:
        time.sleep(3)
        assert fresh.completed > 0
        assert fresh.hits > 0
        stage.to_redis.cut()
        time.sleep(1.5)
        at_the_cut = fresh.completed
        time.sleep(8)
        assert fresh.completed <= at_the_cut + 1
        stage.to_redis.heal()
    assert fresh.stale == fresh.errors == []
