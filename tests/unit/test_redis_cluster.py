"""The Redis adapters over a real cluster of three servers: where commands go, moving slots, a node that ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot

from deploy.local.process import LOOPBACK, free_port
from deploy.local.redis_server import RedisServer
from lorestream.access.rate_limits import BucketRequest
from lorestream.adapters.redis.accesses import RedisAccessTimes
from lorestream.adapters.redis.cache import RedisCache
from lorestream.adapters.redis.client import RedisClient
from lorestream.adapters.redis.token_buckets import RedisTokenBuckets
from lorestream.errors import Unavailable
from lorestream.memories import AgentKey, Memory
from tests.brokers import missing_is_skipped, running

SLOTS = 16_384
AGENTS = [AgentKey("default", f"npc:{number}") for number in range(60)]
PATIENT = {"prefix": "t", "try_timeout_s": 10, "command_timeout_s": 10}


class Node(RedisServer):
    """A server that is a node of a cluster."""

    def command(self) -> list[str]:
        port = free_port()
        options = {"cluster-enabled": "yes", "cluster-port": port, "cluster-require-full-coverage": "no"}
        self.bus = port
        return [
            *super().command(),
            *(part for name, value in options.items() for part in (f"--{name}", str(value))),
        ]

    def raw(self) -> Redis[bytes]:
        return Redis(host=LOOPBACK, port=self.port)

    def execute(self, *command: Any) -> Any:
        with self.raw() as raw:
            return raw.execute_command(*command)


@pytest.fixture(scope="module")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Node]]:
    """Three nodes, each with a third of the slots, without replicas."""
    with ExitStack() as stack, missing_is_skipped():
        nodes = [stack.enter_context(running(Node(tmp_path_factory.mktemp("redis")))) for _ in range(3)]
        for number, node in enumerate(nodes):
            node.execute("CLUSTER", "ADDSLOTSRANGE", *third(number))
            node.execute("CLUSTER", "MEET", LOOPBACK, nodes[0].port, nodes[0].bus)
        while not all(
            b"cluster_state:ok" in node.execute("CLUSTER", "INFO")
            and len(node.execute("CLUSTER", "SLOTS")) == len(nodes)
            for node in nodes
        ):
            time.sleep(0.05)
        yield nodes


def third(number: int) -> tuple[int, int]:
    return SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1


async def fill(cache: RedisCache) -> None:
    for agent in AGENTS:
        _, generation = await cache.get(agent, b"where")
        await cache.put(agent, b"where", agent.agent_id.encode(), generation, 60)


async def cached(cache: RedisCache) -> list[bytes | None]:
    return [(await cache.get(agent, b"where"))[0] for agent in AGENTS]


async def test_answers_lie_on_all_nodes_and_are_invalidated_and_cleared(
    redis_cluster: Sequence[Node],
) -> None:
    async with RedisClient.open(redis_cluster[1].url, **PATIENT) as client:
        cache = RedisCache(client)
        await fill(cache)
        assert await cached(cache) == [agent.agent_id.encode() for agent in AGENTS]
        assert all(node.execute("DBSIZE") > 5 for node in redis_cluster)
        await cache.invalidate(AGENTS[::2])
        assert await cached(cache) == [
            None if n % 2 == 0 else a.agent_id.encode() for n, a in enumerate(AGENTS)
        ]
        await cache.clear()
        assert await cached(cache) == [None] * len(AGENTS)


async def test_buckets_of_one_request_are_charged_together(redis_cluster: Sequence[Node]) -> None:
    async with RedisClient.open(redis_cluster[0].url, **PATIENT) as client:
        buckets = RedisTokenBuckets(client)
        requests = [BucketRequest(f"bucket {number}", 0.001, 2, 2) for number in range(8)]
        assert await buckets.consume(requests) is None
        refused = await buckets.consume([*requests[:1], BucketRequest("another", 0.001, 2, 1)])
        assert refused is not None
        assert refused.request.bucket == "bucket 0"
        assert (
            await buckets.consume([BucketRequest("another", 0.001, 2, 2)]) is None
        )  # nothing was taken of it


async def test_a_client_that_knew_no_cluster_at_its_start_learns_of_it(
    tmp_path: Path, redis_cluster: Sequence[Node]
) -> None:
    """Its first command is one that must succeed, over keys of several slots."""
    async with RedisClient.open(redis_cluster[2].url, **PATIENT) as client:
        client._patient._slots.clear()
        cache = RedisCache(client)
        await cache.invalidate(AGENTS)
        await fill(cache)
        assert None not in await cached(cache)


async def test_a_slot_that_moves_and_has_moved_is_followed(redis_cluster: Sequence[Node]) -> None:
    async with RedisClient.open(redis_cluster[0].url, **PATIENT) as client:
        cache = RedisCache(client)
        await fill(cache)
        agent = next(a for a in AGENTS if third(0)[0] <= key_slot(cache._name(a).encode()) <= third(0)[1])
        name = cache._name(agent)
        slot = key_slot(name.encode())
        source, target = redis_cluster[0], redis_cluster[1]
        ids = [node.execute("CLUSTER", "MYID").decode() for node in (source, target)]
        try:
            target.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
            source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
            source.execute("MIGRATE", LOOPBACK, target.port, name, 0, 5000)
            assert (await cache.get(agent, b"where"))[0] == agent.agent_id.encode()  # ASK
            await cache.invalidate([agent])
            assert (await cache.get(agent, b"where"))[0] is None
        finally:
            for node in (target, source, redis_cluster[2]):
                node.execute("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        await fill(cache)
        assert (await cache.get(agent, b"where"))[0] == agent.agent_id.encode()  # MOVED
        assert target.execute("EXISTS", name) == 1
        assert client._shared.node("HGETALL", name) == (LOOPBACK, target.port)
        await cache.invalidate([agent])
        assert target.execute("EXISTS", name) == 0


async def test_access_times_lie_on_all_nodes(redis_cluster: Sequence[Node]) -> None:
    async with RedisClient.open(redis_cluster[0].url, **PATIENT) as client:
        times = RedisAccessTimes(client)
        memories = [
            Memory(str(n), "default", agent.agent_id, "text", 0.0, 0.0) for n, agent in enumerate(AGENTS)
        ]
        await times.touch(memories, 7.0)
        assert set((await RedisAccessTimes(client).last(memories)).values()) == {7.0}


async def test_a_node_that_is_away_costs_only_its_own_keys(redis_cluster: Sequence[Node]) -> None:
    async with RedisClient.open(
        redis_cluster[0].url, prefix="t", try_timeout_s=3, command_timeout_s=0.5
    ) as client:
        cache = RedisCache(client)
        await fill(cache)
        redis_cluster[2].pause()
        try:
            away = [third(2)[0] <= key_slot(cache._name(a).encode()) <= third(2)[1] for a in AGENTS]
            found = await cached(cache)
            assert [answer is None for answer in found] == away
            assert any(away)
        finally:
            redis_cluster[2].resume()
        while None in await cached(cache):  # until the circuit breaker of that node admits a probe
            await asyncio.sleep(0.1)
        redis_cluster[2].pause()
        try:
            with pytest.raises(Unavailable):
                await cache.invalidate(AGENTS)
        finally:
            redis_cluster[2].resume()
