"""The EventLog on Kafka: one topic of events, one topic of dead letters."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from lorestream.adapters.kafka import dead_letter_records, topics
from lorestream.adapters.kafka.appender import KafkaAppender
from lorestream.adapters.kafka.consumer import ConsumerConfig
from lorestream.adapters.kafka.offsets import KafkaOffsets, commit_for_empty_group
from lorestream.adapters.kafka.reader import KafkaReader
from lorestream.adapters.kafka.subscription import KafkaSubscription
from lorestream.errors import Overloaded, Unavailable
from lorestream.ports.log import ignore_lost

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.ports import (
        Clock,
        DeadLetter,
        NewRecord,
        OnLost,
        RebalanceListener,
        RecordId,
        Resolution,
        StoredDeadLetter,
    )

FAILURE_MEMORY_S = 10.0
"""How long a failed append counts when none follows. Only another one can tell whether the cause is gone."""

REMEMBERED_DEAD_LETTERS = 10_000
"""How many records a process remembers as written to the dead letter topic, to write each only once."""


class KafkaLog:
    """An EventLog (lorestream.ports.log). Belongs to the event loop that opened it."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        events: KafkaAppender,
        dead_letters: KafkaAppender,
        offsets: KafkaOffsets,
        topic: str,
        dlq_topic: str,
        retention_s: float,
        consumer_config: ConsumerConfig,
        clock: Clock,
        on_lost: OnLost,
    ) -> None:
        self._connection = connection
        self._events = events
        self._dead_letters = dead_letters
        self._offsets = offsets
        self._topic = topic
        self._dlq_topic = dlq_topic
        self._retention_s = retention_s
        self._consumer_config = consumer_config
        self._clock = clock
        self._on_lost = on_lost
        self._failure: tuple[float, Unavailable] | None = None
        """When the last append failed, by the monotonic clock, and why; None when it succeeded."""
        self._written: dict[RecordId, None] = {}
        """Records that this process has written to the dead letter topic, the oldest first."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        connection: KafkaConnection,
        *,
        topic: str,
        dlq_topic: str,
        retention_s: float,
        clock: Clock,
        partitions: int = 12,
        replication: int = 0,
        consumer_config: ConsumerConfig | None = None,
        on_lost: OnLost | None = None,
    ) -> AsyncGenerator[Self]:
        """Open the log in these topics. Missing topics are created; existing ones are checked.

        `partitions` and `replication` (0: the broker's default) apply only when the topic of events is created.
        `consumer_config` and `on_lost` apply to every subscription. Raises Unavailable and Misconfigured.
        """
        wanted = (
            topics.events(topic, partitions=partitions, retention_s=retention_s),
            topics.dead_letters(dlq_topic),
        )
        await topics.ensure(connection, wanted, replication=replication)
        events, dead_letters = (
            KafkaAppender.open(connection, each.name, max_record_bytes=int(each.configs["max.message.bytes"]))
            for each in wanted
        )
        async with (
            events as events,
            dead_letters as dead_letters,
            KafkaOffsets.open(connection, topic) as offsets,
        ):
            yield cls(
                connection,
                events=events,
                dead_letters=dead_letters,
                offsets=offsets,
                topic=topic,
                dlq_topic=dlq_topic,
                retention_s=retention_s,
                consumer_config=consumer_config or ConsumerConfig(),
                clock=clock,
                on_lost=on_lost or ignore_lost,
            )

    @property
    def retention_s(self) -> float:
        """How long a record is kept, in seconds."""
        return self._retention_s

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Append in order. Returns, once all records are durable, the highest offset per partition written to.

        Raises Unavailable when the brokers do not acknowledge within `CALL_TIMEOUT_S` (some records may still be
        written); Overloaded when too many bytes wait for the brokers, and EventTooLarge for a record that exceeds
        the topic's limit (in both cases nothing was written).
        """
        try:
            positions = await self._events.append(records)
        except Overloaded:
            raise
        except Unavailable as error:
            self._failure = time.monotonic(), error
            raise
        self._failure = None
        return positions

    async def check(self) -> None:
        """Raises Unavailable when the brokers do not answer, or when the last append failed within `FAILURE_MEMORY_S`."""
        await self.end()
        if self._failure is not None and time.monotonic() - self._failure[0] < FAILURE_MEMORY_S:
            raise self._failure[1]

    def subscribe(
        self, group: str, listener: RebalanceListener
    ) -> AbstractAsyncContextManager[KafkaSubscription]:
        """Join the group and wait for the first assignment. Raises Unavailable and Misconfigured.

        On exit `listener.revoked` is not called: records that were not committed are read again by another member.
        """
        return KafkaSubscription.open(
            self._connection,
            self._offsets,
            listener,
            topic=self._topic,
            group=group,
            config=self._consumer_config,
            on_lost=self._on_lost,
        )

    def reader(self, positions: Mapping[int, int]) -> AbstractAsyncContextManager[KafkaReader]:
        """Read these partitions from these positions on, outside any group. Raises Unavailable."""
        return KafkaReader.open(self._connection, topic=self._topic, positions=positions)

    async def committed(self, group: str) -> Mapping[int, int]:
        """The committed offset (next to read) of each partition. Partitions without a commit are left out.

        Raises Unavailable.
        """
        return await self._offsets.committed(group)

    async def owners(self, group: str) -> Mapping[int, str]:
        """The beginning of the id, and the host, of the member that reads each partition. Raises Unavailable."""
        return await self._offsets.owners(group)

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record of each partition will get. Raises Unavailable."""
        return await self._offsets.end()

    async def offsets_for_time(self, at: float) -> Mapping[int, tuple[int, float]]:
        """Offset and time of the first record of each partition at or after the Unix time `at`.

        Partitions without such a record are left out. Raises Unavailable.
        """
        return await self._offsets.offsets_for_time(at)

    async def set_group_offsets(self, group: str, positions: Mapping[int, int]) -> None:
        """Commit these offsets for a group that has no members. Raises Unavailable, also when it has members."""
        await commit_for_empty_group(self._connection, self._topic, group, positions)
        self._offsets.drop_cached(group)

    async def delete_group(self, group: str) -> None:
        """Does nothing: Kafka deletes a group without members by itself, and groups do not delay its retention."""

    async def groups(self) -> Collection[str]:
        """Always empty: no group delays Kafka's retention."""
        return ()

    async def append_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Store dead letters durably. Raises Unavailable.

        A record that this process has already written (of the last `REMEMBERED_DEAD_LETTERS`) is not written
        again. Two processes may both write the same record; `dead_letters` then returns the first one only.
        """
        now = self._clock.now()
        new = {
            record_id: dead_letter_records.encode(self._topic, dead_letter, now)
            for dead_letter in reversed(dead_letters)
            if (record_id := (dead_letter.record.partition, dead_letter.record.offset)) not in self._written
        }
        await self._dead_letters.append(list(reversed(new.values())))
        self._written.update(dict.fromkeys(new))
        while len(self._written) > REMEMBERED_DEAD_LETTERS:
            del self._written[next(iter(self._written))]

    def dead_letters(self) -> AsyncGenerator[StoredDeadLetter]:
        """The unresolved dead letters, the oldest first, each once. Raises Unavailable."""
        return dead_letter_records.read_unresolved(self._connection, self._dlq_topic, self._topic)

    async def resolve_dead_letters(self, record_ids: Collection[RecordId], resolution: Resolution) -> None:
        """Mark the dead letters of these records as resolved, durably. Raises Unavailable.

        Kafka cannot delete single records: a marker is appended, and readers leave out what it names.
        """
        now = self._clock.now()
        await self._dead_letters.append(
            [
                dead_letter_records.encode_resolution(self._topic, record_id, resolution, now)
                for record_id in record_ids
            ]
        )
