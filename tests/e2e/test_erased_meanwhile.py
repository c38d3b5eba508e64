"""Erased while an index is built anew, while a late writer writes, while Redis holds the answer: never seen again."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deploy.local.cluster import Cluster
from deploy.local.redis_server import RedisServer
from lorestream.admin import NoArguments, Progress, Remark
from lorestream.http.application import application
from lorestream.memories import Memory, PageQuery, Scope
from lorestream.wiring import OpenCollection, Runtime
from producers import gateway as writes
from producers.gateway import Gateway
from query_service import rest as reads
from query_service.recall import CurrentRecall
from stream_workers.rebuild.alias_swap import AliasTasks, SwapArguments
from stream_workers.rebuild.replay import Replay, ReplayArguments
from tests.admin_verbs import begun, ended, run
from tests.collection_compare import compared
from tests.parts import open_parts, running_worker
from tests.processes import metric

PATIENCE_S = 120
SPIES = [f"npc:spy-{number}" for number in range(4)]
OTHERS = [f"npc:farmer-{number}" for number in range(4)]
EVERYBODY = [*SPIES, *OTHERS]
EACH = 20
WORD = secrets.token_hex(8)


def event(number: int) -> dict[str, Any]:
    agent = EVERYBODY[number % len(EVERYBODY)]
    return {"id": f"{number}", "agent_id": agent, "text": f"{WORD} number {number} near the mill", "ttl": 0}


async def send(http: httpx2.AsyncClient, first: int, count: int, *, wait: bool = True) -> None:
    body = {"server": "s", "events": [event(number) for number in range(first, first + count)]}
    answer = await http.post(f"/v1/events{'?wait=indexed&timeout_ms=60000' if wait else ''}", json=body)
    assert answer.status_code == (200 if wait else 202), answer.text


async def erase(http: httpx2.AsyncClient, agents: Sequence[str]) -> None:
    """Processed when this returns: from then on nobody may see anything of them."""
    for agent in agents:
        answer = await http.delete(f"/v1/agents/{agent}")
        assert answer.status_code == 202, answer.text
        after = {"after": answer.json()["token"], "wait_ms": 60_000}
        found = await http.post("/v1/memories/search", json={"agent_id": agent, "query": WORD} | after)
        assert (found.json()["fresh"], found.json()["memories"]) == (True, []), found.text


async def shown(http: httpx2.AsyncClient, agents: Sequence[str]) -> list[str]:
    """Every way in which anything of these agents is seen."""
    answers: list[tuple[str, httpx2.Response]] = []
    for agent in agents:
        for how in ({}, {"mode": "keyword"}, {"mode": "hybrid"}, {"weights": {"importance": 1}}):
            question = {"agent_id": agent, "query": WORD, "k": 100, **how}
            answers.append((f"{agent} {how}", await http.post("/v1/memories/search", json=question)))
        question = {"query": WORD, "recent": 100, "relevant": 100}
        answers.append((f"{agent} context", await http.post(f"/v1/agents/{agent}/context", json=question)))
        answers.append((f"{agent} recent", await http.get(f"/v1/agents/{agent}/memories")))
    question = {"searches": [{"agent_id": agent, "query": WORD} for agent in agents]}
    answers.append(("batch", await http.post("/v1/memories/search/batch", json=question)))
    for how, answer in answers:
        assert answer.status_code == 200, f"{how}: {answer.text}"
    return [how for how, answer in answers if WORD in answer.text]


async def counted(http: httpx2.AsyncClient, agents: Sequence[str]) -> list[str]:
    """Those of them whose memories are counted: a late write may be, until its writer has heard of the erasure."""
    listed = (await http.get("/v1/agents?limit=1000")).json()["agents"]
    totals = [(await http.get(f"/v1/agents/{agent}/summary")).json() for agent in agents]
    return [one["agent_id"] for one in [*listed, *totals] if one["total"] and one["agent_id"] in agents]


class Watch:
    """Asks all the while about those that are erased already."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self.erased: list[str] = []
        self.seen: list[str] = []
        self.looked = 0

    async def run(self) -> None:
        while True:
            if self.erased:
                agents = list(self.erased)
                self.seen += await shown(self._http, agents)
                self.looked += 1
            await asyncio.sleep(0.3)

    async def looks_once_more(self) -> None:
        """A look that begins from now on comes to its end."""
        before = self.looked
        async with asyncio.timeout(PATIENCE_S):
            while self.looked < before + 2:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def watching(http: httpx2.AsyncClient) -> AsyncIterator[Watch]:
    watch = Watch(http)
    running = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert watch.seen == []


async def filled(http: httpx2.AsyncClient) -> None:
    """Memories of all, and answers about the spies that a cache holds."""
    await send(http, 0, EACH * len(EVERYBODY))
    assert len(await shown(http, SPIES)) > 4 * len(SPIES)
    question = {"agent_id": SPIES[0], "query": WORD, "k": 100}
    assert (await http.post("/v1/memories/search", json=question)).json()["cache"] == "hit"


# --- embedded ----------------------------------------------------------------------------------------------------


class LateWriter:
    """Has the spies' memories in hand, with their vectors, and writes them whenever it wakes."""

    def __init__(self, runtime: Runtime, memories: Sequence[Memory]) -> None:
        self._runtime = runtime
        self._memories = memories

    async def write(self) -> None:
        for collection in await self._collections():
            made = await collection.embedder.embed([one.text for one in self._memories])
            await collection.store.insert(self._memories, made.vectors)

    async def learn(self) -> None:
        """What every worker does about its own late writes, once it hears of an erasure."""
        for collection in await self._collections():
            for erasure in self._runtime.ledger.added_since(0):
                await collection.store.erase(erasure)

    async def _collections(self) -> list[OpenCollection]:
        collections = self._runtime.collections
        return [await collections.ensure_open(one) for one in await collections.refresh()]


@contextlib.asynccontextmanager
async def embedded(data: Path, redis: RedisServer) -> AsyncIterator[tuple[Runtime, httpx2.AsyncClient]]:
    """What `lorestream up` serves, over a Redis."""
    cache = {"kind": "redis", "url": redis.url}
    async with open_parts(data, store={"kind": "edge"}, cache=cache) as runtime:
        operations = [*writes.operations(Gateway.over(runtime)), *reads.operations(CurrentRecall(runtime))]
        transport = httpx2.ASGITransport(app=application("lorestream", operations, metrics=runtime.metrics))
        async with (
            running_worker(runtime),
            httpx2.AsyncClient(transport=transport, base_url="http://lorestream") as http,
        ):
            yield runtime, http


async def test_embedded(tmp_path: Path, own_redis: RedisServer) -> None:
    async with embedded(tmp_path, own_redis) as (runtime, http):
        await filled(http)
        scope = Scope("default", tuple(SPIES))
        spied = await runtime.store.page(PageQuery(scope, limit=1000, now=runtime.clock.now()))
        assert len(spied) == EACH * len(SPIES)
        late = LateWriter(runtime, spied)
        half = len(SPIES) // 2
        async with watching(http) as watch:
            async for report in Replay(runtime).run(ReplayArguments("other", dim=96)):
                match report:
                    case Remark():  # nothing is in it yet
                        await erase(http, SPIES[:half])
                        watch.erased += SPIES[:half]
                        await late.write()
                        assert await shown(http, SPIES[:half]) == []
                    case Progress("replaying the log", done, total) if (
                        done == total and len(watch.erased) == half
                    ):
                        await erase(http, SPIES[half:])
                        watch.erased += SPIES[half:]
                        await late.write()
                        assert await shown(http, SPIES) == []
                        await late.learn()
                    case _:
                        outcome = report
            assert (outcome.value["gate"], outcome.value["reasons"]) == ("passed", [])  # type: ignore[union-attr]
            await late.write()
            async for _ in AliasTasks(runtime).swap(SwapArguments("other")):
                pass
            assert runtime.collections.current.name == "other"
            await watch.looks_once_more()
            await late.write()
            async for _ in AliasTasks(runtime).rollback(NoArguments()):
                pass
            await watch.looks_once_more()
            assert len(await shown(http, OTHERS)) > 4 * len(OTHERS)
        await late.learn()
        assert await counted(http, SPIES) == []


# --- distributed -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
async def test_distributed(cluster: Cluster) -> None:
    async with httpx2.AsyncClient(base_url=cluster.url, timeout=PATIENCE_S) as http:
        await filled(http)
        await asyncio.wait_for(erased_while_a_worker_sleeps(cluster, http), 400)
    names = [one["name"] for one in run(cluster, "alias", "list")["collections"]]
    assert len(names) == 2
    assert await compared(cluster, names) > 0  # nor is anything of the erased agents in either collection
    run(cluster, "drop", "other", "--yes")


async def erased_while_a_worker_sleeps(cluster: Cluster, http: httpx2.AsyncClient) -> None:
    sleeper = cluster.workers[0]
    async with watching(http) as watch:
        replay = begun(cluster, "replay", "--to", "other", "--dim", "96")
        # It is at these when it falls asleep; about half of the spies' partitions are its own.
        await send(http, 10_000, 1000, wait=False)
        sleeper.pause()
        try:
            await erase(http, SPIES)
            watch.erased += SPIES
            await watch.looks_once_more()
        finally:
            before = metric(cluster.workers[1].url, "lorestream_rebalances_total")
            sleeper.resume()
        # It writes what it had in hand, hears of it, and is given work again.
        async with asyncio.timeout(PATIENCE_S):
            while metric(cluster.workers[1].url, "lorestream_rebalances_total") == before:
                await asyncio.sleep(0.1)
        outcome = await asyncio.to_thread(ended, replay)
        assert (outcome["gate"], outcome["reasons"]) == ("passed", [])
        await watch.looks_once_more()
        assert len(await shown(http, OTHERS)) > 4 * len(OTHERS)
    assert await counted(http, SPIES) == []
