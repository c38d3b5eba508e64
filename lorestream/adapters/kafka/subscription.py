"""A member of a consumer group: polls records into bounded buffers and reports assignments to a listener.

Kafka removes a member that stops polling from its group. Therefore one task polls for as long as the subscription
is open, whether or not `read` is called; a partition whose buffer is full is paused. Rebalances of aiokafka
are eager: every partition is revoked before the new assignment arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka

from lorestream import supervision
from lorestream.adapters.kafka.buffers import AssignedPartition, ReadBuffers
from lorestream.adapters.kafka.connection import CALL_TIMEOUT_S
from lorestream.adapters.kafka.consumer import RebalanceCallbacks, new_consumer, to_record
from lorestream.adapters.kafka.consumer_health import ConsumerStuck, DuplicateMemberDetector, watch_progress
from lorestream.errors import LorestreamError, Unavailable
from lorestream.ports.log import LOST_RECORDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from aiokafka import ConsumerRecord

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.adapters.kafka.consumer import ConsumerConfig
    from lorestream.adapters.kafka.offsets import KafkaOffsets
    from lorestream.ports import OnLost, RebalanceListener, Record

_log = structlog.get_logger("lorestream.kafka")

POLL_TIMEOUT_MS = 200
MAX_POLL_RECORDS = 500
"""Records decoded in one poll: about 2 ms during which the event loop does nothing else."""
POSITION_TIMEOUT_S = 5.0
"""Limit for looking up the committed offsets after an assignment."""
RETRY_DELAY_S = 1.0
"""Pause before a failed consumer is replaced."""
STOP_TIMEOUT_S = 3.0
"""Limit for waiting until a consumer has left its group; after that it finishes in the background."""


class KafkaSubscription:
    """A Subscription (lorestream.ports.log). Belongs to the event loop that opened it."""

    def __init__(
        self,
        connection: KafkaConnection,
        offsets: KafkaOffsets,
        listener: RebalanceListener,
        *,
        topic: str,
        group: str,
        config: ConsumerConfig,
        on_lost: OnLost,
    ) -> None:
        self._connection = connection
        self._offsets = offsets
        self._listener = listener
        self._topic = topic
        self._group = group
        self._config = config
        self._on_lost = on_lost
        self._lost_below: dict[int, int] = {}
        """Partition -> the offset below which lost records have been counted."""
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: dict[int, AssignedPartition] = {}
        self._revoking: dict[int, AssignedPartition] = {}
        """Partitions that are being revoked: no longer read, but finished work on them may still be committed."""
        self._buffers = ReadBuffers()
        self._changed = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._joined = False
        self._problem: LorestreamError | None = None
        """Why there is no working consumer at present; None while there is one."""

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
        config: ConsumerConfig,
        on_lost: OnLost,
    ) -> AsyncGenerator[Self]:
        """Join the group; entered once the first assignment has arrived (it may be empty).

        `on_lost` is called with the number of records that retention deleted before this group had read them.
        Raises Unavailable and Misconfigured when joining fails. Later failures are retried with a new consumer,
        and `read` and `commit` raise Unavailable meanwhile.
        """
        self = cls(connection, offsets, listener, topic=topic, group=group, config=config, on_lost=on_lost)
        try:
            async with supervision.restarting(self._run, "Kafka consumer"):
                await self._first_assignment()
                yield self
        finally:
            await self._drop_consumer()

    # --- the port ----------------------------------------------------------------------------------------

    async def read(self, *, limit: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """Return buffered records of all partitions in turn; wait up to `wait_s` seconds for the first one.

        Raises Unavailable when nothing is buffered and there is no working consumer.
        """
        if not self._buffers and wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while not self._buffers and self._problem is None:
                        await self._wait_for_change()
        if not self._buffers and self._problem is not None:
            raise Unavailable(str(self._problem)) from self._problem
        records, touched = self._buffers.pop(limit, max_bytes)
        for partition in touched:
            self._resume(partition)
        return records

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Commit the next offset to read of each assigned partition; a lower one than committed is ignored.

        Returns within `CALL_TIMEOUT_S`. Raises Unavailable.
        """
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S), self._commit_lock:
                await self._commit(positions)
        except TimeoutError:
            raise Unavailable(f"Kafka did not confirm a commit within {CALL_TIMEOUT_S} s") from None

    async def end(self) -> Mapping[int, int]:
        """The offset that the next record of each assigned partition will get. Raises Unavailable."""
        ends = await self._offsets.end()
        return {number: end for number, end in ends.items() if number in self._partitions}

    async def _commit(self, positions: Mapping[int, int]) -> None:
        assigned = self._partitions | self._revoking
        higher = {
            number: position
            for number, position in positions.items()
            if number in assigned and position > assigned[number].committed
        }
        if not higher:
            return
        if self._consumer is None:
            raise Unavailable(f"no consumer of the group {self._group} at present: {self._problem}")
        with self._connection.translate_errors_while_serving("commit offsets"):
            try:
                await self._consumer.commit(
                    {TopicPartition(self._topic, number): at for number, at in higher.items()}
                )
            except (kafka.IllegalStateError, kafka.CommitFailedError) as error:
                _log.info(
                    "offsets not committed: the partitions were reassigned; the new owner reads the records again",
                    partitions=list(higher),
                    error=str(error),
                )
                return
        self._offsets.drop_cached(self._group)
        for number, position in higher.items():
            assigned[number].committed = position

    # --- rebalances --------------------------------------------------------------------------------------

    async def _on_assigned(self, consumer: AIOKafkaConsumer, assigned: Collection[TopicPartition]) -> None:
        """Look up the starting offsets, call the listener, and only then let records arrive."""
        if consumer is not self._consumer:
            return
        # Nothing is fetched yet: aiokafka calls this in the same event loop iteration in which it assigns.
        consumer.pause(*assigned)
        try:
            async with asyncio.timeout(POSITION_TIMEOUT_S):
                expected = {each.partition: await consumer.position(each) for each in assigned}
                positions = await self._offsets.skip_deleted(expected)
        except TimeoutError:
            # Raise instead of waiting on: aiokafka looks for a new coordinator only after this has returned.
            raise ConsumerStuck(f"no committed offsets within {POSITION_TIMEOUT_S} s") from None
        if consumer is not self._consumer:
            return
        for number, at in positions.items():
            self._count_lost(number, expected[number], at)
        _log.info("partitions assigned", group=self._group, positions=positions)
        self._partitions = {
            number: AssignedPartition(number, at, at) for number, at in sorted(positions.items())
        }
        await self._listener.assigned(positions)
        consumer.resume(*assigned)
        self._joined = True
        self._problem = None
        self._notify()

    async def _on_revoked(self, consumer: AIOKafkaConsumer) -> None:
        if consumer is self._consumer:
            await self._revoke_all()

    async def _revoke_all(self) -> None:
        """Drop what was read ahead, then let the listener finish and commit the records that it already has."""
        self._joined = False
        self._buffers.clear()
        self._revoking, self._partitions = self._partitions, {}
        if not self._revoking:
            return
        _log.info("partitions revoked", group=self._group, partitions=list(self._revoking))
        timeout_s = self._config.revoke_deadline_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._listener.revoked(list(self._revoking))
        except TimeoutError:
            _log.warning(
                "work on revoked partitions did not finish in time and was cancelled; the next owner repeats it",
                group=self._group,
                after_s=timeout_s,
            )
        except LorestreamError as error:
            _log.warning(
                "work on revoked partitions failed; the next owner repeats it",
                group=self._group,
                error=str(error),
            )
        finally:
            self._revoking = {}

    # --- the consumer ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Consume until cancelled, with a new consumer whenever one has failed."""
        while True:
            try:
                with self._connection.translate_errors(f"read records of the group {self._group}"):
                    await self._consume()
            except (LorestreamError, ConsumerStuck) as error:
                _log.warning("Kafka consumer failed, replacing it", group=self._group, error=str(error))
                self._problem = error if isinstance(error, LorestreamError) else Unavailable(str(error))
            except Exception as error:  # noqa: BLE001 (the subscription goes on, whatever its consumer failed with)
                _log.exception("Kafka consumer failed, replacing it", group=self._group)
                self._problem = Unavailable(f"the Kafka consumer failed: {error!r}")
            self._notify()
            try:
                await self._revoke_all()
            finally:  # otherwise it would stay in the group, and keep partitions that nobody reads
                await self._drop_consumer()
            await asyncio.sleep(RETRY_DELAY_S)

    async def _consume(self) -> None:
        """Run one consumer until it fails; raises what it failed with."""
        await self._connection.check()
        consumer = self._consumer = new_consumer(self._connection, self._group, self._config)
        name = self._config.static_member
        callbacks = RebalanceCallbacks(
            lambda assigned: self._on_assigned(consumer, assigned),
            lambda: self._on_revoked(consumer),
            DuplicateMemberDetector(consumer, name) if name is not None else None,
        )
        consumer.subscribe([self._topic], listener=callbacks)
        await supervision.run_together(
            {
                "Kafka polling": self._poll(consumer),
                "Kafka progress": watch_progress(self._expected_positions, self._offsets, self._config),
                "Kafka callbacks": callbacks.wait_for_failure(),
            }
        )

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        await consumer.start()
        while True:
            arrived = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_POLL_RECORDS)
            for tp, records in arrived.items():
                if (partition := self._partitions.get(tp.partition)) is not None:
                    self._buffer(consumer, tp, partition, records)
            if arrived:
                self._notify()

    def _buffer(
        self,
        consumer: AIOKafkaConsumer,
        tp: TopicPartition,
        partition: AssignedPartition,
        records: Sequence[ConsumerRecord[bytes | None, bytes | None]],
    ) -> None:
        """Buffer records that arrived; pause the partition when its buffer is full."""
        self._count_lost(tp.partition, partition.next_offset, records[0].offset)
        self._buffers.put(partition, map(to_record, records))
        full = partition.exceeds(self._config.buffer_records, self._config.buffer_bytes)
        if full and not partition.paused:
            partition.paused = True
            consumer.pause(tp)

    def _count_lost(self, partition: int, expected: int, got: int) -> None:
        """Report records that were deleted unread: `expected` is the group's position, `got` the oldest offset left.

        Each is reported once, although the group's position stays behind them until the next commit.
        """
        expected = max(expected, self._lost_below.get(partition, 0))
        if got > expected:
            self._lost_below[partition] = got
            self._on_lost(got - expected)
            _log.warning(LOST_RECORDS, group=self._group, partition=partition, expected=expected, got=got)

    def _resume(self, partition: AssignedPartition) -> None:
        """Resume a paused partition once half of its buffer is free.

        Not earlier: what aiokafka had fetched and not delivered at a pause is thrown away and fetched again.
        """
        half_full = partition.exceeds(
            self._config.buffer_records // 2 + 1, self._config.buffer_bytes // 2 + 1
        )
        if partition.paused and not half_full and self._consumer is not None:
            partition.paused = False
            self._consumer.resume(TopicPartition(self._topic, partition.number))

    def _expected_positions(self) -> Mapping[int, int] | None:
        """The next offset of each partition that should deliver records; None without an assignment."""
        if not self._joined:
            return None
        return {number: each.next_offset for number, each in self._partitions.items() if not each.paused}

    async def _drop_consumer(self) -> None:
        """Stop the consumer. What takes longer than `STOP_TIMEOUT_S` continues in the background."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            stopping = supervision.start_detached(self._stop(consumer), "stop of a Kafka consumer")
            await asyncio.wait({stopping}, timeout=STOP_TIMEOUT_S)

    async def _stop(self, consumer: AIOKafkaConsumer) -> None:
        try:
            await consumer.stop()
        except Exception as error:  # noqa: BLE001 (nothing depends on it any more)
            _log.info(
                "Kafka consumer stopped with an error; it leaves the group when its session times out",
                group=self._group,
                error=repr(error),
            )

    async def _first_assignment(self) -> None:
        while not self._joined:
            if self._problem is not None:
                raise self._problem
            await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
