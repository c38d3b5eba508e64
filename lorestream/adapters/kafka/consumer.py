"""How a member of a group is set up, what the group tells it, and what its records become."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from lorestream.adapters.kafka.connection import START_TIMEOUT_S, close_within_timeout
from lorestream.ports import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from aiokafka import ConsumerRecord

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.adapters.kafka.duplicate_member import DuplicateMemberDetector

FETCH_BYTES = 1024 * 1024
"""Of one partition in one answer; a larger record comes alone."""
FETCH_ALL_BYTES = 8 * 1024 * 1024
FETCH_WAIT_MS = 250
"""A partition that goes on after a pause waits for the answer to the others' request."""


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """How a member stands in its group. Times in seconds."""

    session_timeout_s: float = 30.0
    """Silent for so long, a member loses its partitions to the others."""
    revoke_timeout_s: float = 8.0
    """What the listener may take to finish with partitions that go; bounded by the session's timeout too."""
    max_poll_interval_s: float = 300.0
    stuck_after_s: float = 30.0
    """With records waiting at the broker and none arriving for so long, the consumer is made anew."""
    static_member: str | None = None
    """group.instance.id, one per process: it keeps its partitions over a restart within the session's timeout."""
    buffer_records: int = 2000
    buffer_bytes: int = 4 * 1024 * 1024
    """Of each partition; exceeded by one poll at most."""


def new_consumer(connection: KafkaConnection, group: str, membership: ConsumerConfig) -> AIOKafkaConsumer:
    """A consumer that commits nothing of itself, not started."""
    session_ms = round(membership.session_timeout_s * 1000)
    arguments = connection.arguments()
    # The broker answers a join only when the group has gathered.
    arguments["request_timeout_ms"] += session_ms
    return AIOKafkaConsumer(
        **arguments,
        group_id=group,
        group_instance_id=membership.static_member,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=session_ms,
        rebalance_timeout_ms=session_ms,
        heartbeat_interval_ms=min(3000, session_ms // 3),
        max_poll_interval_ms=round(membership.max_poll_interval_s * 1000),
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_bytes=FETCH_ALL_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )


async def commit_for_empty_group(
    connection: KafkaConnection, topic: str, group: str, positions: Mapping[int, int]
) -> None:
    """Commit for a group without members. Raises Unavailable, also where it has some, and Misconfigured."""
    consumer = AIOKafkaConsumer(**connection.arguments(), group_id=group, enable_auto_commit=False)
    with connection.translated(f"take offsets of {group}"):
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await consumer.start()
                at = {TopicPartition(topic, number): offset for number, offset in positions.items()}
                consumer.assign(list(at))
                await consumer.commit(at)
        finally:
            await close_within_timeout(consumer.stop())


class RebalanceCallbacks(ConsumerRebalanceListener):
    """What the group tells one consumer. aiokafka awaits what this returns, although it types it as None."""

    def __init__(
        self,
        assigned: Callable[[Collection[TopicPartition]], Awaitable[None]],
        revoked: Callable[[], Awaitable[None]],
        namesake: DuplicateMemberDetector | None,
    ) -> None:
        self._assigned = assigned
        self._revoked = revoked
        self._namesake = namesake
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the error of `assigned`: aiokafka would go on, and nobody would know what is whose."""

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, revoked: Collection[TopicPartition]
    ) -> None:
        """Every rebalance of aiokafka revokes all."""
        del revoked
        if self._namesake is not None:
            self._namesake.revoked()
        await self._revoked()

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, assigned: Collection[TopicPartition]
    ) -> None:
        """These, and no others."""
        if self._namesake is not None:
            self._namesake.assigned()
        try:
            await self._assigned(assigned)
        except Exception as error:  # noqa: BLE001 (whatever it is, it ends this consumer)
            if not self.failed.done():
                self.failed.set_exception(error)


def as_record(record: ConsumerRecord[bytes | None, bytes | None]) -> Record:
    """What the port calls a record; a missing key, value or header is empty."""
    headers = {key: value or b"" for key, value in record.headers}
    return Record(
        record.partition,
        record.offset,
        record.key or b"",
        record.value or b"",
        headers,
        record.timestamp / 1000,
    )
