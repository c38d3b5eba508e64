"""Offsets of one topic without being a member of a group: ends, beginnings, times, committed offsets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.offset import OffsetRequest

from lorestream import supervision
from lorestream.adapters.kafka.connection import CALL_TIMEOUT_S, CONNECT_TIMEOUT_S, close_within_timeout
from lorestream.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from lorestream.adapters.kafka.connection import KafkaConnection

T = TypeVar("T")

LATEST = -1
"""Kafka's timestamp value for the end of a partition."""
EARLIEST = -2
"""Kafka's timestamp value for the oldest record of a partition."""

COMMITTED_CACHE_TTL_S = 0.1
"""How old a result of `committed` may be: many callers of one process poll it at the same time."""

_READ_COMMITTED = 1
"""Isolation level: the end is the last stable offset, up to which consumers read."""
_RETRY_DELAY_S = 0.1


class KafkaOffsets:
    """Looks up offsets of one topic, over one client. Every method returns or raises within `CALL_TIMEOUT_S`."""

    def __init__(self, connection: KafkaConnection, client: AIOKafkaClient, topic: str) -> None:
        self._connection = connection
        self._client = client
        self._topic = topic
        self._coordinators: dict[str, int] = {}
        """Group -> node id of its coordinator."""
        self._committed: dict[str, tuple[float, asyncio.Task[dict[int, int]]]] = {}
        """Group -> when its committed offsets were requested (monotonic seconds), and the request."""

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: KafkaConnection, topic: str) -> AsyncGenerator[Self]:
        """Connect to the cluster. Raises Unavailable and Misconfigured."""
        client = AIOKafkaClient(**connection.arguments())
        with connection.translate_errors("connect"):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.bootstrap()
            client.set_topics([topic])
        try:
            yield cls(connection, client, topic)
        finally:
            await close_within_timeout(client.close())

    async def end(self) -> dict[int, int]:
        """The offset that the next record of each partition will get. Raises Unavailable."""
        return await self._with_retries("read offsets", lambda: self._list(LATEST))

    async def beginning(self) -> dict[int, int]:
        """The oldest offset of each partition that retention has left. Raises Unavailable."""
        return await self._with_retries("read offsets", lambda: self._list(EARLIEST))

    async def skip_deleted(self, positions: Mapping[int, int]) -> dict[int, int]:
        """The positions, raised to the oldest offset that retention has left.

        Without an answer from the brokers within `CALL_TIMEOUT_S`, the positions are returned as they are.
        """
        oldest: Mapping[int, int] = {}
        # The leader of one partition may be unavailable; the other partitions can continue.
        with contextlib.suppress(Unavailable):
            oldest = await self.beginning()
        return {number: max(at, oldest.get(number, at)) for number, at in positions.items()}

    async def offsets_for_time(self, at: float) -> dict[int, tuple[int, float]]:
        """Offset and time of the first record of each partition at or after the Unix time `at`, in seconds.

        Partitions without such a record are left out. Raises Unavailable.
        """
        at_ms = max(0, round(at * 1000))
        found = await self._with_retries("read offsets", lambda: self._list_with_times(at_ms))
        return {number: (offset, ms / 1000) for number, (offset, ms) in found.items() if offset >= 0}

    async def committed(self, group: str) -> Mapping[int, int]:
        """The committed offset (next to read) of each partition. Raises Unavailable.

        The result is at most `COMMITTED_CACHE_TTL_S` old, and never older than the last `drop_cached`.
        """
        requested_at, request = self._committed.get(group, (0.0, None))
        now = time.monotonic()
        if request is None or now - requested_at > COMMITTED_CACHE_TTL_S:
            request = supervision.start_shared(
                self._with_retries("read committed offsets", lambda: self._fetch_committed(group)),
                "committed offsets",
            )
            self._committed[group] = now, request
        # The request is shared: a caller that is cancelled must not cancel it for the others.
        return await asyncio.shield(request)

    async def owners(self, group: str) -> Mapping[int, str]:
        """The member of the group that reads each partition: the beginning of its id, and its host. Raises Unavailable."""
        return await self._with_retries("describe the consumer group", lambda: self._fetch_owners(group))

    def drop_cached(self, group: str) -> None:
        """To be called after a commit of the group, so that `committed` sends a new request to the broker."""
        self._committed.pop(group, None)

    async def _with_retries(
        self, action: str, request: Callable[[], Awaitable[dict[int, T]]]
    ) -> dict[int, T]:
        """Repeat `request` after retriable errors, with fresh metadata, for at most `CALL_TIMEOUT_S`."""
        with self._connection.translate_errors_while_serving(action):
            async with asyncio.timeout(CALL_TIMEOUT_S):
                while True:
                    try:
                        return await request()
                    except kafka.KafkaError as error:
                        if not error.retriable:
                            raise
                        await self._client.force_metadata_update()
                        await asyncio.sleep(_RETRY_DELAY_S)

    async def _list(self, timestamp_ms: int) -> dict[int, int]:
        return {number: offset for number, (offset, _) in (await self._list_with_times(timestamp_ms)).items()}

    async def _list_with_times(self, timestamp_ms: int) -> dict[int, tuple[int, int]]:
        """Offset and timestamp (Unix ms) of the first record of each partition at or after `timestamp_ms`.

        `timestamp_ms` may be LATEST or EARLIEST. The offset is -1 where there is no such record.
        """
        partitions: set[int] | None = self._client.cluster.partitions_for_topic(self._topic)
        if not partitions:
            raise kafka.StaleMetadata(self._topic)
        leaders: dict[int, list[tuple[int, int]]] = {}
        for partition in partitions:
            leader = self._leader(partition)
            leaders.setdefault(leader, []).append((partition, timestamp_ms))
        responses: list[Any] = await supervision.run_all(
            *(
                self._client.send(node, OffsetRequest(-1, _READ_COMMITTED, [(self._topic, wanted)]))
                for node, wanted in leaders.items()
            )
        )
        offsets: dict[int, tuple[int, int]] = {}
        for response in responses:
            for _, entries in response.topics:
                for partition, code, time_ms, offset, *_ in entries:
                    _raise_for_code(code)
                    offsets[partition] = offset, time_ms
        return offsets

    def _leader(self, partition: int) -> int:
        leader = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        if leader is None or leader < 0:
            raise kafka.LeaderNotAvailableError(self._topic)
        return leader

    async def _fetch_committed(self, group: str) -> dict[int, int]:
        response = await self._ask_coordinator(
            group, OffsetFetchRequest(group, None), lambda answer: answer.error_code
        )
        offsets: dict[int, int] = {}
        for topic, entries in response.topics:
            for partition, offset, _, code in entries if topic == self._topic else ():
                _raise_for_code(code)
                if offset >= 0:
                    offsets[partition] = offset
        return offsets

    async def _fetch_owners(self, group: str) -> dict[int, str]:
        response = await self._ask_coordinator(
            group, DescribeGroupsRequest([group]), lambda answer: answer.groups[0][0]
        )
        owners: dict[int, str] = {}
        for member_id, client_id, host, _, assignment, *_ in response.groups[0][5]:
            if not assignment:  # a rebalance is going on
                continue
            for tp in ConsumerProtocolMemberAssignment.decode(assignment).partitions():
                if tp.topic == self._topic:
                    owners[tp.partition] = f"{member_id[: len(client_id) + 9]} at {host.lstrip('/')}"
        return owners

    async def _ask_coordinator(self, group: str, request: Any, error_code: Callable[[Any], int]) -> Any:  # noqa: ANN401
        """The group coordinator's answer. Raises KafkaError; the coordinator is then looked up again."""
        coordinator = self._coordinators.get(group)
        if coordinator is None:
            coordinator = await self._client.coordinator_lookup(CoordinationType.GROUP, group)
            self._coordinators[group] = coordinator
        try:
            response: Any = await self._client.send(coordinator, request)
            _raise_for_code(error_code(response))
        except kafka.KafkaError:
            self._coordinators.pop(group, None)
            raise
        return response


async def commit_for_empty_group(
    connection: KafkaConnection, topic: str, group: str, positions: Mapping[int, int]
) -> None:
    """Commit `positions` (partition -> next offset to read) for a group that has no members.

    Raises Unavailable, also when the group has members.
    """
    with connection.translate_errors_while_serving(f"set the offsets of the group {group}"):
        consumer = AIOKafkaConsumer(**connection.arguments(), group_id=group, enable_auto_commit=False)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await consumer.start()
                at = {TopicPartition(topic, number): offset for number, offset in positions.items()}
                consumer.assign(list(at))
                await consumer.commit(at)
        finally:
            await close_within_timeout(consumer.stop())


def _raise_for_code(code: int) -> None:
    error = kafka.for_code(code)
    if error is not kafka.NoError:
        raise error
