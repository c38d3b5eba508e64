"""aiokafka's idempotent producer for one topic. It sends whole batches, and can be closed within seconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from lorestream import supervision
from lorestream.adapters.kafka.connection import CONNECT_TIMEOUT_S, close_within_timeout
from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from aiokafka.producer.message_accumulator import BatchBuilder
    from aiokafka.structs import RecordMetadata

    from lorestream.adapters.kafka.connection import KafkaConnection

BATCH_BYTES = 256 * 1024
"""Largest batch, uncompressed. This and the compression were chosen by measurement: tests/load/log.py."""
COMPRESSION = "zstd"


class Producer:
    """A connected producer. At most one batch per partition may be in flight at a time; the caller ensures it."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, *, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._sending: set[asyncio.Task[RecordMetadata]] = set()
        self.partitions = partitions
        """Number of partitions of the topic."""

    @classmethod
    async def start(cls, connection: KafkaConnection, topic: str) -> Self:
        """Connect and look up the topic, within `CONNECT_TIMEOUT_S`. Raises Unavailable and Misconfigured."""
        with connection.translate_errors("write records"):
            producer = AIOKafkaProducer(
                **connection.arguments(),
                acks="all",
                enable_idempotence=True,
                compression_type=COMPRESSION,
                max_batch_size=BATCH_BYTES,
            )
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await producer.start()
                    partitions = await producer.partitions_for(topic)
            except BaseException:
                await _abort(producer)
                raise
        if not partitions:
            await _abort(producer)
            raise Misconfigured(f"the topic {topic} has no partitions: check that it exists")
        return cls(producer, topic, partitions=len(partitions))

    def new_batch(self) -> BatchBuilder:
        """An empty batch. Its `append` returns None when it is full; the first record always fits."""
        return self._producer.create_batch()

    def send(self, batch: BatchBuilder, partition: int) -> asyncio.Task[RecordMetadata]:
        """Send the batch. The task ends when the brokers have acknowledged it, with the offset of its first record."""
        task = supervision.start_shared(self._deliver(batch, partition), "delivery to Kafka")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return task

    async def stop(self) -> None:
        """Close within twice `CALL_TIMEOUT_S`; batches that are not acknowledged by then are cancelled."""
        await _abort(self._producer)
        for task in self._sending:
            task.cancel()

    async def _deliver(self, batch: BatchBuilder, partition: int) -> RecordMetadata:
        batch.close()
        delivered = await self._producer.send_batch(batch, self._topic, partition=partition)
        return await delivered


async def _abort(producer: AIOKafkaProducer) -> None:
    """Close the producer and fail its open batches; `AIOKafkaProducer.stop` alone would wait for them without limit."""
    await close_within_timeout(producer._sender.close())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    producer._message_accumulator.fail_all(kafka.ProducerClosed())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    await close_within_timeout(producer.stop())
