"""The erasure ledger in a compacted topic, read whole at start and followed from then on.

Compaction keeps the last record of a key. So whoever sees after a write of its own that a key ends with an older
erasure than the newest, because two were written at once, writes the newest again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from lorestream.adapters.in_process.erased_subjects import ErasedSubjects
from lorestream.adapters.kafka import topics
from lorestream.adapters.kafka.appender import KafkaAppender
from lorestream.adapters.kafka.connection import CALL_TIMEOUT_S, close_within_timeout
from lorestream.adapters.kafka.erasure_entry import Entry, decoded, key_of, merged
from lorestream.adapters.kafka.offsets import KafkaOffsets
from lorestream.errors import LorestreamError, Misconfigured, Unavailable
from lorestream.ports import ErasureState, NewRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiokafka import ConsumerRecord

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.memories import Erasure, Memory

_log = structlog.get_logger("lorestream.kafka")

PARTITION = 0
POLL_MS = 200
LOOK_S = 5.0
"""How often a quiet topic is checked for records that do not come."""
RECONNECT_PAUSE_S = 1.0
OPEN_TIMEOUT_S = 15.0
"""Without any progress."""


class KafkaErasureLedger:
    """An ErasureLedger. Belongs to the event loop that opened it."""

    def __init__(
        self, connection: KafkaConnection, *, topic: str, appender: KafkaAppender, offsets: KafkaOffsets
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._appender = appender
        self._offsets = offsets
        self._erased = ErasedSubjects()
        self._entries: dict[bytes, Entry] = {}
        self._states: dict[str, bytes] = {}
        """Of each erasure id, the key of its own entry."""
        self._outdated: set[bytes] = set()
        """Keys whose last record is not what they stand for."""
        self._next = 0
        self._grown = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: KafkaConnection, *, topic: str, replication: int = 0
    ) -> AsyncGenerator[Self]:
        """The ledger in the topic, created when it is missing; read to its end before anybody is served.

        Raises Unavailable and Misconfigured.
        """
        wanted = topics.erasures(topic)
        await topics.ensure(connection, [wanted], replication=replication)
        max_bytes = int(wanted.configs["max.message.bytes"])
        async with (
            KafkaAppender.open(connection, topic, max_record_bytes=max_bytes) as appender,
            KafkaOffsets.open(connection, topic) as offsets,
        ):
            if appender.partitions != 1:
                raise Misconfigured(
                    f"the topic {topic} has {appender.partitions} partitions, and erasures need an order: delete"
                    " it, to have it made anew, or set LORESTREAM_LOG__ERASURES_TOPIC to another name"
                )
            self = cls(connection, topic=topic, appender=appender, offsets=offsets)
            following = asyncio.create_task(self._follow())
            try:
                await self._catch_up()
                yield self
            finally:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following

    async def add(self, erasure: Erasure) -> None:
        """Remember it durably, as running; `covers` knows it when this returns. Raises Unavailable.

        Adding it again changes nothing.
        """
        entry = Entry.of(erasure)
        # The erasure's own entry comes last: a part that was written takes more, never less, than it says.
        keys = [key_of(erasure.tenant, erasure.kind.value, subject) for subject in erasure.subjects]
        keys.append(key_of(erasure.tenant, "state", erasure.id))
        await self._write(dict.fromkeys(keys, entry))

    def covers(self, memory: Memory) -> bool:
        """Whether any erasure takes this memory."""
        return self._erased.covers(memory)

    def added_since(self, since: int) -> Sequence[Erasure]:
        """The erasures that have come here, in that order, without the first `since`."""
        return self._erased.added_since(since)

    async def mark_done(self, erasure_id: str) -> None:
        """Note, durably, that what it takes has gone. Raises Unavailable."""
        state = self._states.get(erasure_id)
        if state is None:
            return
        entry = self._entries[state].finished()
        keys = [key_of(entry.tenant, entry.kind, subject) for subject in entry.subjects]
        newest = [key for key in keys if key in self._entries and self._entries[key].id == erasure_id]
        await self._write(dict.fromkeys([*newest, state], entry))

    async def state(self, erasure_id: str) -> ErasureState | None:
        """The erasure of that id, or None. Every one is kept for ever. Raises Unavailable."""
        if erasure_id not in self._states:
            # Whoever was told the id by another gateway may ask before its record has come here.
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    await self._reach((await self._offsets.end())[PARTITION])
            except TimeoutError:
                raise Unavailable("the erasures cannot be read at present") from None
        key = self._states.get(erasure_id)
        return None if key is None else self._entries[key].state()

    async def _write(self, entries: dict[bytes, Entry]) -> None:
        """Write what is news, wait until we have read it back, and see that every key ends with the newest."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                while news := self._news(entries):
                    offsets = await self._appender.append(
                        [NewRecord(key, entry.encoded(), {}) for key, entry in news.items()]
                    )
                    await self._reach(offsets[PARTITION] + 1)
        except TimeoutError:
            raise Unavailable(f"no erasure was written within {CALL_TIMEOUT_S} s") from None

    def _news(self, entries: dict[bytes, Entry]) -> dict[bytes, Entry]:
        news: dict[bytes, Entry] = {}
        for key, entry in entries.items():
            known = self._entries.get(key)
            after = merged(known, entry)
            if after != known or key in self._outdated:
                news[key] = after
        return news

    async def _reach(self, position: int) -> None:
        """Wait until everything below that offset has been read."""
        while self._next < position:
            self._grown.clear()
            await self._grown.wait()

    async def _catch_up(self) -> None:
        end = (await self._offsets.end())[PARTITION]
        while (begun := self._next) < end:
            try:
                async with asyncio.timeout(OPEN_TIMEOUT_S):
                    await self._reach(min(begun + 1, end))
            except TimeoutError:
                raise Unavailable(f"the erasures of {self._topic} could not be read") from None
        await self._write({key: self._entries[key] for key in self._outdated})

    async def _follow(self) -> None:
        """Read for ever, with a new consumer whenever one has come to an end. `covers` works meanwhile."""
        while True:
            try:
                with self._connection.translated("give erasures"):
                    await self._read()
            except LorestreamError as error:
                _log.warning("the erasures are not followed at present", error=str(error))
            except Exception:  # noqa: BLE001 (a ledger that no longer follows would serve what was erased)
                _log.exception("the erasures are not followed at present")
            await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _read(self) -> None:
        """Raises Unavailable when records that are there do not come."""
        place = TopicPartition(self._topic, PARTITION)
        consumer = AIOKafkaConsumer(**self._connection.arguments(), auto_offset_reset="earliest")
        consumer.assign([place])
        try:
            await consumer.start()
            consumer.seek(place, self._next)
            awaited = self._next
            loop = asyncio.get_running_loop()
            look_at = loop.time() + LOOK_S
            while True:
                for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    self._apply(records)
                self._next = await consumer.position(place)
                self._grown.set()
                if loop.time() >= look_at:
                    if self._next < awaited:
                        raise Unavailable(f"records up to {awaited} wait and do not come")
                    with contextlib.suppress(Unavailable):
                        awaited = (await self._offsets.end())[PARTITION]
                    look_at = loop.time() + LOOK_S
        finally:
            await close_within_timeout(consumer.stop())

    def _apply(self, records: Iterable[ConsumerRecord[bytes | None, bytes | None]]) -> None:
        for record in records:
            if (entry := decoded(record.value)) is None or record.key is None:
                _log.warning(
                    "what is no erasure stands in the ledger", topic=self._topic, offset=record.offset
                )
                continue
            known = self._entries[record.key] = merged(self._entries.get(record.key), entry)
            (self._outdated.discard if known == entry else self._outdated.add)(record.key)
            self._erased.add(entry.erasure())
            if record.key == (state := key_of(entry.tenant, "state", entry.id)):
                self._states[entry.id] = state
