"""The reads of the distributed shape, asked over HTTP at a fixed rate: quiet, and while a worker ingests all it can.

Real: `lorestream query`, `lorestream worker`, Kafka, Redis, the model. The store is a stand-in, a Python program over Qdrant
Edge, unless LORESTREAM_STORE__URL names one. Everything shares this machine's cores, the load generator too, so CPU time
stands beside each latency, and the promises about load and about FastAPI are ratios within one run. In turn with the
query service a bare one is asked the same way, which does nothing but embed: what that one takes is the machine's part.
First each kind of search is asked one by one: what it takes without a queue, and the CPU time of each side.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from deploy.local.cluster import Cluster
from deploy.local.process import Child, answers, free_port
from deploy.local.services import ROOT
from lorestream import events
from lorestream.telemetry import set_up_logging
from lorestream.wiring import GatewayParts, open_gateway
from tests.load.distributed import cluster_settings
from tests.load.fastapi_reader import Search, field_of, name_of
from tests.load.http_load import PATH, Load, Seen, percentile
from tests.load.system import sentences
from tests.parts import put
from tests.processes import cpu_s

AGENTS = 200
MEMORIES = 6000
RATE = 50
"""Requests per second. Above it two cores that the model, the store and the generator share have queues of their own."""
REPEATED = 0.8
"""Of the requests: one of the questions that are asked again and again. The others are asked once."""
QUESTIONS = 500
ROUNDS = 3
BURST = 8000
"""Requests of a closed loop."""
ONE_BY_ONE = 200
MODES: Mapping[str, Mapping[str, Any]] = {"dense": {"mode": "dense"}, "hybrid": {"mode": "hybrid"}}
"""By meaning only, as the bare service embeds only; and the default: also by words, and with the memories next to them."""
KINDS = MODES | {
    "keyword": {"mode": "keyword"},
    "hybrid_without_neighbours": {"mode": "hybrid", "neighbours": 0},
}
_FIGURES = ("cached_p50_ms", "cached_p99_ms", "uncached_p50_ms", "uncached_p99_ms")


def measure_reads(data: Path, *, seconds: float = 10) -> dict[str, Any]:
    """Latencies in milliseconds from when a request was due, by what the answer says of the cache."""
    set_up_logging("json", "warning")
    with tempfile.TemporaryDirectory() as folder:
        given = {name: value for name, value in os.environ.items() if name.startswith("LORESTREAM_STORE__")}
        environment = {"LORESTREAM_DATA_DIR": str(data), "LORESTREAM_EMBEDDER__THREADS": "1", **given}
        cluster = Cluster(Path(folder), workers=1, gateways=0, settings=environment)
        try:
            for child in (*cluster.engines, *cluster.services):
                child.start()
            with Other("bare_reader", cluster.directory) as bare:
                figures = asyncio.run(_measure(cluster, data, bare, seconds))
        finally:
            cluster.stop()
    return {"store": environment.get("LORESTREAM_STORE__URL", "stand-in"), **figures}


async def _measure(cluster: Cluster, data: Path, bare: Other, seconds: float) -> dict[str, Any]:
    async with open_gateway(cluster_settings(cluster, data)) as gateway:
        ingest = _Ingest(gateway)
        per_s = await ingest.all(MEMORIES)
        alone = await asyncio.to_thread(_alone, cluster, bare)
        asked = {name: Asked(seed, **search) for seed, (name, search) in enumerate(MODES.items())}
        quiet: list[dict[str, Any]] = []
        loaded: list[dict[str, Any]] = []
        for _ in range(ROUNDS):
            quiet.append(await asyncio.to_thread(_round, cluster, bare, asked, seconds))
            # Twice what it can take while everybody else wants the cores, so that it never waits for work.
            await ingest.begin(int(2 * per_s * 3 * (seconds + 2)))
            loaded.append(await asyncio.to_thread(_round, cluster, bare, asked, seconds))
            loaded[-1]["left_to_ingest"] = await ingest.left()
            await ingest.end()
    compared = await asyncio.to_thread(_compare, cluster)
    return {
        "load_average": os.getloadavg()[0],
        "ingest_alone_events_per_s": round(per_s),
        "one_by_one": alone,
        "quiet": _median(quiet),
        "ingesting": _median(loaded),
        "over_bare": {
            mode: {
                f"{name}_{figure}": _ratio(rounds, mode, rounds, "bare", figure)
                for name, rounds in (("quiet", quiet), ("ingesting", loaded))
                for figure in _FIGURES
            }
            for mode in MODES
        },
        "ingesting_over_quiet": {
            mode: {figure: _ratio(loaded, mode, quiet, mode, figure) for figure in _FIGURES}
            for mode in (*MODES, "bare")
        },
        **compared,
    }


class Asked:
    """What is asked, in JSON: Zipf's law over the repeated questions and over the agents. `search`: fields of each."""

    def __init__(self, seed: int, **search: Any) -> None:
        self._chance = random.Random(seed)
        self._search = search
        texts = sentences(QUESTIONS, seed=9)
        self._repeated = [self._body(f"npc:{n % AGENTS}", text) for n, text in enumerate(texts)]
        self._weights = [1 / (rank + 1) for rank in range(QUESTIONS)]
        self._agents = [1 / (rank + 1) for rank in range(AGENTS)]
        self._asked = 0

    def warm(self) -> list[bytes]:
        """Every repeated question once."""
        return list(self._repeated)

    def some(self, count: int) -> list[bytes]:
        """The next requests."""
        repeated = self._chance.choices(self._repeated, self._weights, k=count)
        return [one if self._chance.random() < REPEATED else self.new() for one in repeated]

    def new(self) -> bytes:
        """A request that was not made before."""
        self._asked += 1
        [agent] = self._chance.choices(range(AGENTS), self._agents)
        nouns = self._chance.choices(("pine", "oak", "coal", "lake", "wolf", "tower", "river", "mine"), k=3)
        return self._body(f"npc:{agent}", f"where did I see {' and '.join(nouns)} on day {self._asked}")

    def _body(self, agent: str, query: str) -> bytes:
        return json.dumps({"agent_id": agent, "query": query, "k": 5, **self._search}).encode()


class _Ingest:
    """Fills the log, from which the worker takes all it can."""

    def __init__(self, gateway: GatewayParts) -> None:
        self._gateway = gateway
        self._seed = 0
        self._end: dict[int, int] = {}

    async def begin(self, count: int) -> None:
        """Let `count` events into the log, spread over the agents that are asked."""
        self._seed += 1
        texts = sentences(count, seed=1000 + self._seed)
        now = time.time()
        records = [
            events.encode(
                put(
                    text,
                    agent=f"npc:{n % AGENTS}",
                    event_id=f"{self._seed}:{n}",
                    at=now - (count - n) / AGENTS,
                )
            )
            for n, text in enumerate(texts)
        ]
        for start in range(0, count, 500):
            self._end |= await self._gateway.log.append(records[start : start + 500])

    async def end(self) -> None:
        """Wait until all of it can be found."""
        assert await self._gateway.watermarks.reached(self._end, 300)

    async def left(self) -> bool:
        """Whether the worker has work."""
        return not await self._gateway.watermarks.reached(self._end, 0)

    async def all(self, count: int) -> float:
        """Events per second of a worker that is left alone."""
        await self.begin(64)
        await self.end()
        await self.begin(count)
        began = time.perf_counter()
        await self.end()
        return count / (time.perf_counter() - began)


class Other(Child):
    """A service of this package that the query service is held against, beside a cluster."""

    def __init__(self, module: str, directory: Path, *arguments: str) -> None:
        super().__init__(module, directory, {**os.environ, "PYTHONPATH": str(ROOT)})
        self.port = free_port()
        self._arguments = arguments

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", f"tests.load.{self.name}", str(self.port), *self._arguments]

    def ready(self) -> bool:
        return answers(self.port)


def _run(
    port: int,
    bodies: Sequence[bytes],
    *,
    rate: float | None = None,
    connections: int = 16,
    path: str = PATH,
) -> Seen:
    seen = Load(port, bodies, rate=rate, connections=connections, path=path).seen()
    failed = [state for state in seen.states if state not in {"hit", "miss", "429"}]
    assert not failed, f"{len(failed)} of {len(bodies)} requests failed: {sorted(set(failed))}"
    return seen


def _alone(cluster: Cluster, bare: Other) -> dict[str, Any]:
    """Searches that are not cached, one after the other: milliseconds, and those of CPU of the service and the store."""
    query, store = cluster.queries[0], next((one for one in cluster.engines if "stand-in" in one.name), None)
    asked = {name: Asked(10 + seed, **search) for seed, (name, search) in enumerate(KINDS.items())}
    asked["bare"] = Asked(10)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
    for number in range(ROUNDS + 1):
        for name, some in asked.items():
            service = bare if name == "bare" else query
            watched = [service.pid, *([] if store is None or name == "bare" else [store.pid])]
            before = [cpu_s(pid) for pid in watched]
            seen = _run(service.port, [some.new() for _ in range(ONE_BY_ONE)], connections=1)
            spent = [
                1000 * (cpu_s(pid) - then) / ONE_BY_ONE for pid, then in zip(watched, before, strict=True)
            ]
            figures = {
                "p50_ms": percentile(seen.of("miss"), 0.5),
                "p99_ms": percentile(seen.of("miss"), 0.99),
            }
            figures |= dict(zip(("cpu_ms", "store_cpu_ms"), spent, strict=False))
            rounds[name] += [figures] if number else []  # the first one warms up
    return {name: _median(each) for name, each in rounds.items()}


def _round(cluster: Cluster, bare: Other, asked: Mapping[str, Asked], seconds: float) -> dict[str, Any]:
    """The query service's figures by mode, and those of the bare one, asked the same right after it."""
    found = {mode: _phase(cluster, cluster.queries[0].port, some, seconds) for mode, some in asked.items()}
    machine = _phase(cluster, bare.port, asked["dense"], seconds)
    return {**found, "bare": {name: machine[name] for name in (*_FIGURES, "generator_late_p99_ms")}}


def _phase(cluster: Cluster, port: int, asked: Asked, seconds: float) -> dict[str, Any]:
    _run(port, asked.warm())
    bodies = asked.some(int(RATE * seconds))
    with _cores([*cluster.engines, *cluster.services]) as cores:
        seen = _run(port, bodies, rate=RATE)
    hits, misses = seen.of("hit"), seen.of("miss")
    return {
        "cached_p50_ms": percentile(hits, 0.5),
        "cached_p99_ms": percentile(hits, 0.99),
        "uncached_p50_ms": percentile(misses, 0.5),
        "uncached_p99_ms": percentile(misses, 0.99),
        "hit_rate": len(hits) / (len(hits) + len(misses)),
        "refused": 1 - (len(hits) + len(misses)) / len(bodies),
        "generator_late_p99_ms": seen.sent_late_p99_ms,
        "connections": seen.connections,
        "cores": {**cores(), "generator": round(seen.cpu_s / seen.wall_s, 2)},
    }


@contextmanager
def _cores(children: Sequence[Child]) -> Any:
    """How many cores each of them had, in the mean."""
    before, began = [cpu_s(child.pid) for child in children], time.perf_counter()
    spent: dict[str, float] = {}

    def read() -> Mapping[str, float]:
        return spent

    yield read
    wall_s = time.perf_counter() - began
    for child, cpu in zip(children, before, strict=True):
        spent[child.name] = round((cpu_s(child.pid) - cpu) / wall_s, 2)


# --- FastAPI -------------------------------------------------------------------------------------------------


def _compare(cluster: Cluster) -> dict[str, Any]:
    """Look-ups per CPU second of the query service and of a FastAPI service, by turns over the same Redis."""
    with Other("fastapi_reader", cluster.directory, cluster.redis.url) as other:
        query = cluster.queries[0]
        asked = Asked(seed=2)
        rounds: list[dict[str, float]] = []
        for number in range(ROUNDS + 1):
            bodies = [asked.new() for _ in range(50)]  # no answer lives longer than a minute
            _copy(cluster, query.port, other.port, bodies)
            repeated = [bodies[n % len(bodies)] for n in range(BURST)]
            figures = {
                "lorestream": _per_cpu_s(query.pid, query.port, repeated),
                "fastapi": _per_cpu_s(other.pid, other.port, repeated),
                "fastapi_kept_bytes": _per_cpu_s(other.pid, other.port, repeated, path="/bytes"),
            }
            rounds += [figures] if number else []  # the first one warms up
    return {
        "look_ups_per_cpu_s": {name: round(statistics.median(r[name] for r in rounds)) for name in rounds[0]},
        "over_fastapi": statistics.median(r["lorestream"] / r["fastapi"] for r in rounds),
        "over_fastapi_kept_bytes": statistics.median(
            r["lorestream"] / r["fastapi_kept_bytes"] for r in rounds
        ),
    }


def _per_cpu_s(pid: int, port: int, bodies: Sequence[bytes], *, path: str = PATH) -> float:
    before = cpu_s(pid)
    seen = _run(port, bodies, path=path)
    assert seen.states.count("hit") > 0.99 * len(bodies)  # where Redis is late, an answer is computed
    return len(bodies) / (cpu_s(pid) - before)


def _copy(cluster: Cluster, port: int, other: int, bodies: Sequence[bytes]) -> None:
    """Keep the query service's answers where the other one looks, and see that it gives the same."""
    import redis  # noqa: PLC0415 (the one place that writes what the other service reads)

    with redis.Redis.from_url(cluster.redis.url) as kept, httpx2.Client() as client:
        for body in bodies:
            ask = {"content": body, "headers": {"Content-Type": "application/json"}}
            first = client.post(f"http://127.0.0.1:{port}{PATH}", **ask)
            answer = first.json()
            memories = first.content[len(b'{"memories":') : first.content.rindex(b',"cache":')]
            search = Search(**json.loads(body))
            generation = b"g" * 16
            kept.hset(
                name_of(search.agent_id), mapping={"g": generation, field_of(search): generation + memories}
            )
            for path in (PATH, "/bytes"):
                same = client.post(f"http://127.0.0.1:{other}{path}", **ask).json()
                assert same["memories"] == answer["memories"]


# --- figures -------------------------------------------------------------------------------------------------


def _median(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each figure's median over the rounds."""
    return {
        name: _median([each[name] for each in rounds])
        if isinstance(value, dict)
        else statistics.median(each[name] for each in rounds)
        for name, value in rounds[0].items()
    }


def _ratio(
    over: Sequence[Mapping[str, Any]],
    mode: str,
    under: Sequence[Mapping[str, Any]],
    other: str,
    figure: str,
) -> float:
    """The median of the rounds' ratios: each round of one kind over that of the other kind in the same place."""
    return statistics.median(a[mode][figure] / b[other][figure] for a, b in zip(over, under, strict=True))


if __name__ == "__main__":
    print(json.dumps(measure_reads(ROOT / "data"), indent=2))
