"""The processing of one batch of records. The loop, retries and offsets are in the indexer.

Three steps, so that one batch can be embedded while the one before it is written:

    prepare   decode, narrate, embed; changes nothing
    apply     change the store: erase, insert, put tombstones, fold state events into rows
    finish    mark erasures as done, observe the delay; the indexer calls it after the cache was invalidated

Applying a batch twice, or batches in another order, leads to the same store: inserts replace only what a rewind hid when
they were accepted, tombstones keep their id, erasures and rewinds are kept in the ledger and cover memories by their time
of acceptance, and a row holds the offset of its newest event. Only the state events of one row need the order of the log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from lorestream import audit, events
from lorestream.memories import AgentKey, Erasure, Memory, SubjectKind
from lorestream.narrate import narrate
from lorestream.ports import (
    Clock,
    DeadLetter,
    Embedder,
    ErasureLedger,
    MemoryWriter,
    Record,
    StoredVectors,
    Tombstone,
)
from lorestream.rewinds import Rewind
from lorestream.telemetry import Metrics
from lorestream.turns import Turns
from stream_workers.folding import fold
from stream_workers.folding.folder import Folded, Folder, StateRecord
from stream_workers.indexing import insertion, vectors
from stream_workers.indexing.vectors import Throttle

_log = structlog.get_logger("lorestream.indexer")


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that is ready to be applied."""

    records: Sequence[Record]
    memories: Sequence[Memory]
    memory_records: Sequence[Record]
    """The record that each memory was made from."""
    vectors: NDArray[np.float32]
    """Shape (len(memories), dim)."""
    tombstones: Sequence[Tombstone]
    erasures: Sequence[Erasure]
    rewinds: Sequence[Rewind]
    """Rewinds, and their undoings, in the order of the log."""
    state: Sequence[StateRecord]
    """Events that are folded into rows."""
    dead_letters: Sequence[DeadLetter]
    """Records that cannot be decoded."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch changed."""

    memories: Sequence[Memory]
    """The memories that were inserted."""
    folded: int
    """How many state events were folded into rows."""
    accepted_at: Sequence[float]
    """The acceptance times (Unix seconds) of the inserted memories and the folded events, except those of retried and
    imported events: these would distort the measured delay."""
    dead_letters: Sequence[DeadLetter]
    erasures: Sequence[Erasure]
    rewinds: Sequence[Rewind]
    changed_agents: frozenset[AgentKey] | None
    """Cached answers about these agents are out of date; None: those about all agents.

    Computed from the records alone, not from what the store held: a batch that is applied again after a crash between
    store and cache must name the same agents.
    """


@dataclass(slots=True)
class Examined:
    """How many memories were examined for rewinds: progress, for whoever watches for a standstill."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Processes batches of records: changes the store and the ledger through their ports."""

    store: MemoryWriter
    embedder: Embedder
    ledger: ErasureLedger
    clock: Clock
    metrics: Metrics
    folder: Folder
    """Folds state events into rows of the same store."""
    must_finish: Callable[[], bool] = lambda: True
    """Whether clients wait for this store. While false, `finish` does nothing: the store is only filled."""
    throttle: Throttle = field(default_factory=Throttle)
    """Limits embedding and inserting in the background."""
    is_clock_right: Callable[[], bool] = lambda: True
    """Whether memories may be left out as expired: a clock that has jumped ahead makes every memory look expired."""
    vector_source: Callable[[], MemoryWriter | None] = lambda: None
    """Another store that the same model has filled: vectors found there are not computed again."""
    stored: StoredVectors | None = None
    """Finds vectors by their text in the store itself."""

    examined: Examined = field(default_factory=Examined)

    async def prepare(self, records: Sequence[Record]) -> Batch:
        """Decode, narrate and embed. Records that cannot be decoded become dead letters; unknown operations are skipped.

        Raises Unavailable when the embedder or `vector_source` is unavailable.
        """
        memories: list[tuple[Memory, Record]] = []
        tombstones: list[Tombstone] = []
        erasures: list[Erasure] = []
        rewinds: list[Rewind] = []
        state: list[StateRecord] = []
        dead_letters: list[DeadLetter] = []
        turns = Turns()
        for record in records:
            await turns.next()
            try:
                envelope = events.decode(record)
            except events.UnknownOp as error:
                self._skip(record, error)
                continue
            except events.Unreadable as error:
                dead_letters.append(DeadLetter(record, error.reason, error.message))
                continue
            match envelope:
                case events.Put():
                    memory = envelope.memory(_text(envelope))
                    if not self._is_obsolete(memory):
                        memories.append((self._marked(memory), record))
                case events.Delete():
                    tombstones.append(envelope.tombstone())
                case events.Erase():
                    erasures.append(envelope.erasure())
                case events.RewindWrite():
                    rewinds.append(envelope.rewind())
                case _:
                    state.append(StateRecord(envelope, record))
        found = [memory for memory, _ in memories]
        embeds = any(memory.recall for memory in found)
        with self.metrics.worker_stages("embed") if embeds else contextlib.nullcontext():
            embedded, rows = await vectors.embed(
                found, self.embedder, self.vector_source(), self.throttle, self.stored
            )
        return Batch(
            records=records,
            memories=embedded,
            memory_records=[record for _, record in memories],
            vectors=rows,
            tombstones=tombstones,
            erasures=erasures,
            rewinds=rewinds,
            state=state,
            dead_letters=dead_letters,
        )

    async def apply(self, batch: Batch) -> Applied:
        """Change the store. After Unavailable, call it again with the same batch.

        Memories that the store refuses become dead letters (reason `refused_by_store`), and so do state events that
        cannot be folded (`unfoldable`).
        """
        with self.metrics.worker_stages("upsert"):
            for erasure in batch.erasures:
                await self.ledger.add(erasure)
                await self.store.erase(erasure)
            for rewind in batch.rewinds:
                await self.ledger.rewinds.put(rewind)
            for rewind in {one.id: one for one in batch.rewinds}.values():
                await self.rewind(rewind)
            # The ledger may have learned of more since the batch was prepared.
            memories = [self._marked(memory) for memory in batch.memories]
            kept = self._kept(memories)
            refused: dict[int, str] = {}

            async def insert(rows: Sequence[int]) -> None:
                refused.update(await self._insert(memories, batch.vectors, rows))

            await self.throttle.in_chunks(kept, insert)
            await self.store.put_tombstones(batch.tombstones)
        folded = await self._fold(batch)
        inserted = [memories[row] for row in kept if row not in refused]
        dead_letters = [
            DeadLetter(batch.memory_records[row], "refused_by_store", error) for row, error in refused.items()
        ]
        accepted_at = [
            batch.memories[row].accepted_at
            for row in kept
            if row not in refused and events.is_direct(batch.memory_records[row])
        ]
        accepted_at += [one.event.accepted_at for one in folded.records if events.is_direct(one.record)]
        return Applied(
            inserted,
            len(folded.records),
            accepted_at,
            [*batch.dead_letters, *dead_letters, *folded.dead_letters],
            batch.erasures,
            batch.rewinds,
            _changed_agents(batch),
        )

    async def rewind(self, rewind: Rewind) -> Collection[AgentKey]:
        """Hide and show what the rewind is about, as the ledger says by now. Returns the agents for which something changed.

        Takes some seconds for 100,000 memories. Raises Unavailable; then call it again.
        """

        def covered(memory: Memory) -> bool:
            self.examined.count += 1
            return self.ledger.rewinds.covers(memory)

        return await self.store.set_aside(rewind, covered)

    async def finish(self, applied: Applied) -> None:
        """Mark erasures and rewinds as done, and observe how long new memories took to be findable. Raises Unavailable.

        To be called when no cached answer from before the batch can be in use any more.
        """
        if not self.must_finish():
            return
        for erasure in applied.erasures:
            await self.ledger.mark_done(erasure.id)
            audit.erasure_done(erasure_id=erasure.id, kind=erasure.kind.value, tenant=erasure.tenant)
        for rewind in applied.rewinds:
            await self.ledger.rewinds.mark_done(rewind)
            audit.rewind_done(rewind_id=rewind.id, tenant=rewind.tenant, undone=rewind.undone_at is not None)
        now = self.clock.now()
        for accepted_at in applied.accepted_at:
            self.metrics.event_visible.observe(max(0.0, now - accepted_at))

    async def _fold(self, batch: Batch) -> Folded:
        """Fold the state events into rows, once all erasures of the batch are known."""
        folded = Folded()
        if not batch.state:
            return folded

        async def fold_chunk(chunk: Sequence[StateRecord]) -> None:
            some = await self.folder.fold(chunk)
            folded.records += some.records
            folded.dead_letters += some.dead_letters

        with self.metrics.worker_stages("fold"):
            await self.throttle.in_chunks(batch.state, fold_chunk)
        return folded

    async def _insert(
        self, memories: Sequence[Memory], matrix: NDArray[np.float32], rows: Sequence[int]
    ) -> dict[int, str]:
        """Insert these of the memories. Returns the rows that the store refused, with its message."""
        rewinds = self.ledger.rewinds
        servers = {(memories[row].tenant, memories[row].server) for row in rows}
        any_rewound = any(rewinds.knows(tenant, server) for tenant, server in servers)
        replaces = rewinds.replaces if any_rewound else None
        return await insertion.insert(self.store, memories, matrix, rows, replaces=replaces)

    def _skip(self, record: Record, error: events.UnknownOp) -> None:
        """Count a record that is skipped; log the first."""
        labels = {"reason": error.reason}
        if not self.metrics.registry.get_sample_value("lorestream_skipped_records_total", labels):
            _log.warning(
                "records of a newer version are skipped: update this worker, then replay the log to process them",
                error=error.message,
                partition=record.partition,
                offset=record.offset,
            )
        self.metrics.skipped_records.labels(**labels).inc()

    def _marked(self, memory: Memory) -> Memory:
        """The memory, marked as rewound if the ledger says so by now, without what erasures cover in it."""
        return self.ledger.strip(memory).marked(self.ledger.rewinds.covers)

    def _kept(self, memories: Sequence[Memory]) -> Sequence[int]:
        """The rows of the memories to insert: of each id one.

        Within a batch as in the store the first content of an id stays, unless a rewind hid it when another was accepted.
        """
        rows: dict[tuple[str, str, str], int] = {}
        for row, memory in enumerate(memories):
            if not self._is_obsolete(memory):
                key = (memory.tenant, memory.agent_id, memory.id)
                first = rows.setdefault(key, row)
                if self.ledger.rewinds.replaces(memories[first], memory):
                    rows[key] = row
        return list(rows.values())

    def _is_obsolete(self, memory: Memory) -> bool:
        """Whether the memory has expired since it was accepted, or is covered by an erasure.

        One that supersedes another is stored although it has expired: what it corrects stays superseded.
        While the clock cannot be believed, expired memories are stored. Readers leave them out, and a sweep removes
        them later; a memory that is left out here is lost.
        """
        expired = memory.expires_at is not None and memory.expires_at <= self.clock.now()
        gone = expired and memory.supersedes is None and self.is_clock_right()
        return gone or self.ledger.covers(memory)


def _changed_agents(batch: Batch) -> frozenset[AgentKey] | None:
    if batch.rewinds or any(erasure.kind is SubjectKind.PLAYER for erasure in batch.erasures):
        return None
    return frozenset(
        [
            *(AgentKey(memory.tenant, memory.agent_id) for memory in batch.memories),
            *(AgentKey(tombstone.tenant, tombstone.agent_id) for tombstone in batch.tombstones),
            *(fold.agent(one.event) for one in batch.state),
            *(AgentKey(erasure.tenant, agent) for erasure in batch.erasures for agent in erasure.subjects),
        ]
    )


def _text(put: events.Put) -> str:
    """The text of the event, or its narration, in which players are called "a player". Records are not narrated."""
    if put.text or not put.recall:
        return put.text or ""
    by_player = put.player is not None or put.agent_player is not None
    data = (put.data or {}) | dict.fromkeys(put.naming or (), "a player")
    return narrate(put.type or "event", data, by_player=by_player)
