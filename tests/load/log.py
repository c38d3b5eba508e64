"""What the log in Kafka takes in: appends of 200 events into a real broker, and why they are done as they are.

    python -m tests.load.log [--bootstrap HOST:PORT]

Without an address it starts a broker of its own. Every figure is of one event loop on one core; the broker works
on the others. `records_per_cpu_s` compares ways of doing it, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer

from deploy.local.kafka import KafkaBroker
from lorestream import events
from lorestream.adapters.kafka import producer, topics
from lorestream.adapters.kafka.appender import KafkaAppender
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.events import Put
from lorestream.identity import memory_id
from lorestream.ports import NewRecord, RebalanceListener

BATCH = 200
AGENTS = 1000
PARTITIONS = 12
ROUNDS = 300

Append = Callable[[Sequence[NewRecord]], Awaitable[object]]


class _Clock:
    def now(self) -> float:
        return time.time()


class _Nobody(RebalanceListener):
    async def assigned(self, positions: object) -> None:
        pass

    async def revoked(self, partitions: object) -> None:
        pass


async def measure(bootstrap: str) -> dict[str, dict[str, float]]:
    """Of each way: records per second of wall and of CPU time, and how long an append takes in milliseconds."""
    connection = KafkaConnection(bootstrap)
    topic = f"bench.{uuid.uuid4().hex[:8]}"
    await topics.ensure(connection, [topics.events(topic, partitions=PARTITIONS, retention_s=86_400)])
    figures: dict[str, dict[str, float]] = {}
    for compression in ("zstd", "lz4", None):
        name = compression or "uncompressed"
        async with _own(connection, topic, compression) as append:
            figures[f"own batches, {name}"] = await _loaded(append, callers=8)
        async with _library(connection, topic, compression) as append:
            figures[f"send, {name}"] = await _loaded(append, callers=8)
    async with _own(connection, topic, "zstd") as append:
        figures["own batches, zstd, one caller"] = await _loaded(append, callers=1)
        figures["own batches, zstd, single events"] = await _loaded(append, callers=64, batch=1)
    figures["read and commit"] = await _read(connection, topic)
    return figures


@asynccontextmanager
async def _own(connection: KafkaConnection, topic: str, compression: str | None) -> AsyncGenerator[Append]:
    usual, producer.COMPRESSION = producer.COMPRESSION, compression
    try:
        async with KafkaAppender.open(connection, topic, max_record_bytes=2**20) as appender:
            yield appender.append
    finally:
        producer.COMPRESSION = usual


@asynccontextmanager
async def _library(
    connection: KafkaConnection, topic: str, compression: str | None
) -> AsyncGenerator[Append]:
    """Record by record, as aiokafka's users do it; lingering, since nothing else gathers."""
    client = AIOKafkaProducer(
        **connection.arguments(),
        acks="all",
        enable_idempotence=True,
        compression_type=compression,
        max_batch_size=256 * 1024,
        linger_ms=5,
    )

    async def append(records: Sequence[NewRecord]) -> None:
        sent = [
            await client.send(topic, each.value, each.key, headers=list(each.headers.items()))
            for each in records
        ]
        await asyncio.gather(*sent)

    async with client:
        yield append


async def _loaded(append: Append, *, callers: int, batch: int = BATCH) -> dict[str, float]:
    records = [_record(number) for number in range(BATCH * 20)]
    await append(records[:batch])
    latencies: list[float] = []
    waiting = iter(range(ROUNDS if batch > 1 else ROUNDS * 10))

    async def call() -> None:
        for number in waiting:
            first = number * batch % len(records)
            begin = time.perf_counter()
            await append(records[first : first + batch])
            latencies.append(1000 * (time.perf_counter() - begin))

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(call() for _ in range(callers)))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    latencies.sort()
    return {
        "records_per_s": round(len(latencies) * batch / wall_s),
        "records_per_cpu_s": round(len(latencies) * batch / cpu_s),
        "p50_ms": round(latencies[len(latencies) // 2], 2),
        "p99_ms": round(latencies[len(latencies) * 99 // 100], 2),
    }


async def _read(connection: KafkaConnection, topic: str) -> dict[str, float]:
    """A member that reads everything in portions of 256 and commits behind each."""
    async with KafkaLog.open(
        connection, topic=topic, dlq_topic=f"{topic}.dlq", retention_s=86_400, clock=_Clock()
    ) as log:
        count = sum((await log.end()).values())
        async with log.subscribe(topic, _Nobody()) as member:
            began, cpu, read = time.perf_counter(), time.process_time(), 0
            positions: dict[int, int] = {}
            while read < count:
                records = await member.read(limit=256, max_bytes=2**20, wait_s=10)
                read += len(records)
                positions |= {each.partition: each.offset + 1 for each in records}
                if read % 20 == 0 or read == count:
                    await member.commit(positions)
            wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return {"records_per_s": round(read / wall_s), "records_per_cpu_s": round(read / cpu_s)}


def _record(number: int) -> NewRecord:
    agent, event = f"npc:villager-{number % AGENTS}", f"b7f3:{number}"
    put = Put(
        tenant="default",
        agent_id=agent,
        memory_id=memory_id("default", "survival-1", agent, event),
        server="survival-1",
        timestamp=1_760_000_000.0 + number,
        accepted_at=1_760_000_000.5 + number,
        type="dig",
        data={"node": "default:tree", "count": number % 99},
        player=f"k1:{os.urandom(32).hex()}",
        pos={"x": number * 1.5, "y": 3.0, "z": -40.0},
    )
    return events.encode(put, event_id=event)


@contextmanager
def _broker(bootstrap: str | None):
    if bootstrap is not None:
        yield bootstrap
        return
    with (
        tempfile.TemporaryDirectory(prefix="lorestream-bench-") as folder,
        KafkaBroker(Path(folder)) as broker,
    ):
        yield broker.bootstrap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap")
    with _broker(parser.parse_args().bootstrap) as bootstrap:
        figures = asyncio.run(measure(bootstrap))
    best = figures["own batches, zstd"]["records_per_cpu_s"]
    for name, row in figures.items():
        print(f"{name:40} {row['records_per_cpu_s'] / best:5.2f}  {json.dumps(row)}")


if __name__ == "__main__":
    main()
