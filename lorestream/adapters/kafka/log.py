"""The event log in Kafka: one topic of events, one of dead letters."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from lorestream.adapters.kafka import dead_letter_records, topics
from lorestream.adapters.kafka.appender import KafkaAppender
from lorestream.adapters.kafka.consumer import ConsumerConfig, commit_for_empty_group
from lorestream.adapters.kafka.offsets import KafkaOffsets
from lorestream.adapters.kafka.subscription import KafkaSubscription

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.ports import (
        Clock,
        DeadLetter,
        NewRecord,
        RebalanceListener,
        RecordId,
        Resolution,
        StoredDeadLetter,
    )

REMEMBERED_DEAD_LETTERS = 10_000


class KafkaLog:
    """An EventLog. Belongs to the event loop that opened it."""

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
        membership: ConsumerConfig,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._events = events
        self._dead_letters = dead_letters
        self._offsets = offsets
        self._topic = topic
        self._dlq_topic = dlq_topic
        self._retention_s = retention_s
        self._membership = membership
        self._clock = clock
        self._written: dict[tuple[int, int], None] = {}

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
        membership: ConsumerConfig | None = None,
    ) -> AsyncGenerator[Self]:
        """The log in these topics, which are created when they are missing.

        `partitions` and `replication` (0: the broker's default) count only then. `membership` is that of the
        groups that are joined. Raises Unavailable and Misconfigured.
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
                membership=membership or ConsumerConfig(),
                clock=clock,
            )

    @property
    def retention_s(self) -> float:
        """How long a record is kept, in seconds."""
        return self._retention_s

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Append in order; return once all are durable: for every partition touched, its highest offset.

        Raises Unavailable when the brokers do not acknowledge in time (a part may still have been written),
        and, with nothing written, Overloaded when too much waits and EventTooLarge for what no topic holds.
        """
        return await self._events.append(records)

    def subscribe(
        self, group: str, listener: RebalanceListener
    ) -> AbstractAsyncContextManager[KafkaSubscription]:
        """Become a member of the group, and wait for its first partitions. Raises Unavailable and Misconfigured.

        Leaving, the listener is not told: what was not committed is read again by another.
        """
        return KafkaSubscription.open(
            self._connection,
            self._offsets,
            listener,
            topic=self._topic,
            group=group,
            membership=self._membership,
        )

    async def committed(self, group: str) -> Mapping[int, int]:
        """The next offset to read of each partition that the group has committed. Raises Unavailable."""
        return await self._offsets.committed(group)

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record of each partition will get. Raises Unavailable."""
        return await self._offsets.end()

    async def offsets_for_time(self, at: float) -> Mapping[int, tuple[int, float]]:
        """The first record of each partition from the Unix time `at` on: its offset, and its time."""
        return await self._offsets.offsets_for_time(at)

    async def set_group_offsets(self, group: str, positions: Mapping[int, int]) -> None:
        """Let a group that nobody is a member of begin at these offsets. Raises Unavailable."""
        await commit_for_empty_group(self._connection, self._topic, group, positions)
        self._offsets.forget(group)

    async def delete_group(self, group: str) -> None:
        """Nothing: Kafka forgets a group without members by itself, and its retention waits for nobody."""

    async def groups(self) -> Collection[str]:
        """None: see `forget`."""
        return ()

    async def append_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Set records aside durably, raw, with the reason. Raises Unavailable.

        Idempotent per partition and offset, as far as this process remembers: a letter that another one has
        written too stands there twice, and `dead_letters` shows the first, or none when it was settled.
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
        """The records set aside and not settled, each once, the earliest first. Raises Unavailable."""
        return dead_letter_records.read_unresolved(self._connection, self._dlq_topic, self._topic)

    async def resolve_dead_letters(self, record_ids: Collection[RecordId], resolution: Resolution) -> None:
        """Say, durably, that these letters are done with: no letter can be removed by itself. Raises Unavailable."""
        now = self._clock.now()
        await self._dead_letters.append(
            [
                dead_letter_records.encode_resolution(self._topic, record_id, resolution, now)
                for record_id in record_ids
            ]
        )
