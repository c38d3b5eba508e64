"""aiokafka's idempotent producer for one topic, batch by batch; one that is thrown away lets go of everything."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from lorestream.adapters.kafka.connection import CALL_TIMEOUT_S, START_TIMEOUT_S, close_within_timeout
from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from aiokafka.producer.message_accumulator import BatchBuilder
    from aiokafka.structs import RecordMetadata

    from lorestream.adapters.kafka.connection import KafkaConnection

BATCH_BYTES = 256 * 1024
COMPRESSION = "zstd"
"""See tests/load/log.py."""


class Producer:
    """A producer that has connected. `send` at most one batch per partition at a time."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, *, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._sending: set[asyncio.Task[RecordMetadata]] = set()
        self.partitions = partitions

    @classmethod
    async def start(cls, connection: KafkaConnection, topic: str) -> Self:
        """Connect, and look up the topic. Raises Unavailable and Misconfigured."""
        with connection.translated("write"):
            producer = AIOKafkaProducer(
                **connection.arguments(),
                acks="all",
                enable_idempotence=True,
                compression_type=COMPRESSION,
                max_batch_size=BATCH_BYTES,
            )
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await producer.start()
                    partitions = await producer.partitions_for(topic)
            except BaseException:
                await _let_go(producer)
                raise
        if not partitions:
            await _let_go(producer)
            raise Misconfigured(f"the topic {topic} has no partitions")
        return cls(producer, topic, partitions=len(partitions))

    def new_batch(self) -> BatchBuilder:
        """An empty batch. Its `append` returns None when it is full; the first record fits always."""
        return self._producer.create_batch()

    def send(self, batch: BatchBuilder, partition: int) -> asyncio.Task[RecordMetadata]:
        """Ends when the brokers have acknowledged the batch, with the offset of its first record."""
        task = asyncio.create_task(self._deliver(batch, partition))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return task

    async def stop(self) -> None:
        """End within seconds, whatever the brokers do. What is not acknowledged by then is cancelled."""
        await _let_go(self._producer)
        for task in self._sending:
            task.cancel()

    async def _deliver(self, batch: BatchBuilder, partition: int) -> RecordMetadata:
        batch.close()
        delivered = await self._producer.send_batch(batch, self._topic, partition=partition)
        return await delivered


async def _let_go(producer: AIOKafkaProducer) -> None:
    """`AIOKafkaProducer.stop` waits until every batch is delivered, for ever if it has to."""
    with contextlib.suppress(TimeoutError, kafka.KafkaError):
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await producer._sender.close()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    producer._message_accumulator.fail_all(kafka.ProducerClosed())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    await close_within_timeout(producer.stop())
