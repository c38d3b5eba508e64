"""How long reads of one agent, and a rewind, hold the event loop, measured over the costly ones on 100,000 memories.

`python -m pytest -n0 -s -m soak tests/unit/test_loop_holds.py` prints the figures of docs/retrieval.md.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from lorestream.rewinds import Rewind
from tests.large_agent import AGENT, COUNT, LONG_NUMBER, write
from tests.loop_watchdog import ATTEMPTS, MOST_S, recorded_holds
from tests.retrieval.reader import NOW, open_reader

REWOUND = 4000
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


@pytest.fixture
def only_its_own_garbage() -> Iterator[None]:
    """Leave the objects of the test run out of garbage collections, as `lorestream up` does with those of its start."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("only_its_own_garbage")
async def test_no_read_and_no_rewind_holds_the_loop_for_more_than_50_ms(tmp_path: Path) -> None:
    async with open_reader(tmp_path, store={"kind": "edge"}, cache={"kind": "off"}) as reader:
        await write(reader.runtime.store, now=NOW)
        batch = {"searches": [{"agent_id": AGENT, "query": f"iron {n}"} for n in range(64)]}
        some = {"n": {"gte": 0}}
        aggregate = {"field": "n", "every_s": 10}
        lines = partial(
            reader.client.get, f"/v1/agents/{AGENT}/memories", headers={"accept": "application/x-ndjson"}
        )
        page_of_one = {"filters": json.dumps({"n": {"gt": LONG_NUMBER}}), "limit": 1}
        reads: dict[str, Callable[[], Awaitable[httpx2.Response]]] = {
            **{
                json.dumps(search)[:80]: partial(
                    reader.post, "/v1/memories/search", {"agent_id": AGENT, **search}
                )
                for search in SEARCHES
            },
            **{
                path: partial(reader.client.get, path)
                for path in (
                    f"/v1/agents/{AGENT}/summary",
                    f"/v1/agents/{AGENT}/relations",
                    "/v1/agents",
                    f"/v1/agents/{AGENT}/memories?limit=1000",
                )
            },
            "batch": partial(reader.post, "/v1/memories/search/batch", batch),
            "aggregate": partial(reader.post, f"/v1/agents/{AGENT}/aggregate", aggregate),
            "aggregate with a filter": partial(
                reader.post, f"/v1/agents/{AGENT}/aggregate", {**aggregate, "filters": some}
            ),
            "lines": lines,
            "lines with a filter": partial(lines, params={"filters": json.dumps(some)}),
            "likeness": partial(reader.post, "/v1/memories/likeness", {"agent_id": AGENT, "limit": 5000}),
            "page of one": partial(reader.client.get, f"/v1/agents/{AGENT}/memories", params=page_of_one),
        }
        newest = Rewind("r", "default", "", NOW - COUNT - REWOUND, NOW)

        async def rewound() -> None:
            """The newest memories are hidden, and shown again."""
            for covers in (newest.covers, lambda _: False):
                assert await reader.runtime.store.set_aside(newest, covers)

        async def answered(read: Callable[[], Awaitable[httpx2.Response]]) -> None:
            answer = await read()
            assert answer.status_code in {200, 429}, answer.text

        works: dict[str, Callable[[], Awaitable[None]]] = {
            **{name: partial(answered, read) for name, read in reads.items()},
            "rewind of 4,000 memories": rewound,
        }
        held: dict[str, float] = {}
        for name, work in works.items():
            for _ in range(ATTEMPTS):
                with recorded_holds() as holds:
                    await work()
                held[name] = min(held.get(name, holds.longest), holds.longest)
                if held[name] <= MOST_S:
                    break
        for name, seconds in held.items():
            print(f"{seconds * 1000:5.1f} ms  {name}")
        assert {name: s for name, s in held.items() if s > MOST_S} == {}
