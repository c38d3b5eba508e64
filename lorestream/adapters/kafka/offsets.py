"""What anybody may ask a cluster, member of a group or not: where partitions end, what a group has committed."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiokafka import TopicPartition
from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.offset import OffsetRequest

from lorestream.adapters.kafka.connection import CALL_TIMEOUT_S, START_TIMEOUT_S, close_within_timeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from lorestream.adapters.kafka.connection import KafkaConnection

T = TypeVar("T")

LATEST = -1
EARLIEST = -2

COMMITTED_AGE_S = 0.1
"""How old an answer to `committed` may be: many who wait ask in one process."""

_READ_COMMITTED = 1
"""Up to where members read."""
_RETRY_S = 0.1


class KafkaOffsets:
    """Questions about one topic."""

    def __init__(self, connection: KafkaConnection, client: AIOKafkaClient, topic: str) -> None:
        self._connection = connection
        self._client = client
        self._topic = topic
        self._coordinators: dict[str, int] = {}
        self._committed: dict[str, tuple[float, asyncio.Task[dict[int, int]]]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: KafkaConnection, topic: str) -> AsyncGenerator[Self]:
        """One connection to the cluster. Raises Unavailable and Misconfigured."""
        client = AIOKafkaClient(**connection.arguments())
        with connection.translated("be reached"):
            async with asyncio.timeout(START_TIMEOUT_S):
                await client.bootstrap()
            client.set_topics([topic])
        try:
            yield cls(connection, client, topic)
        finally:
            await close_within_timeout(client.close())

    async def end(self) -> dict[int, int]:
        """The offset that the next record of each partition will get. Raises Unavailable."""
        return await self._patiently("tell offsets", lambda: self._list(LATEST))

    async def beginning(self) -> dict[int, int]:
        """The oldest offset that is still there. Raises Unavailable."""
        return await self._patiently("tell offsets", lambda: self._list(EARLIEST))

    async def offsets_for_time(self, at: float) -> dict[int, tuple[int, float]]:
        """The first record of each partition from the Unix time `at` on: offset and time. Raises Unavailable."""
        asked = max(0, round(at * 1000))
        found = await self._patiently("tell offsets", lambda: self._look_up(asked))
        return {number: (offset, ms / 1000) for number, (offset, ms) in found.items() if offset >= 0}

    async def committed(self, group: str) -> Mapping[int, int]:
        """The next offset to read of each partition that the group has committed. Raises Unavailable.

        At most `COMMITTED_AGE_S` old, unless `forget` was called since.
        """
        asked_at, answer = self._committed.get(group, (0.0, None))
        now = time.monotonic()
        if answer is None or now - asked_at > COMMITTED_AGE_S:
            answer = asyncio.create_task(
                self._patiently("tell committed offsets", lambda: self._fetch_committed(group))
            )
            # Whoever asked may be gone when it fails.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._committed[group] = now, answer
        # All who ask share the answer, whoever of them goes away.
        return await asyncio.shield(answer)

    def forget(self, group: str) -> None:
        """The group has just committed something."""
        self._committed.pop(group, None)

    async def _patiently(self, doing: str, ask: Callable[[], Awaitable[dict[int, T]]]) -> dict[int, T]:
        with self._connection.serving(doing):
            async with asyncio.timeout(CALL_TIMEOUT_S):
                while True:
                    try:
                        return await ask()
                    except kafka.KafkaError as error:
                        if not error.retriable:
                            raise
                        await self._client.force_metadata_update()
                        await asyncio.sleep(_RETRY_S)

    async def _list(self, which: int) -> dict[int, int]:
        return {number: offset for number, (offset, _) in (await self._look_up(which)).items()}

    async def _look_up(self, which: int) -> dict[int, tuple[int, int]]:
        """Offset and time (ms) of what is asked for: LATEST, EARLIEST, or the first from a time on (ms)."""
        partitions: set[int] | None = self._client.cluster.partitions_for_topic(self._topic)
        if not partitions:
            raise kafka.StaleMetadata(self._topic)
        leaders: dict[int, list[tuple[int, int]]] = {}
        for partition in partitions:
            leader = self._leader(partition)
            leaders.setdefault(leader, []).append((partition, which))
        answers: list[Any] = await asyncio.gather(
            *(
                self._client.send(node, OffsetRequest(-1, _READ_COMMITTED, [(self._topic, asked)]))
                for node, asked in leaders.items()
            )
        )
        offsets: dict[int, tuple[int, int]] = {}
        for answer in answers:
            for _, told in answer.topics:
                for partition, code, time_ms, offset, *_ in told:
                    _raise(code)
                    offsets[partition] = offset, time_ms
        return offsets

    def _leader(self, partition: int) -> int:
        leader = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        if leader is None or leader < 0:
            raise kafka.LeaderNotAvailableError(self._topic)
        return leader

    async def _fetch_committed(self, group: str) -> dict[int, int]:
        coordinator = self._coordinators.get(group)
        if coordinator is None:
            coordinator = await self._client.coordinator_lookup(CoordinationType.GROUP, group)
            self._coordinators[group] = coordinator
        try:
            answer: Any = await self._client.send(coordinator, OffsetFetchRequest(group, None))
            _raise(answer.error_code)
        except kafka.KafkaError:
            self._coordinators.pop(group, None)
            raise
        offsets: dict[int, int] = {}
        for topic, told in answer.topics:
            for partition, offset, _, code in told if topic == self._topic else ():
                _raise(code)
                if offset >= 0:
                    offsets[partition] = offset
        return offsets


def _raise(code: int) -> None:
    error = kafka.for_code(code)
    if error is not kafka.NoError:
        raise error
