"""Several indexers of one group at a real broker: when they join and leave, nothing is lost or stored twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from deploy.local.kafka import KafkaBroker
from lorestream import events
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.consumer import ConsumerConfig
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.memories import PageQuery, Scope
from lorestream.ports import NewRecord
from lorestream.wiring import Runtime
from stream_workers.indexing.indexer import BatchLimits, Indexer
from tests.parts import open_parts, pipeline_over, put, read_dead_letters, running

PARTITIONS = 6
GROUP = "lorestream.test"
TIMEOUT_S = 60.0


class Group:
    """The parts that all indexers of a test share, and their log at the broker."""

    def __init__(self, runtime: Runtime, broker: KafkaBroker, topic: str) -> None:
        self.runtime = runtime
        self._broker = broker
        self._topic = topic

    @contextlib.asynccontextmanager
    async def log(self) -> AsyncIterator[KafkaLog]:
        async with KafkaLog.open(
            KafkaConnection(self._broker.bootstrap),
            topic=self._topic,
            dlq_topic=f"{self._topic}.dlq",
            retention_s=86_400,
            clock=self.runtime.clock,
            partitions=PARTITIONS,
            consumer_config=ConsumerConfig(session_timeout_s=6),
        ) as log:
            yield log

    @contextlib.asynccontextmanager
    async def member(self) -> AsyncIterator[Indexer]:
        """An indexer with a log of its own, running until the context ends."""
        async with self.log() as log:
            indexer = Indexer(
                log,
                pipeline_over(self.runtime),
                self.runtime.collections.current.publisher,
                cache=self.runtime.cache,
                group=GROUP,
                limits=BatchLimits(records=20),
                commit_interval_s=0.2,
            )
            async with running(indexer):
                yield indexer

    async def stored(self) -> int:
        return await self.runtime.store.count(PageQuery(Scope("default"), limit=1, now=0.0))


@pytest.fixture
async def group(kafka: KafkaBroker, unique: str, tmp_path: Path) -> AsyncIterator[Group]:
    async with open_parts(tmp_path) as runtime:
        yield Group(runtime, kafka, unique)


def puts(count: int, *, first: int = 0) -> list[NewRecord]:
    numbers = range(first, first + count)
    return [events.encode(put(f"event {n}", agent=f"agent-{n % 50}", event_id=str(n))) for n in numbers]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.05)


async def wait_until_committed(group: Group, log: KafkaLog) -> None:
    """Wait until everything in the log is finished and committed."""
    async with asyncio.timeout(TIMEOUT_S):
        while {p: at for p, at in (await log.committed(GROUP)).items() if at} != {
            p: at for p, at in (await log.end()).items() if at
        }:
            await asyncio.sleep(0.1)


async def test_partitions_are_rebalanced_when_members_join_and_leave(group: Group) -> None:
    everything = frozenset(range(PARTITIONS))
    async with group.log() as log, group.member() as first:
        await until(lambda: first.partitions == everything)
        await log.append(puts(300))
        async with group.member() as second:
            await until(lambda: len(first.partitions) == len(second.partitions) == PARTITIONS // 2)
            assert first.partitions | second.partitions == everything
            await log.append(puts(300, first=300))
            async with group.member() as third:
                await until(lambda: len(third.partitions) == PARTITIONS // 3)
                await log.append(puts(300, first=600))
            await until(lambda: first.partitions | second.partitions == everything)
            await log.append(puts(300, first=900))
        await until(lambda: first.partitions == everything)
        await wait_until_committed(group, log)
    assert await group.stored() == 1200


async def test_bad_records_become_dead_letters_and_their_partitions_continue(group: Group) -> None:
    good = puts(30)
    first = good[0]
    bad = {
        "undecodable": NewRecord(first.key, b"rubbish", first.headers),
        "unknown_schema": NewRecord(first.key, first.value, dict(first.headers) | {"schema": b"99"}),
        "empty": NewRecord(first.key, b"", first.headers),
        "too_large": NewRecord(first.key, first.value + b" " * events.MAX_VALUE_BYTES, first.headers),
        "wrong_key": NewRecord(b'["default","somebody else"]', first.value, first.headers),
    }
    async with group.log() as log:
        await log.append([*good[:10], *bad.values(), *good[10:]])
        async with group.member():
            await wait_until_committed(group, log)
        dead_letters = [stored.dead_letter for stored in await read_dead_letters(log)]
    assert await group.stored() == 30
    assert {dead_letter.reason for dead_letter in dead_letters} == set(bad)
    for dead_letter in dead_letters:
        record = bad[dead_letter.reason]
        assert (dead_letter.record.key, dead_letter.record.value) == (record.key, record.value)
