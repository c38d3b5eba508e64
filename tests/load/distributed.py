"""The distributed shape on this machine: a real Kafka broker and Redis; the store is a stand-in unless one is named.

What the services share the machine with (the broker, the store) costs more than they do; so the figures that
count are of their own CPU time, and the ratios are taken within one run.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.local.cluster import Cluster
from lorestream import events
from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.settings import Settings, load_settings
from lorestream.telemetry import set_up_logging
from lorestream.wiring import WorkerParts, open_gateway, open_worker
from stream_workers.worker import Worker
from tests.load.gateway import drive
from tests.load.system import sentences
from tests.log_fold import differences, fold, level, stored
from tests.models import real_model
from tests.parts import put
from tests.processes import clean_environment

EVENTS = 2000
ROUNDS = 3
SHARE = 0.4
"""Of what the bare embedder can do alone: the rest of this machine is the broker's, the store's, the gateways'."""

SHARES = (0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
SETTLED_S = 5.0


def measure_distributed(data: Path, *, seconds: float = 20) -> dict[str, Any]:
    """Gateway and worker alone in this process; then all of it under the load that the embedder allows."""
    set_up_logging("json", "warning")
    with tempfile.TemporaryDirectory() as folder:
        given = {name: value for name, value in os.environ.items() if name.startswith("LORESTREAM_STORE__")}
        environment = {"LORESTREAM_DATA_DIR": str(data), "LORESTREAM_EMBEDDER__THREADS": "1", **given}
        cluster = Cluster(Path(folder), workers=0, queries=0, gateways=0, settings=environment)
        for engine in cluster.engines:
            engine.start()
        try:
            alone = asyncio.run(_alone(cluster, data))
        finally:
            cluster.stop()
    together = _loaded(environment, data, SHARE * alone["bare_embedder_texts_per_s"], seconds)
    return {"store": environment.get("LORESTREAM_STORE__URL", "stand-in"), **alone, **together}


def measure_limit(data: Path, *, seconds: float = 20) -> dict[str, Any]:
    """The highest rate that keeps up, of 1,000 agents on 10 servers: more and more, until it lags behind.

    What keeps up is findable `SETTLED_S` after the last event. Nothing may be lost at any rate, also beyond that.
    """
    set_up_logging("json", "warning")
    given = {name: value for name, value in os.environ.items() if name.startswith("LORESTREAM_STORE__")}
    environment = {"LORESTREAM_DATA_DIR": str(data), "LORESTREAM_EMBEDDER__THREADS": "1", **given}
    wall_s, _ = asyncio.run(_bare(data, sentences(EVENTS, seed=1)))
    bare = EVENTS / wall_s
    tried: dict[str, Any] = {}
    highest = 0.0
    for share in SHARES:
        found = _loaded(environment, data, share * bare, seconds)
        tried[f"{share:.0%}"] = found
        if found["findable_after_the_end_s"] > SETTLED_S:
            break
        highest = share * bare
    return {
        "bare_embedder_texts_per_s": round(bare),
        "highest_events_per_s": round(highest),
        "lost": sum(found["lost"] for found in tried.values()),
        "differences_from_the_log": sum(found["differences_from_the_log"] for found in tried.values()),
        **tried,
    }


def _loaded(environment: Mapping[str, str], data: Path, rate: float, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder), settings=environment) as cluster:
        found = _together(cluster, Path(folder), rate, seconds)
        lines = [json.loads(line) for line in (Path(folder) / "ledger.jsonl").read_text().splitlines()]
        accepted = {line["memory_id"]: line["text"] for line in lines}
        return found | asyncio.run(_compare(cluster, data, accepted))


def cluster_settings(cluster: Cluster, data: Path, topic: str = "lorestream.events") -> Settings:
    store = {"url": cluster.store.url, "grpc_port": cluster.store.grpc_port} if cluster.store else {}
    return load_settings(
        data_dir=data,
        log={"bootstrap": cluster.kafka.bootstrap, "topic": topic},
        **({"store": store} if store else {}),
        cache={"url": cluster.redis.url},
        embedder={"threads": 1},
        player_key="k1:bench",
    )


async def _alone(cluster: Cluster, data: Path) -> dict[str, Any]:
    async with open_gateway(cluster_settings(cluster, data, "bench.gateway")) as parts:
        gateway = await drive(parts)
    rounds: list[tuple[float, float, float, float]] = []
    async with open_worker(cluster_settings(cluster, data, "bench.worker")) as parts:
        for number in range(ROUNDS):
            worked = await _worked(parts, sentences(EVENTS, seed=number), number)
            rounds.append((*worked, *await _bare(data, sentences(EVENTS, seed=100 + number))))
    return {
        "gateway": gateway,
        "worker_events_per_s": round(statistics.median(EVENTS / wall_s for wall_s, *_ in rounds)),
        "bare_embedder_texts_per_s": round(statistics.median(EVENTS / wall_s for _, _, wall_s, _ in rounds)),
        "worker_cpu_over_bare_embedder": statistics.median(bare / cpu for _, cpu, _, bare in rounds),
    }


async def _worked(parts: WorkerParts, texts: Sequence[str], number: int) -> tuple[float, float]:
    """Seconds of wall and of CPU time that a worker takes for the texts, which lie in the log already."""
    records = [
        events.encode(put(text, agent=f"npc:{n % 1000}", event_id=f"{number}:{n}", at=time.time()))
        for n, text in enumerate(texts)
    ]
    await parts.log.append(records)
    started, cpu = time.perf_counter(), time.process_time()
    await Worker(parts).run(burst=True)
    return time.perf_counter() - started, time.process_time() - cpu


async def _bare(data: Path, texts: Sequence[str]) -> tuple[float, float]:
    files = real_model().directory
    async with OpenVinoEmbedder.open(files, cache_entries=1, threads=1) as embedder:
        await embedder.embed(texts[:64])
        started, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(texts), 256):
            await embedder.embed(texts[start : start + 256])
        return time.perf_counter() - started, time.process_time() - cpu


def _together(cluster: Cluster, folder: Path, rate: float, seconds: float) -> dict[str, Any]:
    urls = [part for gateway in cluster.gateways for part in ("--url", gateway.url)]
    command = [sys.executable, "-m", "lorestream.cli", "simulate", *urls, "--query-url", cluster.url]
    command += ["--servers", "10", "--agents", "1000", "--rate", f"{rate:.0f}", "--seconds", str(seconds)]
    command += [
        "--queries",
        "20",
        "--wait-indexed",
        "120",
        "--json",
        "--ledger",
        str(folder / "ledger.jsonl"),
    ]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    return {
        "offered_events_per_s": rate,
        "accepted_events_per_s": report["rate"]["accepted"],
        "lost": report["lost"],
        "request_p99_ms": report["latency_ms"]["request"]["p99"],
        "query_p50_ms": report["latency_ms"]["query"]["p50"],
        "query_p99_ms": report["latency_ms"]["query"]["p99"],
        "findable_after_the_end_s": report["indexed"]["seconds"],
    }


async def _compare(cluster: Cluster, data: Path, accepted: Mapping[str, str]) -> dict[str, Any]:
    async with open_worker(cluster_settings(cluster, data)) as parts:
        await level(parts.log, parts.group)
        truth = await fold(parts.log, "bench-fold")
        now = parts.clock.now()
        found = await stored(parts.store, now)
    wrong = differences(truth, found, accepted, now)
    return {"memories": len(found), "differences_from_the_log": len(wrong)}


if __name__ == "__main__":
    print(json.dumps(measure_distributed(Path(__file__).parents[2] / "data"), indent=2))
