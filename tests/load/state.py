"""What documents, Q-tables and records cost: events per second of a worker, and reads of documents while it works.

    python -m tests.load.state [EVENTS]

The rates are those of one worker over the embedded log and store, with the real model, fed from a log that is full;
each is also given as a multiple of the rate of memories that are embedded, in the same run. The latencies are those of
`GET /v1/entities/character/{id}` of a real `lorestream up`, asked at a fixed rate, quiet and while it ingests all
it can; generator, gateway, worker and reads share the machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2

from lorestream import events
from lorestream.events import DocumentWrite, Envelope, QUpdate
from lorestream.state.q_tables import QUpdateItem
from lorestream.wiring import Runtime
from stream_workers.worker import Worker
from tests.load.http_load import Load, Seen, percentile
from tests.load.system import BATCH, sentences
from tests.models import models_dir
from tests.parts import open_parts, put, running
from tests.processes import LorestreamProcess

AGENTS = 200
ROUNDS = 3
RATE = 200
"""Reads per second."""
_CHARACTER = {
    "name": "Ada",
    "personality": "curious",
    "goals": ["find iron", "come home"],
    "beliefs": {"home": [1, 2]},
}


def measure_state(*, events: int = 2000, seconds: float = 10) -> dict[str, Any]:
    """Rates in events per second, latencies in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="lorestream-bench-") as folder:
        rates = asyncio.run(_rates(Path(folder) / "rates", events))
        return rates | _reads(Path(folder) / "reads", seconds)


# --- the worker ------------------------------------------------------------------------------------------


async def _rates(data: Path, count: int) -> dict[str, Any]:
    kinds: dict[str, Callable[[int, str], Sequence[Envelope]]] = {
        "memories": _memories,
        "records": _records,
        "documents": _documents,
        "patches": _patches,
        "q_updates": _q_updates,
        "memories_and_documents": lambda n, text: [*_memories(n, text), *_documents(n, text)],
    }
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    cpu: dict[str, list[float]] = {kind: [] for kind in kinds}
    async with (
        open_parts(
            data, models_dir=models_dir(), store={"kind": "edge"}, embedder={"kind": "openvino"}
        ) as runtime,
        running(Worker(runtime)),
    ):
        for number in range(ROUNDS):
            for kind, make in kinds.items():
                before = time.process_time()
                took[kind].append(await _folded(runtime, make, count, f"{number} {kind}"))
                cpu[kind].append((time.process_time() - before) / count)
    per_s = {kind: count / statistics.median(seconds) for kind, seconds in took.items()}
    return {
        "events_per_s": per_s,
        "cpu_ms_per_event": {kind: 1000 * statistics.median(spent) for kind, spent in cpu.items()},
        "over_memories": {
            kind: rate / per_s["memories"] for kind, rate in per_s.items() if kind != "memories"
        },
    }


async def _folded(
    runtime: Runtime, make: Callable[[int, str], Sequence[Envelope]], count: int, seed: str
) -> float:
    """Seconds from the first append to the log until reads show all, `count` times what `make` makes."""
    texts = sentences(count, seed=sum(seed.encode()))
    made = [events.encode(each) for n, text in enumerate(texts) for each in make(n, f"{text} ({seed})")]
    end: dict[int, int] = {}
    began = time.perf_counter()
    for start in range(0, len(made), 500):
        end |= await runtime.log.append(made[start : start + 500])
    assert await runtime.collections.current.watermarks.reached(end, 600)
    return time.perf_counter() - began


def _memories(n: int, text: str) -> list[Envelope]:
    return [put(text, agent=f"npc:{n % AGENTS}", event_id=text, at=time.time())]


def _records(n: int, text: str) -> list[Envelope]:
    at = time.time()
    record = put(
        None, agent=f"npc:{n % AGENTS}", event_id=text, at=at, type="reward", data={"value": n}, recall=False
    )
    return [record]


def _document(n: int, text: str, **fields: Any) -> DocumentWrite:
    return DocumentWrite(
        tenant="default",
        agent_id=f"npc:{n % AGENTS}",
        type="character",
        event_id=text,
        accepted_at=time.time(),
        **fields,
    )


def _documents(n: int, text: str) -> list[Envelope]:
    return [_document(n, text, action="put", data=_CHARACTER | {"last_thought": text})]


def _patches(n: int, text: str) -> list[Envelope]:
    return [_document(n, text, action="patch", data={"last_thought": text})]


def _q_updates(n: int, text: str) -> list[Envelope]:
    steps = tuple(
        QUpdateItem(f"{(n + step) % 40},{step}", "dig", "toward", float(n % 7), 0.5) for step in range(10)
    )
    return [QUpdate("default", f"npc:{n % AGENTS}", "q", text, steps, time.time())]


# --- reads while it works --------------------------------------------------------------------------------


def _reads(data: Path, seconds: float) -> dict[str, Any]:
    process = LorestreamProcess(data, {})
    process.start()
    try:
        with httpx2.Client(base_url=process.url, timeout=120) as client:
            _write_characters(client)
            quiet: list[dict[str, Any]] = []
            loaded: list[dict[str, Any]] = []
            for _ in range(ROUNDS):
                quiet.append(_asked(process.port, seconds))
                with _Ingest(process.url):
                    loaded.append(_asked(process.port, seconds))
    finally:
        process.stop()
    figures = {"quiet": _median(quiet), "ingesting": _median(loaded)}
    over = {name: figures["ingesting"][name] / figures["quiet"][name] for name in ("p50_ms", "p99_ms")}
    return {"document_read": figures | {"ingesting_over_quiet": over}}


def _write_characters(client: httpx2.Client) -> None:
    for n in range(AGENTS):
        last = n == AGENTS - 1
        url = f"/v1/entities/character/npc:{n}" + ("?wait=applied&timeout_ms=60000" if last else "")
        client.put(url, json={"data": _CHARACTER}).raise_for_status()


def _asked(port: int, seconds: float) -> dict[str, Any]:
    paths = [f"/v1/entities/character/npc:{n * 7 % AGENTS}" for n in range(int(RATE * seconds))]
    seen: Seen = Load(port, gets=paths, rate=RATE).seen()
    failed = {state for state in seen.states if state != "none"}
    assert not failed, f"some reads failed: {failed}"
    taken = seen.of("none")
    return {"p50_ms": percentile(taken, 0.5), "p99_ms": percentile(taken, 0.99)}


def _median(rounds: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


class _Ingest:
    """While the context lasts, the worker never waits for work: events are sent as fast as they are taken."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        # Each waits for its own request: with two of them one is always in the log.
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in (1, 2)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        with httpx2.Client(base_url=self._url, timeout=120) as client:
            seed = time.time_ns() * number
            while not self._ended.is_set():
                seed += 1
                batch = [
                    {"agent_id": f"npc:{n}", "text": text}
                    for n, text in enumerate(sentences(BATCH, seed=seed))
                ]
                answer = client.post("/v1/events?wait=indexed&timeout_ms=1000", json={"events": batch})
                assert answer.status_code in {200, 202, 429}, answer.text


if __name__ == "__main__":
    print(json.dumps(measure_state(**({"events": int(sys.argv[1])} if sys.argv[1:] else {})), indent=2))
