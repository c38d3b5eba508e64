"""One aiokafka consumer of a group: its configuration, its rebalance callbacks, the conversion of its records."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from lorestream.ports import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from aiokafka import ConsumerRecord

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.adapters.kafka.consumer_health import DuplicateMemberDetector

PARTITION_FETCH_BYTES = 1024 * 1024
"""Largest size of one partition's records in a fetch response. A larger record arrives as the only one."""
FETCH_BYTES = 8 * 1024 * 1024
"""Largest size of the records of all partitions in a fetch response."""
FETCH_WAIT_MS = 250
"""How long a broker holds back an empty fetch response. A partition that is resumed waits for that response first."""

_REVOKE_SESSION_SHARE = 0.8
"""The part of the session timeout that a revocation may take; the rest is left for joining the group again."""


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """Configuration of a consumer that is a member of a group. Times in seconds, sizes in bytes.

    How the timeouts depend on each other is described in `lorestream.adapters.kafka`.
    """

    session_timeout_s: float = 30.0
    """A member that sends no heartbeat for this long loses its partitions to the other members."""
    revoke_timeout_s: float = 8.0
    """Limit of `RebalanceListener.revoked`; see `revoke_deadline_s`, which is what applies."""
    max_poll_interval_s: float = 300.0
    """A member that does not poll for this long leaves the group. The subscription polls all the time."""
    stuck_after_s: float = 30.0
    """A consumer that receives none of the records that the broker has for this long is replaced."""
    static_member: str | None = None
    """Kafka's `group.instance.id`, different for every process. A static member that restarts within the session
    timeout keeps its partitions, and the others see no rebalance."""
    buffer_records: int = 2000
    """Records read ahead per partition. One poll may exceed it."""
    buffer_bytes: int = 4 * 1024 * 1024
    """Bytes of values read ahead per partition. One poll may exceed it."""

    @property
    def revoke_deadline_s(self) -> float:
        """How long the listener may take to finish its work on revoked partitions, in seconds."""
        return min(self.revoke_timeout_s, _REVOKE_SESSION_SHARE * self.session_timeout_s)


def new_consumer(connection: KafkaConnection, group: str, config: ConsumerConfig) -> AIOKafkaConsumer:
    """A consumer that is not started. It commits only explicitly. Raises Misconfigured."""
    session_ms = round(config.session_timeout_s * 1000)
    arguments = connection.arguments()
    # The broker answers a join request only when all members have joined, which takes up to the session timeout.
    arguments["request_timeout_ms"] += session_ms
    return AIOKafkaConsumer(
        **arguments,
        group_id=group,
        group_instance_id=config.static_member,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=session_ms,
        rebalance_timeout_ms=session_ms,
        heartbeat_interval_ms=min(3000, session_ms // 3),
        max_poll_interval_ms=round(config.max_poll_interval_s * 1000),
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        fetch_max_bytes=FETCH_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )


class RebalanceCallbacks(ConsumerRebalanceListener):
    """Passes aiokafka's rebalance callbacks on to two coroutine functions.

    aiokafka awaits what these methods return, although it declares their type as None.
    """

    def __init__(
        self,
        assigned: Callable[[Collection[TopicPartition]], Awaitable[None]],
        revoked: Callable[[], Awaitable[None]],
        duplicates: DuplicateMemberDetector | None,
    ) -> None:
        """`duplicates` is given for a static member, and is called before the two functions."""
        self._assigned = assigned
        self._revoked = revoked
        self._duplicates = duplicates
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait_for_failure(self) -> None:
        """Raise what `assigned` raises; otherwise wait until cancelled.

        aiokafka only logs it, and would go on fetching partitions that are not processed.
        """
        await self._failed

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, revoked: Collection[TopicPartition]
    ) -> None:
        """Called before a rebalance. `revoked` is always the whole assignment (aiokafka rebalances eagerly)."""
        del revoked
        if self._duplicates is not None:
            self._duplicates.partitions_revoked()
        await self._revoked()

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, assigned: Collection[TopicPartition]
    ) -> None:
        """Called after a rebalance. `assigned` is the whole new assignment."""
        if self._duplicates is not None:
            self._duplicates.partitions_assigned()
        try:
            await self._assigned(assigned)
        except Exception as error:  # noqa: BLE001 (any error means that this consumer has to be replaced)
            if not self._failed.done():
                self._failed.set_exception(error)


def to_record(record: ConsumerRecord[bytes | None, bytes | None]) -> Record:
    """Convert a record of aiokafka. A missing key, value or header value becomes empty bytes."""
    headers = {key: value or b"" for key, value in record.headers}
    return Record(
        record.partition,
        record.offset,
        record.key or b"",
        record.value or b"",
        headers,
        record.timestamp / 1000,
    )
