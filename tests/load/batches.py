"""When a worker's micro-batch should close: other limits than the defaults, over a real Kafka and the real model."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from deploy.local.cluster import Cluster
from lorestream import events
from lorestream.telemetry import set_up_logging
from lorestream.wiring import WorkerParts, open_worker
from stream_workers.indexing.indexer import BatchLimits, Indexer
from stream_workers.indexing.pipeline import Pipeline
from tests.load.distributed import cluster_settings
from tests.load.system import sentences
from tests.parts import folder_over, put, running

DEFAULT = BatchLimits()
LIMITS = {
    "32 records": BatchLimits(records=32),
    "64 records": BatchLimits(records=64),
    "128 records": BatchLimits(records=128),
    "256 records (default)": DEFAULT,
    "512 records": BatchLimits(records=512),
    "64 KiB": BatchLimits(bytes=64 * 1024),
    "no wait": BatchLimits(age_s=0.0),
    "50 ms": BatchLimits(age_s=0.05),
}
EVENTS = 1500
TRICKLE = 60
ROUNDS = 3


def measure_batches(data: Path) -> dict[str, Any]:
    """For each limit: CPU time an event of a full log, and how long one of a thin stream takes until it is found."""
    set_up_logging("json", "warning")
    with tempfile.TemporaryDirectory() as folder:
        settings = {"LORESTREAM_DATA_DIR": str(data)}
        cluster = Cluster(Path(folder), workers=0, queries=0, gateways=0, settings=settings)
        try:
            for engine in cluster.engines:
                engine.start()
            return asyncio.run(_measured(cluster, data))
        finally:
            cluster.stop()


async def _measured(cluster: Cluster, data: Path) -> dict[str, Any]:
    full: dict[str, list[float]] = {name: [] for name in LIMITS}
    thin: dict[str, list[float]] = {name: [] for name in LIMITS}
    async with open_worker(cluster_settings(cluster, data, "bench.batches")) as parts:
        for number in range(ROUNDS):
            for name, limits in LIMITS.items():
                seed = f"{number} {name}"
                full[name].append(await _full(parts, limits, seed))
                thin[name].append(await _thin(parts, limits, seed))
    best = statistics.median(full["256 records (default)"])
    return {
        name: {
            "cpu_over_default": statistics.median(full[name]) / best,
            "cpu_us_per_event": statistics.median(full[name]) * 1e6,
            "findable_p50_ms": statistics.median(thin[name]) * 1e3,
        }
        for name in LIMITS
    }


def _indexer(parts: WorkerParts, limits: BatchLimits) -> Indexer:
    pipeline = Pipeline(
        parts.store, parts.embedder, parts.ledger, parts.clock, parts.metrics, folder_over(parts)
    )
    collection = parts.collections.current
    return Indexer(
        parts.log, pipeline, collection.publisher, cache=parts.cache, group=parts.group, limits=limits
    )


async def _full(parts: WorkerParts, limits: BatchLimits, seed: str) -> float:
    """CPU seconds an event, of a log that is full."""
    texts = sentences(EVENTS, seed=zlib.crc32(seed.encode()))
    await parts.log.append(
        [
            events.encode(put(text, agent=f"npc:{n % 1000}", event_id=f"{seed}:{n}", at=time.time()))
            for n, text in enumerate(texts)
        ]
    )
    began = time.process_time()
    await _indexer(parts, limits).run(burst=True)
    return (time.process_time() - began) / EVENTS


async def _thin(parts: WorkerParts, limits: BatchLimits, seed: str) -> float:
    """Seconds, at the median, from the log to what can be found, of one event at a time."""
    took: list[float] = []
    watermarks = parts.collections.current.watermarks
    async with running(_indexer(parts, limits)):
        for n in range(TRICKLE):
            began = time.perf_counter()
            text = f"thin stream {seed} {n}"
            one = put(text, agent="npc:thin", event_id=f"{seed}:thin:{n}", at=time.time())
            assert await watermarks.reached(await parts.log.append([events.encode(one)]), 30)
            took.append(time.perf_counter() - began)
    return statistics.median(took)
