"""Reads of the topic of events outside any consumer group."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from lorestream.adapters.kafka.connection import CONNECT_TIMEOUT_S, close_within_timeout
from lorestream.adapters.kafka.consumer import FETCH_BYTES, FETCH_WAIT_MS, PARTITION_FETCH_BYTES, to_record

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.ports import Record


class KafkaReader:
    """A LogReader (lorestream.ports.log), over one consumer without a group."""

    def __init__(self, connection: KafkaConnection, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._connection = connection
        self._consumer = consumer
        self._topic = topic

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: KafkaConnection, *, topic: str, positions: Mapping[int, int]
    ) -> AsyncGenerator[Self]:
        """Read these partitions of the topic from these positions on. Raises Unavailable."""
        with connection.translate_errors_while_serving("read the log"):
            consumer = AIOKafkaConsumer(
                **connection.arguments(),
                enable_auto_commit=False,
                auto_offset_reset="earliest",  # where retention has deleted the position
                isolation_level="read_committed",
                max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
                fetch_max_bytes=FETCH_BYTES,
                fetch_max_wait_ms=FETCH_WAIT_MS,
            )
        consumer.assign([TopicPartition(topic, partition) for partition in positions])
        try:
            with connection.translate_errors_while_serving("read the log"):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await consumer.start()
                for partition, position in positions.items():
                    consumer.seek(TopicPartition(topic, partition), position)
            yield cls(connection, consumer, topic)
        finally:
            await close_within_timeout(consumer.stop())

    async def read(self, partition: int, *, limit: int, wait_s: float) -> Sequence[Record]:
        """The next records of the partition, at most `limit` and one fetch. Raises Unavailable."""
        wanted = TopicPartition(self._topic, partition)
        with self._connection.translate_errors_while_serving("read the log"):
            found = await self._consumer.getmany(wanted, timeout_ms=round(wait_s * 1000), max_records=limit)
        return [to_record(record) for record in found.get(wanted, ())]
