"""RedisWatermarks beyond the contract suite: data loss, outages, several processes, committed offsets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from redis import Redis

from deploy.local.redis_server import RedisServer
from lorestream.adapters.redis import watermarks
from lorestream.adapters.redis.client import RedisClient
from lorestream.adapters.redis.watermarks import (
    COMMITS_POLL_INTERVAL_S,
    IMMEDIATE_TIMEOUT_S,
    REPUBLISH_INTERVAL_S,
    RedisWatermarks,
)
from lorestream.errors import Unavailable
from tests.own_time import own_time

SLACK_S = 2.0
TIMEOUT_S = 30.0


@dataclass
class Broker:
    """A fake source of committed offsets, which may be unavailable or hang."""

    commits: dict[int, int] = field(default_factory=dict)
    away: bool = False
    hangs: bool = False
    asked: int = 0

    async def committed(self) -> Mapping[int, int]:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(3600)
        if self.away:
            raise Unavailable("the broker is away")
        return self.commits


@pytest.fixture
def broker() -> Broker:
    return Broker()


Join: TypeAlias = "Callable[..., Awaitable[RedisWatermarks]]"


@pytest.fixture
async def join(own_redis: RedisServer, broker: Broker) -> AsyncIterator[Join]:
    """Opens the watermarks of another process, with its own client."""
    async with AsyncExitStack() as stack:

        async def joined(group: str = "g", identity: str = "t") -> RedisWatermarks:
            client = await stack.enter_async_context(
                RedisClient.open(own_redis.url, prefix="t", breaker_open_s=0.2)
            )
            watermarks = RedisWatermarks.open(
                client, group=group, identity=identity, committed=broker.committed
            )
            return await stack.enter_async_context(watermarks)

        yield joined


async def reached(watermarks: RedisWatermarks, positions: dict[int, int]) -> bool:
    return await watermarks.reached(positions, TIMEOUT_S)


async def test_a_published_watermark_reaches_another_process_at_once(join: Join, broker: Broker) -> None:
    broker.away = True
    worker, query = await join(), await join()
    waits: list[float] = []
    for offset in range(20):
        waiting = asyncio.ensure_future(reached(query, {3: offset}))
        await asyncio.sleep(0.03)
        assert not waiting.done()
        began = own_time()
        await worker.publish({3: offset + 1})
        assert await waiting
        waits.append(own_time() - began)
    assert sorted(waits)[10] < 0.1


async def test_publishing_never_waits_for_redis(join: Join, own_redis: RedisServer) -> None:
    worker = await join()
    own_redis.pause()
    began = own_time()
    for offset in range(1000):
        await worker.publish({0: offset})
    assert own_time() - began < SLACK_S
    own_redis.resume()


async def test_of_two_published_watermarks_of_a_partition_the_higher_counts(join: Join) -> None:
    one, two, query = await join(), await join(), await join()
    await one.publish({0: 5, 1: 7})
    await two.publish({1: 3, 2: 9})
    assert await reached(query, {0: 4, 1: 6, 2: 8})
    assert not await query.reached({0: 5}, 0.1)


async def test_many_waiting_callers_share_one_poll(
    join: Join, own_redis: RedisServer, broker: Broker
) -> None:
    """The number of reads follows from the time that passed, however fast the machine is, not from who waits."""
    worker, query = await join(), await join()
    with Redis.from_url(own_redis.url) as raw:

        def reads() -> int:
            return raw.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"]

        began = time.monotonic()
        waiting = [asyncio.ensure_future(reached(query, {0: 4})) for _ in range(500)]
        async with asyncio.timeout(30):
            while reads() < 5:
                await asyncio.sleep(watermarks.POLL_INTERVAL_S)
        await worker.publish({0: 5})
        assert all(await asyncio.gather(*waiting))
        took_s = time.monotonic() - began
        assert reads() <= 2 + took_s / watermarks.POLL_INTERVAL_S
        assert broker.asked <= 2 + took_s / COMMITS_POLL_INTERVAL_S
        async with asyncio.timeout(30):  # without anybody who waits, nothing is read
            before = -1
            while before != (before := reads()):
                await asyncio.sleep(10 * watermarks.POLL_INTERVAL_S)


async def test_watermarks_that_redis_lost_are_published_again(
    join: Join, own_redis: RedisServer, broker: Broker
) -> None:
    broker.away = True
    worker = await join()
    await worker.publish({0: 5, 1: 8})
    assert await reached(await join(), {0: 4, 1: 7})
    with Redis.from_url(own_redis.url) as raw:
        raw.flushall()
        assert not await (await join()).reached({0: 4}, 0)
        began = own_time()
        assert await reached(await join(), {0: 4, 1: 7})
        assert own_time() - began < REPUBLISH_INTERVAL_S + SLACK_S
    own_redis.kill()
    own_redis.start()
    assert await reached(await join(), {0: 4, 1: 7})


async def test_closing_publishes_the_last_watermark(
    own_redis: RedisServer, broker: Broker, join: Join
) -> None:
    async with (
        RedisClient.open(own_redis.url, prefix="t") as client,
        RedisWatermarks.open(client, group="g", identity="t", committed=broker.committed) as worker,
    ):
        await worker.publish({0: 5})
    assert await (await join()).reached({0: 4}, 0)


async def test_watermarks_are_separate_per_group_and_topic_identity(join: Join) -> None:
    worker = await join()
    await worker.publish({0: 5})
    assert await reached(await join(), {0: 4})
    assert not await (await join(group="other")).reached({0: 4}, 0.1)
    assert not await (await join(identity="another topic of that name")).reached({0: 4}, 0.1)


async def test_commits_count_where_redis_has_no_watermark_or_a_lower_one(join: Join, broker: Broker) -> None:
    worker, query = await join(), await join()
    await worker.publish({0: 5, 1: 9})
    broker.commits = {0: 8, 2: 3}
    assert await reached(query, {0: 7, 1: 8, 2: 2})
    assert not await query.reached({0: 8}, 0)

    other = await join()
    waiting = asyncio.ensure_future(reached(other, {0: 20, 1: 10}))
    await worker.publish({1: 11})
    await asyncio.sleep(0.1)
    broker.commits = {0: 21}
    assert await waiting


@pytest.mark.parametrize("fault", ["pause", "kill"])
async def test_without_redis_commits_count_and_nothing_is_raised(
    join: Join, own_redis: RedisServer, broker: Broker, fault: str
) -> None:
    worker, query = await join(), await join()
    getattr(own_redis, fault)()
    await worker.publish({0: 5})
    assert not await query.reached({0: 4}, 0)
    assert not await query.reached({0: 4}, 0.3)
    waiting = asyncio.ensure_future(reached(query, {0: 4}))
    await asyncio.sleep(0.1)
    broker.commits = {0: 5}
    began = own_time()
    assert await waiting
    assert own_time() - began < COMMITS_POLL_INTERVAL_S + SLACK_S

    broker.away = True
    assert not await query.reached({0: 5}, 0.05)


async def test_reached_returns_in_time_when_redis_and_the_broker_hang(
    join: Join, own_redis: RedisServer, broker: Broker
) -> None:
    query = await join()
    own_redis.pause()
    broker.hangs = True
    for timeout_s in (0.0, 0.5):
        began = own_time()
        assert not await query.reached({0: 0}, timeout_s)
        assert own_time() - began < max(timeout_s, IMMEDIATE_TIMEOUT_S) + SLACK_S


async def test_watermarks_in_redis_count_while_the_broker_hangs(join: Join, broker: Broker) -> None:
    broker.hangs = True
    worker, query = await join(), await join()
    waiting = asyncio.ensure_future(reached(query, {0: 4}))
    await asyncio.sleep(0.1)
    await worker.publish({0: 5})
    async with asyncio.timeout(TIMEOUT_S):
        assert await waiting


async def test_a_watermark_is_never_lowered(own_redis: RedisServer, broker: Broker, join: Join) -> None:
    async with (
        RedisClient.open(own_redis.url, prefix="t") as client,
        RedisWatermarks.open(client, group="g", identity="t", committed=broker.committed) as gone,
    ):
        await gone.publish({0: 10**15, 1: 9})
    late = await join()
    await late.publish({0: 3, 1: 10})
    query = await join()
    assert await reached(query, {1: 9})  # what the late process published has arrived
    assert await query.reached({0: 10**15 - 1}, 0)
    assert not await query.reached({0: 10**15}, 0)
