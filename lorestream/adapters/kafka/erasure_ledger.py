"""The erasure ledger in a compacted topic: read to its end at start, then followed by a background task.

Compaction keeps only the last record of a key. When two processes write at the same time, the last record may be the
older erasure. A process that notices this after a write of its own, or at its start, writes the newest one again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from heapq import nlargest
from typing import TYPE_CHECKING, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from lorestream import supervision
from lorestream.adapters.in_process.erased_subjects import ErasedSubjects
from lorestream.adapters.kafka import topics
from lorestream.adapters.kafka.appender import KafkaAppender
from lorestream.adapters.kafka.connection import LEDGER_TIMEOUT_S, close_within_timeout
from lorestream.adapters.kafka.erasure_entry import (
    AnyEntry,
    Entry,
    RewindEntry,
    decoded,
    key_of,
    merged,
    player_key_of,
    player_key_record,
)
from lorestream.adapters.kafka.offsets import KafkaOffsets
from lorestream.adapters.kafka.rewind_ledger import KafkaRewinds
from lorestream.adapters.kafka.webhooks import KafkaWebhooks, entry_of
from lorestream.errors import LorestreamError, Misconfigured, Unavailable
from lorestream.ports import ErasureState, NewRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aiokafka import ConsumerRecord

    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.memories import AgentKey, Erasure, Memory

_log = structlog.get_logger("lorestream.kafka")

PARTITION = 0
POLL_TIMEOUT_MS = 200
STUCK_CHECK_INTERVAL_S = 5.0
"""How often the reader compares its position with the end of the topic, to notice that it is stuck."""
RETRY_DELAY_S = 1.0
"""Pause before a failed consumer is replaced."""
PROGRESS_TIMEOUT_S = 15.0
"""At start: how long reading may go without any new record before it fails."""

_WRITTEN = "written and read back"


class KafkaErasureLedger:
    """An ErasureLedger (lorestream.ports.erasures). Belongs to the event loop that opened it."""

    def __init__(
        self, connection: KafkaConnection, *, topic: str, appender: KafkaAppender, offsets: KafkaOffsets
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._appender = appender
        self._offsets = offsets
        self._erased = ErasedSubjects()
        self.rewinds = KafkaRewinds(self._write, self._read_to_end)
        self.webhooks = KafkaWebhooks(self._append, self._read_to_end)
        self._entries: dict[bytes, AnyEntry] = {}
        self._states: dict[str, Entry] = {}
        """Erasure id -> its state."""
        self._outdated: set[bytes] = set()
        """Keys whose last record in the topic is not their newest erasure."""
        self._player_keys: dict[str, str] = {}
        self._next_offset = 0
        self._advanced = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: KafkaConnection, *, topic: str, replication: int = 0
    ) -> AsyncGenerator[Self]:
        """Open the ledger in the topic, which is created when it is missing. Entered once the topic was read to its end.

        `replication` applies to a new topic; 0 is the broker's default. Raises Unavailable and Misconfigured.
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
                    f"the topic {topic} has {appender.partitions} partitions, but erasures need one partition to keep"
                    " their order: delete the topic (it is created again at the next start), or set"
                    " LORESTREAM_LOG__ERASURES_TOPIC to another name"
                )
            self = cls(connection, topic=topic, appender=appender, offsets=offsets)
            async with supervision.restarting(self._follow, "erasures"):
                await self._catch_up()
                yield self

    async def add(self, erasure: Erasure) -> None:
        """Store the erasure durably, as not done; `covers` takes it into account when this returns. Idempotent.

        Raises Unavailable; a part may still have been written.
        """
        entry = Entry.of(erasure)
        # The state comes last: if only a part is written, the subjects are erased and the caller adds it again.
        keys = [key_of(erasure.tenant, erasure.kind.value, subject) for subject in erasure.subjects]
        keys.append(key_of(erasure.tenant, "state", erasure.id))
        await self._write(dict.fromkeys(keys, entry))

    def covers(self, memory: Memory) -> bool:
        """Whether any erasure covers this memory. In memory; never blocks."""
        return self._erased.covers(memory)

    def strip(self, memory: Memory) -> Memory:
        """What stays of a memory that no erasure covers. In memory; never blocks."""
        return self._erased.strip(memory)

    def covers_state(self, agent: AgentKey, player: str | None, since: float) -> bool:
        """Whether an erasure covers state of this agent. In memory; never blocks."""
        return self._erased.covers_state(agent, player, since)

    def added_since(self, since: int) -> Sequence[Erasure]:
        """The erasures that this process has read, each once, in the order of reading, without the first `since`."""
        return self._erased.added_since(since)

    async def mark_done(self, erasure_id: str) -> None:
        """Store durably that everything the erasure covers is deleted. Ignores an unknown id. Raises Unavailable."""
        state = self._states.get(erasure_id)
        if state is None:
            return
        entry = state.finished()
        keys = [key_of(entry.tenant, entry.kind, subject) for subject in entry.subjects]
        newest = [key for key in keys if key in self._entries and self._entries[key].id == erasure_id]
        await self._write(dict.fromkeys([*newest, key_of(entry.tenant, "state", erasure_id)], entry))

    async def state(self, erasure_id: str) -> ErasureState | None:
        """The erasure with that id and whether it is done, or None. Kept without limit. Raises Unavailable."""
        if erasure_id not in self._states:
            # The client may have the id from another gateway, whose record has not been read here yet.
            await self._read_to_end()
        entry = self._states.get(erasure_id)
        return None if entry is None else entry.state()

    async def newest(self, tenant: str, limit: int) -> Sequence[ErasureState]:
        """The tenant's `limit` newest erasures, the newest first. Raises Unavailable."""
        await self._read_to_end()
        entries = [entry for entry in self._states.values() if entry.tenant == tenant]
        found = nlargest(limit, entries, key=lambda entry: (entry.accepted_at, entry.id))
        return [entry.state() for entry in found]

    async def player_keys(self, new: Mapping[str, str]) -> Mapping[str, str]:
        """The fingerprints of the keys for player names, after adding those of unknown key ids. Raises Unavailable."""
        added = [
            NewRecord(*player_key_record(kid, own), {})
            for kid, own in new.items()
            if kid not in self._player_keys
        ]
        if added:
            await self._append(added)
        return dict(self._player_keys)

    async def _read_to_end(self) -> None:
        """Wait until everything that is in the topic now was read. Raises Unavailable."""
        async with self._limited("read to its end"):
            await self._wait_until_read((await self._offsets.end())[PARTITION])

    async def _write(self, entries: Mapping[bytes, AnyEntry]) -> None:
        """Write the entries that are new, until they were read back and each key ends with its newest erasure."""
        async with self._limited(_WRITTEN):
            while unwritten := self._unwritten(entries):
                await self._append_and_read(
                    [NewRecord(key, entry.encoded(), {}) for key, entry in unwritten.items()]
                )

    async def _append(self, records: Sequence[NewRecord]) -> None:
        """Write records of which the last one of a key counts, until they were read back. Raises Unavailable."""
        async with self._limited(_WRITTEN):
            await self._append_and_read(records)

    async def _append_and_read(self, records: Sequence[NewRecord]) -> None:
        offsets = await self._appender.append(records)
        await self._wait_until_read(offsets[PARTITION] + 1)

    @asynccontextmanager
    async def _limited(self, done: str) -> AsyncGenerator[None]:
        """Raise Unavailable after `LEDGER_TIMEOUT_S`. `done`: what the block does with the topic, for the message."""
        try:
            async with asyncio.timeout(LEDGER_TIMEOUT_S):
                yield
        except TimeoutError:
            raise Unavailable(f"the topic {self._topic} was not {done} within {LEDGER_TIMEOUT_S} s") from None

    def _unwritten(self, entries: Mapping[bytes, AnyEntry]) -> dict[bytes, AnyEntry]:
        """The entries that the topic does not have yet as the last record of their key."""
        unwritten: dict[bytes, AnyEntry] = {}
        for key, entry in entries.items():
            known = self._entries.get(key)
            after = merged(known, entry)
            if after != known or key in self._outdated:
                unwritten[key] = after
        return unwritten

    async def _wait_until_read(self, position: int) -> None:
        """Wait, without limit, until everything below that offset has been read."""
        while self._next_offset < position:
            self._advanced.clear()
            await self._advanced.wait()

    async def _catch_up(self) -> None:
        end = (await self._offsets.end())[PARTITION]
        while (position := self._next_offset) < end:
            try:
                async with asyncio.timeout(PROGRESS_TIMEOUT_S):
                    await self._wait_until_read(min(position + 1, end))
            except TimeoutError:
                raise Unavailable(
                    f"no records of the topic {self._topic} arrived for {PROGRESS_TIMEOUT_S} s"
                ) from None
        await self._write({key: self._entries[key] for key in self._outdated})

    async def _follow(self) -> None:
        """Read until cancelled, with a new consumer whenever one fails. `covers` answers from memory meanwhile."""
        while True:
            try:
                with self._connection.translate_errors("read erasures"):
                    await self._read()
            except LorestreamError as error:
                _log.warning(
                    "reading the erasures topic failed, it is tried again: new erasures are not applied in this process",
                    error=str(error),
                )
            except Exception:  # noqa: BLE001 (a ledger that stops reading would let erased memories be served)
                _log.exception(
                    "reading the erasures topic failed, it is tried again: new erasures are not applied in this process"
                )
            await asyncio.sleep(RETRY_DELAY_S)

    async def _read(self) -> None:
        """Read with one consumer until it fails. Raises Unavailable when it is stuck behind the end of the topic."""
        partition = TopicPartition(self._topic, PARTITION)
        consumer = AIOKafkaConsumer(**self._connection.arguments(), auto_offset_reset="earliest")
        consumer.assign([partition])
        try:
            await consumer.start()
            consumer.seek(partition, self._next_offset)
            known_end = self._next_offset
            loop = asyncio.get_running_loop()
            check_at = loop.time() + STUCK_CHECK_INTERVAL_S
            while True:
                for records in (await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS)).values():
                    self._apply(records)
                self._next_offset = await consumer.position(partition)
                self._advanced.set()
                if loop.time() >= check_at:
                    if self._next_offset < known_end:
                        raise Unavailable(
                            f"stuck at offset {self._next_offset}: the topic ends at {known_end}"
                        )
                    with contextlib.suppress(Unavailable):
                        known_end = (await self._offsets.end())[PARTITION]
                    check_at = loop.time() + STUCK_CHECK_INTERVAL_S
        finally:
            await close_within_timeout(consumer.stop())

    def _apply(self, records: Iterable[ConsumerRecord[bytes | None, bytes | None]]) -> None:
        for record in records:
            if record.key is not None and (known_key := player_key_of(record.key, record.value)) is not None:
                # The last one counts, as for a reader after compaction.
                self._player_keys[known_key[0]] = known_key[1]
                continue
            if record.key is not None and (webhook := entry_of(record.key, record.value)) is not None:
                self.webhooks.apply(webhook)
                continue
            if record.key is None or (entry := decoded(record.key, record.value)) is None:
                _log.warning(
                    "ignored a record in the erasures topic that is not an erasure",
                    topic=self._topic,
                    offset=record.offset,
                )
                continue
            known = self._entries[record.key] = merged(self._entries.get(record.key), entry)
            (self._outdated.discard if known == entry else self._outdated.add)(record.key)
            if isinstance(entry, RewindEntry):
                self.rewinds.apply(entry)
                continue
            self._erased.add(entry.erasure())
            if isinstance(known, Entry) and record.key == key_of(entry.tenant, "state", entry.id):
                self._states[entry.id] = known
