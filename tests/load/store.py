"""The embedded store under 100,000 memories: what a search, a page, an insert and a flush cost.

    python -m tests.load.store [MEMORIES [AGENTS]]

Vectors are random: exact search takes the same time over any. The shard lies in the temporary directory.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from engram.adapters.qdrant_edge import EdgeStore
from engram.memories import Condition, Field, Memory, Op, PageQuery, Scope, VectorQuery

_DIM = 384
_START = 1_700_000_000.0
_NOW = _START + 1e9
_BATCH = 256
_NODES = ("default:tree", "default:stone", "default:pine_tree", "default:coal_ore", "default:dirt")


def measure_store(memories: int = 100_000, agents: int = 200) -> dict[str, float]:
    """Fill a store and ask it; times in milliseconds, sizes in bytes, see the keys."""
    with tempfile.TemporaryDirectory(prefix="engram-bench-") as directory:
        return asyncio.run(_measure(Path(directory) / "store", memories, agents))


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
    return {name: round(value, 3) for name, value in figures.items()}


async def _fill(
    store: EdgeStore, random_: np.random.Generator, memories: int, agents: int
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


async def _ask(store: EdgeStore, random_: np.random.Generator, agents: int) -> dict[str, float]:
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
    print(json.dumps(measure_store(*map(int, sys.argv[1:])), indent=2))
