"""How long reads of one agent hold the event loop, measured over the costly ones on 100,000 memories."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorestream.memories import Memory
from tests.retrieval.reader import NOW, open_reader

COUNT = 100_000
MOST_S = 0.05
LONG_NUMBER = 0.1234567890123456789


@contextmanager
def longest_hold() -> Iterator[list[float]]:
    """The longest CPU time that one callback of the event loop takes within the block, in seconds."""
    longest = [0.0]
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        longest[0] = max(longest[0], time.thread_time() - began)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", timed)
        yield longest


def memories(count: int) -> Iterator[Memory]:
    for number in range(count):
        yield Memory(
            id=f"{number:032x}",
            tenant="default",
            agent_id="a",
            text=f"found iron near the lake {number % 977}",
            timestamp=NOW - 2 * count + number,
            accepted_at=NOW - 2 * count + number,
            type=f"t{number % 250}",
            metadata={"b": f"word {number % 50}", "n": LONG_NUMBER},
        )


SEARCHES: list[dict[str, Any]] = [
    {"query": "iron"},
    {"query": "iron near the lake", "mode": "hybrid", "k": 100},
    {"query": "iron", "weights": {"recency": 1}},
    {"query": "iron", "filters": {"NOT": {"b": {"contains": "nothing"}}}},
    {"query": "iron", "filters": {"AND": [{"b": {"contains": f"nothing {n}"}} for n in range(5)]}},
    {"query": "iron", "filters": {"n": {"gt": LONG_NUMBER}}},
    {"filters": {"n": {"gte": LONG_NUMBER}}, "k": 100},
    {"query": "iron", "filters": {"NOT": {"type": "t1"}}},
    {"query": "x " * 4000},
]


@pytest.mark.soak
async def test_no_read_holds_the_loop_for_more_than_50_ms(tmp_path: Path) -> None:
    async with open_reader(tmp_path, store={"kind": "edge"}, cache={"kind": "off"}) as reader:
        rows, random = list(memories(COUNT)), np.random.default_rng(1)
        for start in range(0, COUNT, 500):
            vectors = random.standard_normal((500, 384)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            await reader.runtime.store.insert(rows[start : start + 500], vectors)
        held: dict[str, float] = {}
        for search in SEARCHES:
            with longest_hold() as longest:
                answer = await reader.post("/v1/memories/search", {"agent_id": "a", **search})
            assert answer.status_code in {200, 429}, answer.text
            held[json.dumps(search)[:80]] = longest[0]
        batch = {"searches": [{"agent_id": "a", "query": f"iron {n}"} for n in range(64)]}
        for path in ("/v1/agents/a/summary", "/v1/agents", "/v1/agents/a/memories?limit=1000"):
            with longest_hold() as longest:
                assert (await reader.client.get(path)).status_code == 200
            held[path] = longest[0]
        with longest_hold() as longest:
            assert (await reader.post("/v1/memories/search/batch", batch)).status_code in {200, 429}
        held["batch"] = longest[0]
        filters = {"filters": json.dumps({"n": {"gt": LONG_NUMBER}}), "limit": 1}
        with longest_hold() as longest:
            await reader.client.get("/v1/agents/a/memories", params=filters)
        held["page of one"] = longest[0]
        assert {name: s for name, s in held.items() if s > MOST_S} == {}
