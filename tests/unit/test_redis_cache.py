"""RedisCache beyond the contract suite: limits, expiry, and a Redis that is down, slow, full or emptied."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
from redis import Redis

from deploy.local.redis_server import RedisServer
from lorestream.adapters.redis.cache import RedisCache
from lorestream.adapters.redis.client import BREAKER_OPEN_S, RedisClient
from lorestream.errors import Unavailable
from lorestream.memories import AgentKey
from tests.own_time import own_time

AGENT = AgentKey("default", "npc:woodcutter")
TRY_TIMEOUT_S = 1.0
COMMAND_TIMEOUT_S = 1.5
"""More than by default, because a healthy Redis has to answer within them on a busy machine too."""
SLACK_S = 10.0
"""A hundred calls that each waited for their timeout would take a hundred seconds."""


@pytest.fixture
async def client(own_redis: RedisServer) -> AsyncIterator[RedisClient]:
    async with RedisClient.open(
        own_redis.url, prefix="t", try_timeout_s=TRY_TIMEOUT_S, command_timeout_s=COMMAND_TIMEOUT_S
    ) as client:
        yield client


@pytest.fixture
def cache(client: RedisClient) -> RedisCache:
    return RedisCache(client)


@pytest.fixture
def raw(own_redis: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(own_redis.url) as raw:
        yield raw


async def fill(cache: RedisCache, key: bytes = b"where", answer: bytes = b"by the river") -> bytes:
    found, generation = await cache.get(AGENT, key)
    assert found is None
    await cache.put(AGENT, key, answer, generation, 60)
    assert await cache.get(AGENT, key) == (answer, generation)
    return generation


async def until_recovered(cache: RedisCache) -> None:
    """Wait until the circuit breaker is closed again."""
    agent = AgentKey("default", "npc:probe")
    async with asyncio.timeout(30):
        while True:
            _, generation = await cache.get(agent, b"")
            if (await cache.get(agent, b""))[1] == generation:
                return
            await asyncio.sleep(0.05)


# --- limits ----------------------------------------------------------------------------------------------


async def test_the_answers_of_an_agent_are_limited(client: RedisClient, raw: Redis) -> None:
    cache = RedisCache(client, max_entries=4)
    _, generation = await cache.get(AGENT, b"")
    for number in range(20):
        key = b"%d" % number
        await cache.put(AGENT, key, key, generation, 60)
        assert await cache.get(AGENT, key) == (key, generation)
    found = [(await cache.get(AGENT, b"%d" % number))[0] for number in range(20)]
    assert len([answer for answer in found if answer is not None]) == 4
    assert all(answer in (None, b"%d" % number) for number, answer in enumerate(found))
    (name,) = raw.keys("t:a:*")
    assert raw.hlen(name) == 5

    kept = next(answer for answer in found if answer is not None)
    await cache.put(AGENT, kept, b"newer", generation, 60)
    assert (await cache.get(AGENT, kept))[0] == b"newer"
    assert raw.hlen(name) == 5


async def test_a_large_answer_is_not_kept(client: RedisClient) -> None:
    cache = RedisCache(client, max_answer_bytes=100)
    generation = await fill(cache, answer=bytes(100))
    await cache.put(AGENT, b"when", bytes(101), generation, 60)
    assert (await cache.get(AGENT, b"when"))[0] is None


async def test_each_answer_expires_by_its_own_ttl_and_the_hash_with_the_last(
    client: RedisClient, raw: Redis
) -> None:
    at = 1000.0
    cache = RedisCache(client, now=lambda: at)
    _, generation = await cache.get(AGENT, b"")
    await cache.put(AGENT, b"short", b"1", generation, 5)
    await cache.put(AGENT, b"long", b"2", generation, 600)
    at += 4.9
    assert [(await cache.get(AGENT, key))[0] for key in (b"short", b"long")] == [b"1", b"2"]
    at += 0.2
    assert [(await cache.get(AGENT, key))[0] for key in (b"short", b"long")] == [None, b"2"]
    at += 55
    assert (await cache.get(AGENT, b"long"))[0] is None
    (name,) = raw.keys("t:a:*")
    assert 0 < raw.pttl(name) <= 60_000


async def test_an_answer_from_a_process_with_a_wrong_clock_is_ignored(client: RedisClient) -> None:
    ahead = RedisCache(client, now=lambda: time.time() + 3600)
    generation = await fill(ahead)
    assert await RedisCache(client).get(AGENT, b"where") == (None, generation)


async def test_an_unused_generation_expires(cache: RedisCache, raw: Redis) -> None:
    await cache.get(AGENT, b"")
    (name,) = raw.keys("t:a:*")
    assert 0 < raw.pttl(name) <= 60_000


async def test_the_connections_are_limited(own_redis: RedisServer, raw: Redis) -> None:
    async with RedisClient.open(own_redis.url, max_connections=3, try_timeout_s=10) as client:
        cache = RedisCache(client)
        generations = await asyncio.gather(*(cache.get(AGENT, b"%d" % n) for n in range(200)))
        assert len({generation for _, generation in generations}) == 1
        assert len(raw.client_list()) <= 3 + 1


async def test_clearing_removes_only_keys_with_the_prefix(own_redis: RedisServer, raw: Redis) -> None:
    raw.mset({"t[*]?:b": 1, "tx:a:1": 2, "t[*]?x": 3})
    async with RedisClient.open(own_redis.url, prefix="t[*]?", try_timeout_s=10) as client:
        cache = RedisCache(client)
        for number in range(1200):
            await cache.get(AgentKey("default", str(number)), b"")
        assert raw.dbsize() == 1203
        await cache.clear()
    assert sorted(raw.keys()) == [b"t[*]?:b", b"t[*]?x", b"tx:a:1"]


async def test_many_agents_are_invalidated_in_few_commands(cache: RedisCache, raw: Redis) -> None:
    agents = [AgentKey("default", str(number)) for number in range(1200)]
    before = [(await cache.get(agent, b""))[1] for agent in agents]
    calls = raw.info("commandstats")
    await cache.invalidate(agents)
    assert raw.info("commandstats")["cmdstat_unlink"]["calls"] == calls["cmdstat_unlink"]["calls"] + 3
    after = [(await cache.get(agent, b""))[1] for agent in agents]
    assert not set(before) & set(after)


# --- faults ---------------------------------------------------------------------------------------------


async def test_a_frozen_redis_delays_one_call_and_the_breaker_fails_the_next_at_once(
    cache: RedisCache, own_redis: RedisServer
) -> None:
    generation = await fill(cache)
    own_redis.pause()
    began = own_time()
    first = await asyncio.gather(*(cache.get(AGENT, b"where") for _ in range(100)))
    assert own_time() - began < TRY_TIMEOUT_S + SLACK_S
    began = own_time()
    rest = [await cache.get(AGENT, b"where") for _ in range(100)]
    await cache.put(AGENT, b"where", b"too late", generation, 60)
    assert own_time() - began < SLACK_S
    answers, generations = zip(*first, *rest, strict=True)
    assert set(answers) == {None}
    assert len({generation, *generations}) == 201

    began, began_own = time.monotonic(), own_time()
    with pytest.raises(Unavailable):
        await cache.invalidate([AGENT])
    assert time.monotonic() - began >= 0.9 * COMMAND_TIMEOUT_S
    assert own_time() - began_own < COMMAND_TIMEOUT_S + SLACK_S
    with pytest.raises(Unavailable):
        await cache.clear()

    await asyncio.sleep(BREAKER_OPEN_S)
    began, began_own = time.monotonic(), own_time()
    assert {(await cache.get(AGENT, b"where"))[0] for _ in range(100)} == {None}
    # One call probes, the others fail at once.
    assert time.monotonic() - began >= 0.9 * TRY_TIMEOUT_S
    assert own_time() - began_own < TRY_TIMEOUT_S + SLACK_S

    own_redis.resume()
    await until_recovered(cache)
    await cache.invalidate([AGENT])
    assert (await cache.get(AGENT, b"where"))[0] is None


async def test_an_answer_computed_in_an_outage_is_not_kept(cache: RedisCache, own_redis: RedisServer) -> None:
    own_redis.pause()
    _, during = await cache.get(AGENT, b"where")
    own_redis.resume()
    await until_recovered(cache)
    await cache.put(AGENT, b"where", b"computed in the outage", during, 60)
    assert (await cache.get(AGENT, b"where"))[0] is None


async def test_a_restarted_redis_is_empty_and_takes_no_old_answers(
    cache: RedisCache, own_redis: RedisServer
) -> None:
    old = await fill(cache)
    own_redis.kill()
    assert [(await cache.get(AGENT, b"where"))[0] for _ in range(3)] == [None] * 3
    with pytest.raises(Unavailable):
        await cache.invalidate([AGENT])
    own_redis.start()
    await until_recovered(cache)
    await cache.put(AGENT, b"where", b"from before", old, 60)
    found, new = await cache.get(AGENT, b"where")
    assert found is None
    assert new != old
    await cache.invalidate([AGENT])
    await fill(cache)


async def test_after_a_flush_of_keys_and_scripts_the_cache_works_again(cache: RedisCache, raw: Redis) -> None:
    old = await fill(cache)
    raw.flushall()
    raw.script_flush()
    await cache.put(AGENT, b"where", b"from before", old, 60)
    assert (await cache.get(AGENT, b"where"))[0] is None
    raw.script_flush()
    await fill(cache)


async def test_a_closed_connection_is_replaced_at_once(cache: RedisCache, raw: Redis) -> None:
    generation = await fill(cache)
    for _ in range(5):
        raw.client_kill_filter(_type="normal", skipme=True)
        assert await cache.get(AGENT, b"where") == (b"by the river", generation)
        raw.client_kill_filter(_type="normal", skipme=True)
        await cache.invalidate([AgentKey("default", "another")])


async def test_a_full_redis_is_treated_as_an_outage(
    cache: RedisCache, client: RedisClient, raw: Redis
) -> None:
    raw.config_set("maxmemory-policy", "noeviction")
    raw.config_set("maxmemory", 1)
    found, generation = await cache.get(AGENT, b"where")
    await cache.put(AGENT, b"where", b"by the river", generation, 60)
    assert found is None
    await cache.invalidate([AGENT])
    raw.config_set("maxmemory", 0)
    await until_recovered(cache)
    await fill(cache)


async def test_a_key_of_another_type_is_a_miss(cache: RedisCache, raw: Redis) -> None:
    await cache.get(AGENT, b"")
    (name,) = raw.keys("t:a:*")
    raw.set(name, "somebody else's")
    assert (await cache.get(AGENT, b"where"))[0] is None
    await cache.invalidate([AGENT])
    await until_recovered(cache)
    await fill(cache)


async def test_an_invalid_entry_is_a_miss(cache: RedisCache, raw: Redis) -> None:
    generation = await fill(cache)
    (name,) = raw.keys("t:a:*")
    for entry in (b"", b"short", generation, generation + b"1234567"):
        raw.hset(name, mapping={each: entry for each in raw.hkeys(name) if each != b"g"})
        assert await cache.get(AGENT, b"where") == (None, generation)


async def test_cancelled_calls_do_not_mix_up_the_replies_of_others(cache: RedisCache) -> None:
    _, generation = await cache.get(AGENT, b"")
    for number in range(8):
        await cache.put(AGENT, b"%d" % number, b"%d" % number * 2000, generation, 60)
    dice = random.Random(7)
    for _ in range(100):
        calls = {n: asyncio.ensure_future(cache.get(AGENT, b"%d" % n)) for n in range(8)}
        for _ in range(dice.randrange(6)):
            await asyncio.sleep(0)
        leavers = dice.sample(range(8), 4)
        for number in leavers:
            calls[number].cancel()
        for number, call in calls.items():
            with contextlib.suppress(asyncio.CancelledError):
                assert (await call)[0] == b"%d" % number * 2000


# --- random faults under load ----------------------------------------------------------------------------------


@dataclass
class World:
    """A simulated store, and the newest stored and the newest finished write of each agent."""

    agents: list[AgentKey] = field(default_factory=lambda: [AgentKey("t", str(n)) for n in range(12)])
    stored: dict[AgentKey, int] = field(default_factory=dict)
    finished: dict[AgentKey, int] = field(default_factory=dict)
    hits: int = 0

    def is_lively(self) -> bool:
        return self.hits > 50 and all(self.finished.get(agent, 0) > 5 for agent in self.agents)

    async def read(self, cache: RedisCache, dice: random.Random) -> None:
        while True:
            agent, key = dice.choice(self.agents), b"%d" % dice.randrange(3)
            floor = self.finished.get(agent, 0)
            found, generation = await cache.get(agent, key)
            if found is not None:
                self.hits += 1
                assert int(found[:20]) >= floor, (agent, found[:20], floor)
                continue
            seen = self.stored.get(agent, 0)
            await asyncio.sleep(dice.choice([0, 0.001, 0.02]))
            await cache.put(agent, key, b"%020d" % seen + bytes(50_000), generation, 60)

    async def write(self, cache: RedisCache, agents: list[AgentKey], dice: random.Random) -> None:
        while True:
            touched = dice.sample(agents, 2)
            for agent in touched:
                self.stored[agent] = self.stored.get(agent, 0) + 1
            versions = {agent: self.stored[agent] for agent in touched}
            while True:
                with contextlib.suppress(Unavailable):
                    await cache.invalidate(touched)
                    break
                await asyncio.sleep(0.02)
            self.finished |= versions
            await asyncio.sleep(0.03)


def _evicted(raw: Redis) -> int:
    return raw.info("stats")["evicted_keys"]


async def _inject_faults(server: RedisServer, dice: random.Random, seconds: float, world: World) -> None:
    """Inject random faults into Redis for some seconds, and until enough has happened under them."""
    evicted = 0
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    with Redis.from_url(server.url, socket_timeout=5) as raw:

        def shrink() -> None:
            raw.config_set("maxmemory", raw.info("memory")["used_memory"] + 1_500_000)

        shrink()
        while loop.time() < until or not (world.is_lively() and evicted + _evicted(raw) > 50):
            await asyncio.sleep(dice.uniform(0.05, 0.3))
            match dice.choice(["flush", "cut", "freeze", "kill", "evict", "evict", "stall"]):
                case "flush":
                    raw.flushall()
                case "cut":
                    raw.client_kill_filter(_type="normal", skipme=True)
                case "freeze":
                    server.pause()
                    await asyncio.sleep(dice.choice([0.05, 0.4]))
                    server.resume()
                case "stall":
                    raw.client_pause(dice.choice([30, 150]))
                case "kill":
                    evicted += _evicted(raw)
                    server.kill()
                    await asyncio.sleep(0.1)
                    server.start()
                    shrink()
                case _:
                    if names := raw.keys():
                        raw.delete(dice.choice(names))


@pytest.mark.parametrize(
    ("seed", "seconds"), [(1, 6), *(pytest.param(seed, 120, marks=pytest.mark.soak) for seed in (2, 3))]
)
async def test_no_answer_is_older_than_a_finished_write_under_any_faults(
    own_redis: RedisServer, seed: int, seconds: float
) -> None:
    """Readers and writers with their own clients, a Redis that evicts all the time, and random faults."""
    dice = random.Random(seed)
    world = World()
    rest = {"prefix": "t", "breaker_open_s": 0.05}
    async with contextlib.AsyncExitStack() as stack:
        caches = [
            RedisCache(await stack.enter_async_context(RedisClient.open(own_redis.url, **rest)))
            for _ in range(4)
        ]
        jobs = [world.read(caches[n % 3], random.Random(seed * 100 + n)) for n in range(6)]
        jobs += [
            world.write(caches[2 + n], world.agents[n::2], random.Random(seed * 200 + n)) for n in range(2)
        ]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        try:
            faults = asyncio.ensure_future(_inject_faults(own_redis, dice, seconds, world))
            tasks.append(faults)
            await asyncio.wait(tasks, timeout=seconds + 60, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            assert faults.done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
