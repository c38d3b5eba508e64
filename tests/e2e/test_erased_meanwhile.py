"""Erasures during a replay, with a late writer and answers in Redis: no read shows the erased agents again."""

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
from tests.admin_verbs import finish, run, start
from tests.collection_compare import compared
from tests.parts import open_parts, running_worker
from tests.processes import metric

TIMEOUT_S = 120
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
    """Erase the agents, and wait until it is processed: from then on no read may show anything of them."""
    for agent in agents:
        answer = await http.delete(f"/v1/agents/{agent}")
        assert answer.status_code == 202, answer.text
        after = {"after": answer.json()["token"], "wait_ms": 60_000}
        question = {"agent_id": agent, "query": WORD} | after
        found = (await http.post("/v1/memories/search", json=question)).json()
        if not found["fresh"]:  # a busy machine may need longer than one request can wait
            found = (await http.post("/v1/memories/search", json=question)).json()
        assert (found["fresh"], found["memories"]) == (True, []), found


async def shown(http: httpx2.AsyncClient, agents: Sequence[str]) -> list[str]:
    """The reads that show anything of these agents, each as a sentence."""
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
    """The agents whose memories are counted. A late write may be, until its writer has learned of the erasure."""
    listed = (await http.get("/v1/agents?limit=1000")).json()["agents"]
    totals = [(await http.get(f"/v1/agents/{agent}/summary")).json() for agent in agents]
    return [one["agent_id"] for one in [*listed, *totals] if one["total"] and one["agent_id"] in agents]


class ErasureWatch:
    """Reads the erased agents all the time, and collects what shows anything of them."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self.erased: list[str] = []
        self.seen: list[str] = []
        self.rounds = 0

    async def run(self) -> None:
        while True:
            if self.erased:
                agents = list(self.erased)
                self.seen += await shown(self._http, agents)
                self.rounds += 1
            await asyncio.sleep(0.3)

    async def wait_for_full_round(self) -> None:
        """Wait until a round of reads that begins from now on has ended."""
        before = self.rounds
        async with asyncio.timeout(TIMEOUT_S):
            while self.rounds < before + 2:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def watching(http: httpx2.AsyncClient) -> AsyncIterator[ErasureWatch]:
    watch = ErasureWatch(http)
    running = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert watch.seen == []


async def fill(http: httpx2.AsyncClient) -> None:
    """Write memories of all agents, and have answers about the spies cached."""
    await send(http, 0, EACH * len(EVERYBODY))
    question = {"agent_id": SPIES[0], "query": WORD, "k": 100}
    answer: dict[str, Any] = {}
    async with asyncio.timeout(TIMEOUT_S):
        # On a busy machine Redis may be too late, and nothing is cached for a second.
        while answer.get("cache") != "hit":
            assert len(await shown(http, SPIES)) > 4 * len(SPIES)
            answer = (await http.post("/v1/memories/search", json=question)).json()


# --- embedded ----------------------------------------------------------------------------------------------------


class LateWriter:
    """A suspended worker that holds the spies' memories, and inserts them into every collection when it resumes."""

    def __init__(self, runtime: Runtime, memories: Sequence[Memory]) -> None:
        self._runtime = runtime
        self._memories = memories

    async def write(self) -> None:
        for collection in await self._collections():
            made = await collection.embedder.embed([one.text for one in self._memories])
            await collection.store.insert(self._memories, made.vectors)

    async def apply_erasures(self) -> None:
        """What every indexer does after its ledger has learned of an erasure."""
        for collection in await self._collections():
            for erasure in self._runtime.ledger.added_since(0):
                await collection.store.erase(erasure)

    async def _collections(self) -> list[OpenCollection]:
        collections = self._runtime.collections
        return [await collections.ensure_open(one) for one in await collections.refresh()]


@contextlib.asynccontextmanager
async def embedded(data: Path, redis: RedisServer) -> AsyncIterator[tuple[Runtime, httpx2.AsyncClient]]:
    """The gateway and query service of `lorestream up`, with a cache in Redis."""
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
        await fill(http)
        scope = Scope("default", tuple(SPIES))
        spied = await runtime.store.page(PageQuery(scope, limit=1000, now=runtime.clock.now()))
        assert len(spied) == EACH * len(SPIES)
        late = LateWriter(runtime, spied)
        half = len(SPIES) // 2
        async with watching(http) as watch:
            async for report in Replay(runtime).run(ReplayArguments("other", dim=96)):
                match report:
                    case Remark():  # the new collection is empty
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
                        await late.apply_erasures()
                    case _:
                        outcome = report
            assert (outcome.value["gate"], outcome.value["reasons"]) == ("passed", [])  # type: ignore[union-attr]
            await late.write()
            async for _ in AliasTasks(runtime).swap(SwapArguments("other")):
                pass
            assert runtime.collections.current.name == "other"
            await watch.wait_for_full_round()
            await late.write()
            async for _ in AliasTasks(runtime).rollback(NoArguments()):
                pass
            await watch.wait_for_full_round()
            assert len(await shown(http, OTHERS)) > 4 * len(OTHERS)
        await late.apply_erasures()
        assert await counted(http, SPIES) == []


# --- distributed -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
async def test_distributed(cluster: Cluster) -> None:
    async with httpx2.AsyncClient(base_url=cluster.url, timeout=TIMEOUT_S) as http:
        await fill(http)
        await asyncio.wait_for(erase_while_a_worker_is_suspended(cluster, http), 400)
    names = [one["name"] for one in run(cluster, "alias", "list")["collections"]]
    assert len(names) == 2
    assert await compared(cluster, names) > 0  # neither collection holds anything of the erased agents
    run(cluster, "drop", "other", "--yes")


async def erase_while_a_worker_is_suspended(cluster: Cluster, http: httpx2.AsyncClient) -> None:
    suspended = cluster.workers[0]
    async with watching(http) as watch:
        replay = start(cluster, "replay", "--to", "other", "--dim", "96")
        # It is suspended while it processes these events; about half of the spies' partitions are assigned to it.
        await send(http, 10_000, 1000, wait=False)
        suspended.pause()
        try:
            await erase(http, SPIES)
            watch.erased += SPIES
            await watch.wait_for_full_round()
        finally:
            before = metric(cluster.workers[1].url, "lorestream_rebalances_total")
            suspended.resume()
        # It writes its batch in progress, learns of the erasures, and gets partitions assigned again.
        async with asyncio.timeout(TIMEOUT_S):
            while metric(cluster.workers[1].url, "lorestream_rebalances_total") == before:
                await asyncio.sleep(0.1)
        outcome = await asyncio.to_thread(finish, replay)
        assert (outcome["gate"], outcome["reasons"]) == ("passed", [])
        await watch.wait_for_full_round()
        assert len(await shown(http, OTHERS)) > 4 * len(OTHERS)
    assert await counted(http, SPIES) == []
