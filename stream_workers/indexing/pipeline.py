"""What becomes of a batch of records. No loop, no retry, no offsets: the runner has those.

Steps of their own, so that a batch can be embedded while the one before it is written: `prepare` decodes,
narrates and embeds and changes nothing; `apply` changes the store; `conclude` says that all is done. Applying a batch again, or batches
out of order, ends in the same store: puts are insert-only, tombstones keep their id, erasures stand in the
ledger and take by acceptance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lorestream import audit, events
from lorestream.errors import InvalidEvent
from lorestream.memories import AgentKey, Erasure, Memory, SubjectKind
from lorestream.narrate import narrate
from lorestream.ports import (
    Clock,
    DeadLetter,
    Embedder,
    ErasureLedger,
    Record,
    Tombstone,
    VectorStore,
)
from lorestream.telemetry import Metrics
from stream_workers.indexing import vectors as embedding
from stream_workers.indexing.throttle import Pace


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that is ready to be applied. Row i of `vectors` belongs to `memories[i]`."""

    records: Sequence[Record]
    memories: Sequence[Memory]
    origins: Sequence[Record]
    """The record that each memory came from."""
    vectors: NDArray[np.float32]
    tombstones: Sequence[Tombstone]
    erasures: Sequence[Erasure]
    dead_letters: Sequence[DeadLetter]


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch changed: the memories that can be found now, and the records that never will be."""

    memories: Sequence[Memory]
    acceptances: Sequence[float]
    """When those of them were accepted that came straight from a gateway: the others tell nothing of a delay."""
    dead_letters: Sequence[DeadLetter]
    erasures: Sequence[Erasure]
    touched: frozenset[AgentKey] | None
    """Whose memories changed: answers about them are out of date. None: about anybody.

    It follows from the records alone, never from what the store held: a batch that is applied again, after a
    crash between the store and the cache, has to tell the same.
    """


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The pure way from records to a changed store, over the ports."""

    store: VectorStore
    embedder: Embedder
    ledger: ErasureLedger
    clock: Clock
    metrics: Metrics
    searched: Callable[[], bool] = lambda: True
    """Whether what it writes can be found: what is only made ready for later counts for nobody yet."""
    pace: Pace = field(default_factory=Pace)
    """How fast it embeds and inserts."""
    donor: Callable[[], VectorStore | None] = lambda: None
    """Another store that the same model has filled: a vector that lies there is not made again."""

    async def prepare(self, records: Sequence[Record]) -> Batch:
        """Decode, narrate and embed. Raises Unavailable when the embedder cannot do its work."""
        memories: dict[tuple[str, str, str], tuple[Memory, Record]] = {}
        tombstones: list[Tombstone] = []
        erasures: list[Erasure] = []
        dead_letters: list[DeadLetter] = []
        for record in records:
            try:
                envelope = events.decode(record)
            except events.Unreadable as error:
                dead_letters.append(DeadLetter(record, error.reason, error.message))
                continue
            match envelope:
                case events.Put():
                    memory = envelope.memory(_text(envelope))
                    if not self._is_gone(memory):
                        # The first content of an id stays, within a batch as between batches.
                        memories.setdefault((memory.tenant, memory.agent_id, memory.id), (memory, record))
                case events.Delete():
                    tombstones.append(envelope.tombstone())
                case events.Erase():
                    erasures.append(envelope.erasure())
        found = [memory for memory, _ in memories.values()]
        with _Stage(self.metrics, "embed"):
            embedded, vectors = await embedding.embedded(found, self.embedder, self.donor(), self.pace)
        return Batch(
            records=records,
            memories=embedded,
            origins=[record for _, record in memories.values()],
            vectors=vectors,
            tombstones=tombstones,
            erasures=erasures,
            dead_letters=dead_letters,
        )

    async def apply(self, batch: Batch) -> Applied:
        """Change the store. Raises Unavailable; then apply it again."""
        with _Stage(self.metrics, "upsert"):
            for erasure in batch.erasures:
                await self.ledger.add(erasure)
                await self.store.erase(erasure)
            kept = [row for row, memory in enumerate(batch.memories) if not self._is_gone(memory)]
            refused: dict[int, str] = {}

            async def insert(rows: Sequence[int]) -> None:
                refused.update(await self._insert(batch, rows))

            await self.pace.in_pieces(kept, insert)
            await self.store.put_tombstones(batch.tombstones)
        inserted = [batch.memories[row] for row in kept if row not in refused]
        dead_letters = [
            DeadLetter(batch.origins[row], "refused_by_store", error) for row, error in refused.items()
        ]
        acceptances = [
            batch.memories[row].accepted_at
            for row in kept
            if row not in refused and events.is_direct(batch.origins[row])
        ]
        return Applied(
            inserted, acceptances, [*batch.dead_letters, *dead_letters], batch.erasures, _touched(batch)
        )

    async def conclude(self, applied: Applied) -> None:
        """Note what is done for good, once no answer from before is in use any more. Raises Unavailable."""
        if not self.searched():
            return
        for erasure in applied.erasures:
            await self.ledger.mark_done(erasure.id)
            audit.erasure_done(erasure_id=erasure.id, kind=erasure.kind.value, tenant=erasure.tenant)
        now = self.clock.now()
        for accepted_at in applied.acceptances:
            self.metrics.event_visible.observe(max(0.0, now - accepted_at))

    async def _insert(self, batch: Batch, rows: Sequence[int]) -> dict[int, str]:
        """Insert those rows; halve what the store refuses until the culprits stand alone, and return them."""
        if not rows:
            return {}
        try:
            await self.store.insert([batch.memories[row] for row in rows], batch.vectors[list(rows)])
        except InvalidEvent as error:
            if len(rows) == 1:
                return {rows[0]: error.message}
            middle = len(rows) // 2
            return {
                **await self._insert(batch, rows[:middle]),
                **await self._insert(batch, rows[middle:]),
            }
        return {}

    def _is_gone(self, memory: Memory) -> bool:
        """Expired before it was ever stored, or taken by an erasure that came first."""
        expired = memory.expires_at is not None and memory.expires_at <= self.clock.now()
        return expired or self.ledger.covers(memory)


def _touched(batch: Batch) -> frozenset[AgentKey] | None:
    if any(erasure.kind is SubjectKind.PLAYER for erasure in batch.erasures):
        return None
    return frozenset(
        [
            *(AgentKey(memory.tenant, memory.agent_id) for memory in batch.memories),
            *(AgentKey(tombstone.tenant, tombstone.agent_id) for tombstone in batch.tombstones),
            *(AgentKey(erasure.tenant, agent) for erasure in batch.erasures for agent in erasure.subjects),
        ]
    )


def _text(put: events.Put) -> str:
    if put.text:
        return put.text
    by_player = put.player is not None or put.agent_player is not None
    data = (put.data or {}) | dict.fromkeys(put.naming or (), "a player")
    return narrate(put.type or "event", data, by_player=by_player)


class _Stage:
    """Times one stage of a batch."""

    def __init__(self, metrics: Metrics, stage: str) -> None:
        self._observe = metrics.stage_duration.labels(stage).observe

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._observe(time.perf_counter() - self._started)
