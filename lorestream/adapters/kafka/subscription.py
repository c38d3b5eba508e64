"""A member of a consumer group: reads ahead into bounded buffers, and tells a listener what is its own.

Kafka takes a member that stops polling for dead, so a task polls for as long as the member lives; a partition
whose buffer is full is paused meanwhile. All rebalances of aiokafka are eager: every partition is revoked, and
some come back.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka

from lorestream.adapters.kafka.buffers import Buffers, Partition
from lorestream.adapters.kafka.connection import CALL_TIMEOUT_S
from lorestream.adapters.kafka.consumer import RebalanceCallbacks, as_record, new_consumer
from lorestream.adapters.kafka.duplicate_member import DuplicateMemberDetector
from lorestream.adapters.kafka.watchdog import Stuck, watch
from lorestream.errors import LorestreamError, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from aiokafka import ConsumerRecord

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.adapters.kafka.consumer import ConsumerConfig
    from lorestream.adapters.kafka.offsets import KafkaOffsets
    from lorestream.ports import RebalanceListener, Record

_log = structlog.get_logger("lorestream.kafka")

POLL_MS = 200
POLL_RECORDS = 500
"""Decoded in one go on the event loop: 2 ms."""
POSITION_TIMEOUT_S = 5.0
RECONNECT_PAUSE_S = 1.0
STOP_TIMEOUT_S = 3.0
"""A consumer that cannot say goodbye in this time does so in the background."""


class KafkaSubscription:
    """A Subscription. Belongs to the event loop that opened it."""

    def __init__(
        self,
        connection: KafkaConnection,
        offsets: KafkaOffsets,
        listener: RebalanceListener,
        *,
        topic: str,
        group: str,
        membership: ConsumerConfig,
    ) -> None:
        self._connection = connection
        self._offsets = offsets
        self._listener = listener
        self._topic = topic
        self._group = group
        self._membership = membership
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: dict[int, Partition] = {}
        self._revoking: dict[int, Partition] = {}
        """Partitions that are going: nothing of them is read any more, what is in hand may be committed."""
        self._buffers = Buffers()
        self._changed = asyncio.Event()
        self._committing = asyncio.Lock()
        self._joined = False
        self._problem: LorestreamError | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        connection: KafkaConnection,
        offsets: KafkaOffsets,
        listener: RebalanceListener,
        *,
        topic: str,
        group: str,
        membership: ConsumerConfig,
    ) -> AsyncGenerator[Self]:
        """A member, once the group has given it its first partitions. Raises Unavailable and Misconfigured."""
        self = cls(connection, offsets, listener, topic=topic, group=group, membership=membership)
        living = asyncio.create_task(self._live())
        try:
            await self._first_assignment()
            yield self
        finally:
            living.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await living
            await self._drop_consumer()

    # --- what a member does ------------------------------------------------------------------------------

    async def read(self, *, limit: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """The next records, a share of each partition; waits up to `wait_s` for the first. Raises Unavailable."""
        if not self._buffers and wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while not self._buffers and self._problem is None:
                        await self._change()
        if not self._buffers and self._problem is not None:
            raise Unavailable(str(self._problem)) from self._problem
        records, touched = self._buffers.take(limit, max_bytes)
        for partition in touched:
            self._resume(partition)
        return records

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store the next offset to read of each partition that is ours; none is lowered. Raises Unavailable."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S), self._committing:
                await self._commit(positions)
        except TimeoutError:
            raise Unavailable(f"Kafka took no commit for {CALL_TIMEOUT_S} s") from None

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record of each of our partitions will get. Raises Unavailable."""
        ends = await self._offsets.end()
        return {number: end for number, end in ends.items() if number in self._partitions}

    async def _commit(self, positions: Mapping[int, int]) -> None:
        ours = self._partitions | self._revoking
        higher = {
            number: position
            for number, position in positions.items()
            if number in ours and position > ours[number].committed
        }
        if not higher:
            return
        if self._consumer is None:
            raise Unavailable(f"no member of {self._group} at present: {self._problem}")
        with self._connection.serving("commit"):
            try:
                await self._consumer.commit(
                    {TopicPartition(self._topic, number): at for number, at in higher.items()}
                )
            except (kafka.IllegalStateError, kafka.CommitFailedError) as error:
                _log.info("not committed, the group has moved on", partitions=list(higher), error=str(error))
                return
        self._offsets.forget(self._group)
        for number, position in higher.items():
            ours[number].committed = position

    # --- what the group does with it ---------------------------------------------------------------------

    async def _assigned(self, consumer: AIOKafkaConsumer, assigned: Collection[TopicPartition]) -> None:
        """Find out where reading goes on, tell the listener, and only then let records come."""
        if consumer is not self._consumer:
            return
        # Nothing is fetched yet: aiokafka calls this in the turn of the loop in which it assigns.
        consumer.pause(*assigned)
        try:
            async with asyncio.timeout(POSITION_TIMEOUT_S):
                positions = {each.partition: await consumer.position(each) for each in assigned}
                positions = await self._still_there(positions)
        except TimeoutError:
            # aiokafka looks for a coordinator that has gone only when this has returned.
            raise Stuck(f"no committed offsets within {POSITION_TIMEOUT_S} s") from None
        if consumer is not self._consumer:
            return
        _log.info("partitions assigned", group=self._group, positions=positions)
        self._partitions = {number: Partition(number, at, at) for number, at in sorted(positions.items())}
        await self._listener.assigned(positions)
        consumer.resume(*assigned)
        self._joined = True
        self._problem = None
        self._notify()

    async def _still_there(self, positions: Mapping[int, int]) -> dict[int, int]:
        """The positions, raised to what the retention has left: nobody waits for records that have gone."""
        oldest: Mapping[int, int] = {}
        with contextlib.suppress(Unavailable):  # one leader may be away, and the others' partitions go on
            oldest = await self._offsets.beginning()
        raised = {number: max(at, oldest.get(number, at)) for number, at in positions.items()}
        for number, at in positions.items():
            if raised[number] > at:
                _gone(number, at, raised[number])
        return raised

    async def _revoked(self, consumer: AIOKafkaConsumer) -> None:
        """Drop what was read ahead, then let the listener finish what it has in hand."""
        if consumer is self._consumer:
            await self._give_up_partitions()

    async def _give_up_partitions(self) -> None:
        self._joined = False
        self._buffers.clear()
        self._revoking, self._partitions = self._partitions, {}
        if not self._revoking:
            return
        _log.info("partitions revoked", group=self._group, partitions=list(self._revoking))
        timeout_s = min(self._membership.revoke_timeout_s, 0.8 * self._membership.session_timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await self._listener.revoked(list(self._revoking))
        except TimeoutError:
            _log.warning("work on revoked partitions was cut off", group=self._group, after_s=timeout_s)
        except LorestreamError as error:
            _log.warning("work on revoked partitions failed", group=self._group, error=str(error))
        finally:
            self._revoking = {}

    # --- a consumer's life -------------------------------------------------------------------------------

    async def _live(self) -> None:
        """Be a member for ever, with a new consumer whenever one has come to an end."""
        while True:
            try:
                with self._connection.translated(f"give {self._group} records"):
                    await self._consume()
            except (LorestreamError, Stuck) as error:
                _log.warning("the consumer is replaced", group=self._group, error=str(error))
                self._problem = error if isinstance(error, LorestreamError) else Unavailable(str(error))
            except Exception as error:  # noqa: BLE001 (a member lives on, whatever its consumer has died of)
                _log.exception("the consumer is replaced", group=self._group)
                self._problem = Unavailable(f"the consumer failed: {error!r}")
            self._notify()
            await self._give_up_partitions()
            await self._drop_consumer()
            await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _consume(self) -> None:
        await self._connection.check()
        consumer = self._consumer = new_consumer(self._connection, self._group, self._membership)
        name = self._membership.static_member
        rebalances = RebalanceCallbacks(
            lambda assigned: self._assigned(consumer, assigned),
            lambda: self._revoked(consumer),
            DuplicateMemberDetector(consumer, name) if name is not None else None,
        )
        consumer.subscribe([self._topic], listener=rebalances)
        tasks = [
            asyncio.create_task(self._poll(consumer)),
            asyncio.create_task(watch(self._standing, self._offsets, self._membership)),
        ]
        try:
            done, _ = await asyncio.wait([*tasks, rebalances.failed], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            rebalances.failed.cancel()
            await asyncio.gather(*tasks, rebalances.failed, return_exceptions=True)

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        await consumer.start()
        while True:
            arrived = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            for tp, records in arrived.items():
                if (partition := self._partitions.get(tp.partition)) is not None:
                    self._receive(consumer, tp, partition, records)
            if arrived:
                self._notify()

    def _receive(
        self,
        consumer: AIOKafkaConsumer,
        tp: TopicPartition,
        partition: Partition,
        records: Sequence[ConsumerRecord[bytes | None, bytes | None]],
    ) -> None:
        if records[0].offset > partition.next:
            _gone(tp.partition, partition.next, records[0].offset)
        self._buffers.put(partition, map(as_record, records))
        full = (
            len(partition.waiting) >= self._membership.buffer_records
            or partition.waiting_bytes >= self._membership.buffer_bytes
        )
        if full and not partition.paused:
            partition.paused = True
            consumer.pause(tp)

    def _resume(self, partition: Partition) -> None:
        """Go on when half of the buffer is free: what was fetched and not taken at a pause is fetched again."""
        roomy = (
            len(partition.waiting) <= self._membership.buffer_records // 2
            and partition.waiting_bytes <= self._membership.buffer_bytes // 2
        )
        if partition.paused and roomy and self._consumer is not None:
            partition.paused = False
            self._consumer.resume(TopicPartition(self._topic, partition.number))

    def _standing(self) -> Mapping[int, int] | None:
        """Where we stand in the partitions that ought to bring records; None while we have none."""
        if not self._joined:
            return None
        return {number: each.next for number, each in self._partitions.items() if not each.paused}

    async def _drop_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            stopping = asyncio.create_task(consumer.stop())
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopped)
            await asyncio.wait({stopping}, timeout=STOP_TIMEOUT_S)

    def _stopped(self, stopping: asyncio.Task[None]) -> None:
        self._stopping.discard(stopping)
        if not stopping.cancelled() and (error := stopping.exception()) is not None:
            _log.info("a consumer did not stop well", group=self._group, error=repr(error))

    async def _first_assignment(self) -> None:
        while not self._joined:
            if self._problem is not None:
                raise self._problem
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()


def _gone(partition: int, expected: int, got: int) -> None:
    place = {"partition": partition, "expected": expected, "got": got}
    _log.warning("records were gone before they were read: is the retention too short?", **place)
