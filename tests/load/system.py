"""The whole system as a child process with the real model: start, throughput, freshness, latency of answers."""

from __future__ import annotations

import asyncio
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2

from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from tests.models import real_model
from tests.processes import LorestreamProcess

BATCH = 200
_NOUNS = [
    "pine",
    "oak",
    "iron",
    "coal",
    "lake",
    "cave",
    "village",
    "tower",
    "bridge",
    "wolf",
    "zombie",
    "trader",
    "river",
    "hill",
    "ruin",
    "farm",
    "mine",
    "gate",
]
_VERBS = [
    "found",
    "dug",
    "saw",
    "built",
    "traded",
    "burned",
    "guarded",
    "crossed",
    "lost",
    "repaired",
    "hunted",
    "mapped",
    "heard",
    "followed",
]


def sentences(count: int, seed: int) -> list[str]:
    """Distinct sentences of the length that game events have."""
    chance = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        first, second, third = chance.sample(_NOUNS, 3)
        texts[
            f"{chance.choice(_VERBS)} the {first} near the {second} and went to the {third}"
            f" with {chance.randint(1, 999)} torches at {chance.randint(0, 23)} o'clock"
        ] = None
    return list(texts)


def measure_system(data: Path, *, events: int = 6000, rate: int = 100, seconds: int = 10) -> dict[str, Any]:
    """Start `lorestream up` on an empty place load it, and read off its figures."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "data"
        home.mkdir()
        process = LorestreamProcess(home, {})
        started = time.perf_counter()
        process.start()
        ready_s = time.perf_counter() - started
        try:
            with httpx2.Client(base_url=process.url, timeout=120) as client:
                pipeline = _throughput(client, data, events)
                visible = _freshness(client, rate, seconds)
                answers = _answers(client)
        finally:
            stopped_s = process.stop()
    return {"ready_s": ready_s, "stop_s": stopped_s, **pipeline, **visible, **answers}


def _throughput(client: httpx2.Client, data: Path, count: int) -> dict[str, float]:
    """Events per second until all can be found, over the bare embedder's on as many distinct texts."""
    ratios: list[float] = []
    through: list[float] = []
    for round_number in range(3):
        texts = sentences(count, seed=round_number)
        through.append(_post(client, texts, f"r{round_number}"))
        ratios.append(through[-1] / asyncio.run(_bare(data, sentences(count, seed=100 + round_number))))
    return {
        "events_per_s": statistics.median(through),
        "pipeline_over_bare_embedder": statistics.median(ratios),
    }


def _post(client: httpx2.Client, texts: Sequence[str], agent: str) -> float:
    started = time.perf_counter()
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    for number, batch in enumerate(batches):
        last = number == len(batches) - 1
        events = [{"agent_id": f"npc:{agent}", "text": text} for text in batch]
        answer = client.post(
            "/v1/events" + ("?wait=indexed&timeout_ms=60000" if last else ""), json={"events": events}
        )
        answer.raise_for_status()
    assert answer.json()["indexed"] is True
    return len(texts) / (time.perf_counter() - started)


async def _bare(data: Path, texts: Sequence[str]) -> float:
    async with OpenVinoEmbedder.open(real_model().directory, cache_entries=1) as embedder:
        await embedder.embed(texts[:64])
        started = time.perf_counter()
        for start in range(0, len(texts), 256):
            await embedder.embed(texts[start : start + 256])
        return len(texts) / (time.perf_counter() - started)


def _freshness(client: httpx2.Client, rate: int, seconds: int) -> dict[str, float]:
    """At a fixed rate, one event a request: the age at which memories become findable, by the histogram."""
    before = _buckets(client)
    texts = sentences(rate * seconds, seed=7)
    started = time.perf_counter()
    for number, text in enumerate(texts):
        pause = started + number / rate - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        client.post("/v1/events", json={"events": [{"agent_id": f"npc:{number % 50}", "text": text}]})
    client.post("/v1/events?wait=indexed", json={"events": [{"agent_id": "npc:last", "text": "last"}]})
    after = _buckets(client)
    counts = {bound: after[bound] - before.get(bound, 0) for bound in after}
    total = counts[float("inf")]
    return {
        "visible_p50_below_s": min(bound for bound, count in counts.items() if count >= 0.5 * total),
        "visible_p99_below_s": min(bound for bound, count in counts.items() if count >= 0.99 * total),
    }


def _buckets(client: httpx2.Client) -> dict[float, float]:
    text = client.get("/metrics").text
    found = re.findall(r'lorestream_event_visible_seconds_bucket{le="([^"]+)"} (\S+)', text)
    return {float(bound): float(count) for bound, count in found}


def _answers(client: httpx2.Client) -> dict[str, float]:
    """Closed loop, one caller: the latency of an answer from the cache, and of one that must be embedded."""
    questions = sentences(300, seed=9)

    def ask(question: str) -> None:
        body = {"agent_id": "npc:r0", "query": question, "k": 5}
        answer = client.post("/memory/get", json=body)
        answer.raise_for_status()

    ask("warm up")
    cold = _times(questions, ask)
    cached = _times(["warm up"] * 500, ask)
    return {
        "get_cached_p50_ms": 1000 * statistics.median(cached),
        "get_uncached_p50_ms": 1000 * statistics.median(cold),
        "get_uncached_p99_ms": 1000 * statistics.quantiles(cold, n=100)[98],
    }


def _times(questions: Sequence[str], ask: Callable[[str], None]) -> list[float]:
    spent: list[float] = []
    for question in questions:
        started = time.perf_counter()
        ask(question)
        spent.append(time.perf_counter() - started)
    return spent
