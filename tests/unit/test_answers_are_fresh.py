"""Concurrent writers and readers of the whole query service: no answer is older than a completed write.

The suites of the caches test this for the caches alone. Here are searches in flight that others join, two services
over one cache, and a store with random delays before and after each call.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.local.redis_server import RedisServer
from lorestream.identity import memory_id
from lorestream.wiring import Runtime
from tests.parts import ReadsItself, open_parts
from tests.retrieval.reader import Reader, over

AGENTS = ("npc:a", "npc:b", "npc:c")
WRITES = 15
TIMEOUT_S = 60
"""Writes of each writer. All memories of an agent fit into one answer."""


class DelayedStore(ReadsItself):
    """A store with a random delay before and after each call."""

    def __init__(self, store: Any, rng: random.Random) -> None:
        self._store = store
        self._random = rng

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **more: Any) -> Any:
            await self._pause()
            found = await method(*args, **more)
            await self._pause()
            return found

        return call

    async def _pause(self) -> None:
        for _ in range(self._random.choice([0, 1, 3])):
            await asyncio.sleep(self._random.choice([0, 0, 0.002]))


@dataclass
class Observations:
    """Completed writes by agent, and answers that lacked one of them."""

    finished: dict[str, set[str]] = field(default_factory=lambda: {agent: set() for agent in AGENTS})
    asked: int = 0
    hits: int = 0
    stale: list[str] = field(default_factory=list)

    async def write(self, reader: Reader, writer: int, rng: random.Random) -> None:
        for number in range(WRITES):
            agent = rng.choice(AGENTS)
            event_id = f"{writer}:{number}"
            await reader.remember(f"note {event_id}", agent=agent, event_id=event_id)
            self.finished[agent].add(memory_id("default", "s", agent, event_id))
            await asyncio.sleep(rng.choice([0, 0.005, 0.01]))

    async def read(self, reader: Reader, rng: random.Random) -> None:
        while True:
            await self.search(reader, rng.choice(AGENTS), rng)
            await asyncio.sleep(0)

    async def search(self, reader: Reader, agent: str, rng: random.Random) -> None:
        due = set(self.finished[agent])
        how: dict[str, Any] = rng.choice(
            [{}, {"query": "note"}, {"query": "note", "mode": "keyword"}, {"query": "note", "mode": "hybrid"}]
        )
        body = {"agent_id": agent, "k": 100, **how}
        if rng.random() < 0.2:
            answer = await reader.post("/v1/memories/search/batch", {"searches": [body]})
            [found] = answer.json()["results"]
        else:
            answer = await reader.post("/v1/memories/search", body)
            found = answer.json()
        assert answer.status_code == 200, answer.text
        self.asked += 1
        self.hits += found["cache"] == "hit"
        missing = due - {one["id"] for one in found["memories"]}
        if missing:
            self.stale.append(f"{len(missing)} of {len(due)} missing in a {found['cache']} of {how}")


@contextlib.asynccontextmanager
async def services(runtime: Runtime, rng: random.Random) -> AsyncIterator[list[Reader]]:
    async with (
        over(runtime, store=DelayedStore(runtime.store, rng)) as one,
        over(runtime, store=DelayedStore(runtime.store, rng)) as other,
    ):
        yield [one, other]


async def play(runtime: Runtime, seed: int) -> Observations:
    observed = Observations()
    async with services(runtime, random.Random(seed)) as both:
        readers = [
            asyncio.create_task(observed.read(both[n % 2], random.Random(100 * seed + n))) for n in range(6)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for n in range(2):
                    group.create_task(observed.write(both[n], n, random.Random(200 * seed + n)))
        finally:
            for task in readers:
                task.cancel()
            outcomes = await asyncio.gather(*readers, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in outcomes), outcomes
        for agent in AGENTS:  # after the last write
            before = observed.hits
            async with asyncio.timeout(TIMEOUT_S):
                # A busy machine may be too late for Redis, and caches nothing then.
                while observed.hits == before:
                    await observed.search(both[0], agent, random.Random(seed))
    return observed


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("cache", ["local", "redis"])
async def test_no_answer_is_older_than_a_finished_write(
    tmp_path: Path, cache: str, seed: int, request: pytest.FixtureRequest
) -> None:
    chosen: dict[str, Any] = {"kind": cache}
    if cache == "redis":
        server: RedisServer = request.getfixturevalue("own_redis")
        chosen["url"] = server.url
    async with open_parts(tmp_path / "data", cache=chosen) as runtime:
        observed = await play(runtime, seed)
    assert observed.stale == []
    assert observed.asked > observed.hits
