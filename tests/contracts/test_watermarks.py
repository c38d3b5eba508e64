"""Contract suite of the Watermarks ports, run over each adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from lorestream.adapters.in_process.watermarks import LocalWatermarks
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.adapters.kafka.watermarks import KafkaWatermarks
from lorestream.adapters.redis.client import RedisClient
from lorestream.adapters.redis.watermarks import RedisWatermarks
from lorestream.ports import Subscription, Watermarks
from tests.contracts.test_log import Listener, StoppedClock

TIMEOUT_S = 30.0


@dataclass
class CommittedOffsets:
    """Both sides of the watermarks on Kafka: a member of the group publishes by committing."""

    reader: KafkaWatermarks
    member: Subscription

    async def publish(self, positions: Mapping[int, int]) -> None:
        await self.member.commit(positions)

    async def reached(self, offsets: Mapping[int, int], timeout_s: float) -> bool:
        return await self.reader.reached(offsets, timeout_s)

    async def finished(self) -> Mapping[int, int]:
        return await self.reader.finished()


@asynccontextmanager
async def kafka_watermarks(bootstrap: str, prefix: str) -> AsyncGenerator[Watermarks]:
    """Watermarks on Kafka: committing publishes them."""
    async with (
        KafkaLog.open(
            KafkaConnection(bootstrap),
            topic=f"{prefix}.events",
            dlq_topic=f"{prefix}.dlq",
            partitions=8,
            retention_s=86_400,
            clock=StoppedClock(),
        ) as log,
        log.subscribe("indexer", Listener()) as member,
    ):
        yield CommittedOffsets(KafkaWatermarks(log, group="indexer"), member)


@asynccontextmanager
async def redis_watermarks(url: str, prefix: str) -> AsyncGenerator[Watermarks]:
    """A worker publishes to Redis, another client reads. The group has committed nothing."""

    async def committed() -> Mapping[int, int]:
        return {}

    async with RedisClient.open(url, prefix=prefix, try_timeout_s=5, command_timeout_s=5) as client:
        theirs = RedisWatermarks(client, group="indexer", identity="topic", committed=committed)

        async def publish(positions: Mapping[int, int]) -> None:
            await theirs.publish(positions)
            await theirs._send()

        async with RedisWatermarks.open(
            client, group="indexer", identity="topic", committed=committed
        ) as watermarks:
            watermarks.publish = publish  # type: ignore[method-assign]
            yield watermarks


@pytest.fixture(params=["local", "kafka", "redis"])
async def watermarks(request: pytest.FixtureRequest, unique: str) -> AsyncGenerator[Watermarks]:
    if request.param == "kafka":
        async with kafka_watermarks(request.getfixturevalue("kafka").bootstrap, unique) as opened:
            yield opened
    elif request.param == "redis":
        async with redis_watermarks(request.getfixturevalue("redis_server").url, unique) as opened:
            yield opened
    else:
        yield LocalWatermarks()


async def test_an_offset_is_reached_when_a_higher_one_is_published(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 5})
    assert not await watermarks.reached({0: 5}, 0)
    assert await watermarks.reached({0: 4}, 0)

    await watermarks.publish({0: 6})
    assert await watermarks.reached({0: 5}, 0)


async def test_all_partitions_have_to_be_reached(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 6, 1: 3})
    assert await watermarks.reached({0: 5, 1: 2}, 0)
    assert not await watermarks.reached({0: 5, 1: 3}, 0)
    assert await watermarks.reached({1: 2}, 0)


async def test_what_is_finished_is_known_without_waiting(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 6, 1: 3})
    assert await watermarks.finished() == {0: 6, 1: 3}


async def test_a_partition_without_a_watermark_is_not_reached(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 6})
    assert not await watermarks.reached({0: 5, 7: 0}, 0)
    assert not await watermarks.reached({7: 0}, 0.01)


async def test_an_empty_mapping_is_reached(watermarks: Watermarks) -> None:
    assert await watermarks.reached({}, 0)


async def test_watermarks_are_never_lowered(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 6, 1: 1})
    await watermarks.publish({0: 2, 1: 9})
    assert await watermarks.reached({0: 5, 1: 8}, 0)


async def test_waiting_callers_return_at_the_publication_that_they_wait_for(watermarks: Watermarks) -> None:
    waiting = [asyncio.ensure_future(watermarks.reached({0: offset, 1: 0}, 3600)) for offset in range(20)]
    await asyncio.sleep(0)
    await watermarks.publish({0: 10})
    await watermarks.publish({1: 1})
    async with asyncio.timeout(TIMEOUT_S):
        assert await asyncio.gather(*waiting[:10]) == [True] * 10
    assert not any(each.done() for each in waiting[10:])

    await watermarks.publish({0: 20})
    async with asyncio.timeout(TIMEOUT_S):
        assert await asyncio.gather(*waiting[10:]) == [True] * 10


async def test_waiting_ends_at_the_timeout(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 5})
    assert not await watermarks.reached({0: 5}, 0.01)


async def test_a_cancelled_waiter_does_not_affect_others(watermarks: Watermarks) -> None:
    leaving, staying = (asyncio.ensure_future(watermarks.reached({0: 0}, 3600)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await watermarks.publish({0: 1})
    async with asyncio.timeout(TIMEOUT_S):
        assert await staying
    with pytest.raises(asyncio.CancelledError):
        await leaving
