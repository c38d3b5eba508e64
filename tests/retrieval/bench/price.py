"""What the steps of a search cost: `python -m tests.retrieval.bench.price --sizes 1000 10000 [--server]`.

For one agent with that many memories: milliseconds and CPU milliseconds (median) of each step alone, and of whole
searches through the HTTP application. Searches find the vector of their query in the embedder's cache, and the model
has a line of its own. With --server the store is a Qdrant server at LORESTREAM_TEST_QDRANT_URL, or else the stand-in,
whose own work is then not part of the CPU time. 100,000 memories are embedded in some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorestream.adapters.qdrant.conditions import Ids, scope_clause
from lorestream.adapters.qdrant.payload import decode_memory
from lorestream.adapters.qdrant.scoring import Similarity
from lorestream.fusion import fuse
from lorestream.memories import AroundQuery, Memory, Scope
from lorestream.ports import Priority, Role
from lorestream.telemetry import set_up_logging
from lorestream.wiring import Runtime
from tests.models import models_dir
from tests.parts import open_parts
from tests.qdrant_stand_in.process import StandIn
from tests.retrieval.bench.corpus import START
from tests.retrieval.bench.kinds.noise import noise
from tests.retrieval.bench.methods import chosen
from tests.retrieval.reader import Reader, over

AGENT = "npc:keeper"
SCOPE = Scope("default", (AGENT,))
DEPTH = 200
"""Candidates of each list of a hybrid search."""
K = 10
MODEL = {"kind": "openvino"}
"""The default model. Random vectors would not do: how far apart cosines lie decides how much a hybrid search reads."""
QUESTIONS = 60
_BATCH = 500
_SEARCHES = ("dense", "keyword", "hybrid", "hybrid, no neighbours")

Cost = tuple[float, float]
"""Milliseconds and CPU milliseconds of this process."""


async def measure(runtime: Runtime, size: int, searches: Mapping[str, Mapping[str, Any]]) -> dict[str, Cost]:
    """The cost of each step and of each search, in a store with `size` memories of the agent."""
    events = noise(size, [AGENT], START, START + 86_400.0).events
    texts = [event["text"] for event in events]
    for start in range(0, size, _BATCH):
        memories = [_memory(event) for event in events[start : start + _BATCH]]
        vectors = (await runtime.embedder.embed([one.text for one in memories])).vectors
        await runtime.store.insert(memories, vectors)
    questions = [
        f"who {text.split()[-2]} {text.split()[2]} {number}" for number, text in enumerate(texts[:QUESTIONS])
    ]
    costs = await _steps(runtime, questions)
    async with over(runtime, cache=None) as reader:
        reader.clock.time = START + 2 * 86_400.0
        for name, options in searches.items():
            costs[f"search: {name}"] = await _median(questions, _search(reader, options))
    return costs


def _search(reader: Reader, options: Mapping[str, Any]) -> Callable[[str], Awaitable[object]]:
    return lambda question: reader.search(question, agent_id=AGENT, k=K, **options)


async def _steps(runtime: Runtime, questions: Sequence[str]) -> dict[str, Cost]:
    store: Any = runtime.store
    engine, words = store._engine, store.words
    clauses = (scope_clause(SCOPE),)
    vectors = (await runtime.embedder.embed(questions, Priority.QUERY, Role.QUERY)).vectors
    dense = {one: Similarity(row.tolist(), -1.0) for one, row in zip(questions, vectors, strict=True)}
    sparse = {one: Similarity(words.query(one), 0.0) for one in questions}
    found = {one: await engine.ranked_ids(clauses, dense[one].nearest(DEPTH)) for one in questions}
    shared = {one: await engine.ranked_ids(clauses, sparse[one].nearest(DEPTH)) for one in questions}
    first = {one: [key for key, _ in hits[:K]] for one, hits in found.items()}
    payloads = {one: await engine.retrieve(keys) for one, keys in first.items()}
    memories = {one: [decode_memory(payload) for payload in many.values()] for one, many in payloads.items()}

    async def completion(one: str) -> None:
        keyword, cosine = [key for key, _ in shared[one]], [key for key, _ in found[one]]
        await engine.ranked_ids((Ids(frozenset(keyword)),), dense[one].nearest(DEPTH))
        await engine.ranked_ids((Ids(frozenset(cosine)),), sparse[one].nearest(DEPTH))

    async def fusion(one: str) -> None:
        fuse(dict(found[one]) | dict.fromkeys((key for key, _ in shared[one]), 0.1), dict(shared[one]))

    async def decode(one: str) -> None:
        for payload in payloads[one].values():
            decode_memory(payload)

    steps: dict[str, Callable[[str], Awaitable[object]]] = {
        "ids of 200 by cosine": lambda one: engine.ranked_ids(clauses, dense[one].nearest(DEPTH)),
        "ids of 200 by words": lambda one: engine.ranked_ids(clauses, sparse[one].nearest(DEPTH)),
        "the missing scores of both": completion,
        "fusion": fusion,
        "read 10 payloads": lambda one: engine.retrieve(first[one]),
        "decode 10 memories": decode,
        "neighbours of 10 memories": lambda one: runtime.store.around(
            AroundQuery(memories[one], 1, 300.0, START + 2 * 86_400.0)
        ),
    }
    return {name: await _median(questions, step) for name, step in steps.items()}


async def _median(questions: Sequence[str], step: Callable[[str], Awaitable[object]]) -> Cost:
    walls, cpus = [], []
    for question in questions:
        wall, cpu = time.perf_counter(), time.process_time()
        await step(question)
        cpus.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
    return 1000 * statistics.median(walls), 1000 * statistics.median(cpus)


async def embedding(data: Path) -> Cost:
    """The cost of one question's vector, with the default model."""
    async with open_parts(data, embedder=MODEL, models_dir=models_dir()) as runtime:
        questions = [f"where did I see the lost sheep on day {number}" for number in range(QUESTIONS)]
        return await _median(questions, lambda one: runtime.embedder.embed([one], Priority.QUERY, Role.QUERY))


def _memory(event: Mapping[str, Any]) -> Memory:
    return Memory(
        id=event["id"], tenant="default", agent_id=AGENT, text=event["text"],
        timestamp=event["time"], accepted_at=event["time"], type=event["type"],
    )  # fmt: skip


@contextlib.contextmanager
def _store(*, server: bool) -> Iterator[dict[str, Any]]:
    """The setting of the store."""
    if not server:
        yield {"kind": "memory"}
        return
    if url := os.environ.get("LORESTREAM_TEST_QDRANT_URL"):
        port = int(os.environ.get("LORESTREAM_TEST_QDRANT_GRPC_PORT", "6334"))
        yield {"kind": "qdrant", "url": url, "grpc_port": port, "collection": f"price-{os.getpid()}"}
        return
    with tempfile.TemporaryDirectory() as folder, StandIn(Path(folder)) as stand_in:
        yield {"kind": "qdrant", "url": stand_in.url, "grpc_port": stand_in.grpc_port, "timeout_s": 30}


@contextlib.asynccontextmanager
async def _opened(*, server: bool) -> AsyncIterator[Runtime]:
    with tempfile.TemporaryDirectory() as data, _store(server=server) as store:
        async with open_parts(Path(data), store=store, embedder=MODEL, models_dir=models_dir()) as runtime:
            yield runtime


async def _main(options: argparse.Namespace) -> None:
    searches = chosen(options.method or _SEARCHES)
    columns: dict[int, dict[str, Cost]] = {}
    for size in options.sizes:
        print(f"{size} memories", file=sys.stderr, flush=True)
        async with _opened(server=options.server) as runtime:
            columns[size] = await measure(runtime, size, searches)
    print(f"| ms (CPU ms) | {' | '.join(f'{size:,}' for size in columns)} |")
    print(f"| --- |{' --- |' * len(columns)}")
    with tempfile.TemporaryDirectory() as data:
        model_ms, cpu_ms = await embedding(Path(data))
    print(f"| vector of the query (model) |{f' {model_ms:.2f} ({cpu_ms:.2f}) |' * len(columns)}")
    for step in next(iter(columns.values())):
        cells = [f"{costs[step][0]:.2f} ({costs[step][1]:.2f})" for costs in columns.values()]
        print(f"| {step} | {' | '.join(cells)} |")
    for size, costs in columns.items():
        for name, (wall, _) in costs.items():
            if name.startswith("search: hybrid") and "search: dense" in costs:
                dense = costs["search: dense"][0]
                print(
                    f"{size:,}: {name} / dense {wall / dense:.2f}, each with its vector"
                    f" {(wall + model_ms) / (dense + model_ms):.2f}"
                )


if __name__ == "__main__":
    set_up_logging("console", "error")
    parser = argparse.ArgumentParser(prog="python -m tests.retrieval.bench.price", description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1000, 10_000, 100_000])
    parser.add_argument("--server", action="store_true", help="a Qdrant server instead of Edge")
    parser.add_argument(
        "--method", action="append", metavar="NAME[=JSON]", help="searches; as for the benchmark"
    )
    asyncio.run(_main(parser.parse_args()))
