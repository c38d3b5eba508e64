"""The embedded store under 100,000 memories: what a search, a page, an insert and a flush cost.

    python -m tests.load.store [MEMORIES [AGENTS]]
    python -m tests.load.store server [MEMORIES [AGENTS]]

Vectors are random: exact search takes the same time over any. The shard lies in the temporary directory. The second
form holds the adapter of a server against Edge in this process: the server that LORESTREAM_TEST_QDRANT_URL names, else
the stand-in, whose engine is Edge too, so that what it takes longer is the wire, the adapter and the stand-in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.memories import Condition, Field, Memory, Op, PageQuery, Scope, VectorQuery
from lorestream.ports import VectorStore
from lorestream.state.q_tables import q_state_key
from lorestream.state.rows import Row
from tests.qdrant_stand_in.fixtures import Qdrant, at
from tests.qdrant_stand_in.process import StandIn

_DIM = 384
_START = 1_700_000_000.0
_NOW = _START + 1e9
_BATCH = 256
_ROUNDS = 3
_ROW_ROUNDS = 40
_NODES = ("default:tree", "default:stone", "default:pine_tree", "default:coal_ore", "default:dirt")


def measure_store(memories: int = 100_000, agents: int = 200) -> dict[str, float]:
    """Fill a store and ask it; times in milliseconds, sizes in bytes, see the keys."""
    with tempfile.TemporaryDirectory(prefix="lorestream-bench-") as directory:
        return asyncio.run(_measure(Path(directory) / "store", memories, agents))


def measure_server(memories: int = 20_000, agents: int = 50) -> dict[str, Any]:
    """The same questions to a server and to Edge in turns: figures of both, and how many times Edge's those are."""
    with (
        tempfile.TemporaryDirectory(prefix="lorestream-bench-") as directory,
        contextlib.ExitStack() as stack,
    ):
        if url := os.environ.get("LORESTREAM_TEST_QDRANT_URL"):
            port = int(os.environ.get("LORESTREAM_TEST_QDRANT_GRPC_PORT", "6334"))
            server = Qdrant(url, port, os.environ.get("LORESTREAM_TEST_QDRANT_API_KEY"))
        else:
            server = at(stack.enter_context(StandIn(Path(directory))))
        figures = asyncio.run(_compare(server, memories, agents))
    return {"server_is": url or "the stand-in", "memories": memories, "agents": agents, **figures}


async def _compare(server: Qdrant, memories: int, agents: int) -> dict[str, Any]:
    async with (
        EdgeStore.open(None, model_id="bench", dim=_DIM) as embedded,
        server.store(dim=_DIM) as served,
    ):
        stores: dict[str, VectorStore] = {"edge": embedded, "server": served}
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in stores}
        rates: dict[str, dict[str, float]] = {}
        for name, store in stores.items():
            cpu = time.process_time()
            spent, _, _ = await _fill(store, np.random.default_rng(1), memories, agents)
            # Most of what is spent here beside `insert` is making the batches, alike for both.
            rates[name] = {
                "insert_points_per_s": memories / spent,
                "cpu_s_of_this_process": time.process_time() - cpu,
            }
        for _ in range(_ROUNDS):
            for name, store in stores.items():
                rounds[name].append(await _ask(store, np.random.default_rng(2), agents))
    figures = {
        name: rates[name] | {key: _middle([one[key] for one in rounds[name]]) for key in rounds[name][0]}
        for name in stores
    }
    figures["server_over_edge"] = {
        key: figures["server"][key] / figures["edge"][key] for key in figures["edge"]
    }
    return {name: {key: round(one, 2) for key, one in all_.items()} for name, all_ in figures.items()}


async def _measure(path: Path, memories: int, agents: int) -> dict[str, float]:
    random_ = np.random.default_rng(1)
    figures: dict[str, float] = {"memories": memories, "agents": agents}
    async with EdgeStore.open(path, model_id="bench", dim=_DIM) as store:
        spent, flushes, text = await _fill(store, random_, memories, agents)
        figures["insert_points_per_s"] = memories / spent
        figures["flush_p50_ms"], figures["flush_max_ms"] = _middle(flushes), max(flushes)
    figures["disk_bytes_per_memory_beside_text"] = (_disk(path, "**/*") - text) / memories
    figures["of_which_write_ahead_log"] = _disk(path, "**/wal/*") / memories
    begin = time.perf_counter()
    async with EdgeStore.open(path, model_id="bench", dim=_DIM) as store:
        figures["reload_s"] = time.perf_counter() - begin
        figures.update(await _ask(store, random_, agents))
        figures["rows_read_and_written_per_s"] = await _fold_rows(store)
    return {name: round(value, 3) for name, value in figures.items()}


async def _fold_rows(store: VectorStore) -> float:
    """Rows per second that are read and written again, as folds do it, in batches of 256."""
    rows = [
        Row(
            key=q_state_key("t", "a", "q", f"s{number}"),
            body='{"dig": [0.25, 3], "cut": [0.5, 1]}',
            accepted_at=_START,
            since=_START,
            log="log",
            offset=1,
            born=1,
            listed=True,
        )
        for number in range(_BATCH)
    ]
    begin = time.perf_counter()
    for offset in range(_ROW_ROUNDS):
        await store.rows([row.key for row in rows])
        await store.put_rows([replace(row, offset=offset) for row in rows])
    return _ROW_ROUNDS * _BATCH / (time.perf_counter() - begin)


async def _fill(
    store: VectorStore, random_: np.random.Generator, memories: int, agents: int
) -> tuple[float, list[float], int]:
    """Seconds spent in `insert`, milliseconds of each flush, bytes of text."""
    words = random.Random(1)
    spent, text, flushes = 0.0, 0, list[float]()
    for first in range(0, memories, _BATCH):
        count = min(_BATCH, memories - first)
        batch = [_memory(number, agents, words) for number in range(first, first + count)]
        vectors = random_.standard_normal((count, _DIM), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        text += sum(len(memory.text.encode()) for memory in batch)
        begin = time.perf_counter()
        await store.insert(batch, vectors)
        spent += time.perf_counter() - begin
        if (first // _BATCH) % 2:  # about what a worker gets done in a second
            flushes.append(await _timed(store.flush))
    return spent, flushes, text


def _memory(number: int, agents: int, words: random.Random) -> Memory:
    node = words.choice(_NODES)
    place = {axis: float(words.randint(-2000, 2000)) for axis in "xyz"}
    return Memory(
        id=f"00000000-0000-5000-8000-{number:012d}",
        tenant="default",
        agent_id=f"npc:villager-{number % agents}",
        text=f"npc:villager dug {words.randint(1, 99)} {node} at ({place['x']}, {place['y']}, {place['z']})",
        timestamp=_START + number * 0.37,
        accepted_at=_START + number * 0.37 + 0.2,
        server="survival-1",
        type=words.choice(["dig", "place", "chat"]),
        metadata={
            "node": node,
            "count": words.randint(1, 99),
            "outcome": words.choice(["success", "failure"]),
        },
        pos=place,
        tick=number * 7.4,
        player="k1:" + f"{number % 20:064x}",
        expires_at=_NOW + 2_592_000 + number,
    )


async def _ask(store: VectorStore, random_: np.random.Generator, agents: int) -> dict[str, float]:
    def scope() -> Scope:
        return Scope("default", (f"npc:villager-{random_.integers(agents)}",))

    def nearest(**more: Any) -> VectorQuery:
        vector = random_.standard_normal(_DIM)
        fields: dict[str, Any] = {"scope": scope(), "k": 5, "now": _NOW, **more}
        return VectorQuery(vector=(vector / np.linalg.norm(vector)).tolist(), **fields)

    equal = Condition(Field(("metadata", "outcome")), Op.EQ, "success")
    above = Condition(Field(("metadata", "count")), Op.GT, 50)
    questions: dict[str, tuple[int, Callable[[], Awaitable[object]]]] = {
        "search": (2000, lambda: store.search(nearest())),
        "search_k100": (300, lambda: store.search(nearest(k=100))),
        "search_equal": (500, lambda: store.search(nearest(filter=equal))),
        "search_above": (500, lambda: store.search(nearest(filter=above))),
        "search_tenant": (20, lambda: store.search(nearest(scope=Scope("default")))),
        "page": (500, lambda: store.page(PageQuery(scope(), 20, _NOW))),
        "count": (500, lambda: store.count(PageQuery(scope(), 20, _NOW))),
        "agents": (10, lambda: store.agents(Scope("default"), limit=100, now=_NOW)),
    }
    figures: dict[str, float] = {}
    for name, (times, question) in questions.items():
        taken = sorted([await _timed(question) for _ in range(times)])
        figures[f"{name}_p50_ms"] = _middle(taken)
        figures[f"{name}_p99_ms"] = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    return figures


def _disk(path: Path, pattern: str) -> int:
    """Bytes that the files take up; Edge makes many of them larger than they are full."""
    return sum(file.stat().st_blocks * 512 for file in path.glob(pattern) if file.is_file())


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    begin = time.perf_counter()
    await call()
    return (time.perf_counter() - begin) * 1000


def _middle(taken: list[float]) -> float:
    return sorted(taken)[len(taken) // 2]


if __name__ == "__main__":
    measure, sizes = (
        (measure_server, sys.argv[2:]) if sys.argv[1:2] == ["server"] else (measure_store, sys.argv[1:])
    )
    print(json.dumps(measure(*map(int, sizes)), indent=2))
