"""CarryOver: copies memories older than the log, rows and tombstones from the active collection into a new one.

The collection that is copied goes on changing. So rows are copied in two passes: a document that is copied in the first
may have replaced a version, or answered a write, in a row whose place the first pass was past. What is new in the second
pass, the target folds itself, because it has the documents by then.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from lorestream.admin import Progress, Remark, Report
from lorestream.memories import Memory
from lorestream.ports import MemoryWriter, StoreMaintenance, Tombstone
from lorestream.state.rows import Row, RowKind
from lorestream.wiring import OpenCollection, WorkerParts
from stream_workers.indexing import insertion, vectors
from stream_workers.indexing.vectors import Throttle

PAGE_SIZE = 32
_SATELLITES = frozenset({RowKind.VERSION, RowKind.ANSWER, RowKind.POLICY_PART})


@dataclass(slots=True)
class CarryOver:
    """Copies into an inactive collection. Running it twice, or again from the start, does no harm.

    It runs after the log was replayed: the first content of an id stays, so the log's content has precedence.
    """

    parts: WorkerParts
    target: OpenCollection
    memories_before: float | None = None
    """Copy memories accepted before this Unix time; None: before the log begins. Rows are copied whatever their time."""
    copied: int = 0
    """Memories and rows inserted into the target so far."""
    _refused: list[str] = field(default_factory=list[str], repr=False)
    """What the target's store said about memories that it refused, since the last remark."""
    _erasures_applied: int = field(default=0, repr=False)
    _rewinds_applied: int = field(default=0, repr=False)
    """How many of the ledger's `added_since(0)` and `changed_since(0)` were applied to the target."""
    _throttle: Throttle = field(default_factory=lambda: Throttle(is_foreground=lambda: False), repr=False)

    async def copy(self) -> AsyncGenerator[Report]:
        """Copy the active collection page by page. Raises Unavailable, Misconfigured.

        A memory that the target's store refuses is left out, with a remark.
        """
        source, seen = self.parts.collections.current.store, 0
        before = await self._log_start() if self.memories_before is None else self.memories_before
        wrote = has_rows = False
        total = await source.size(now=self.parts.clock.now())
        async for page in self._pages(source):
            has_rows = has_rows or any(isinstance(one, Row) for one in page)
            wrote |= await self._copy_page(source, before, page)
            await self._apply_new_changes()
            seen += len(page)
            for message in self._refused:
                yield Remark(f"one memory is left out: {message}")
            self._refused.clear()
            yield Progress("copying", min(seen, total), total, "memories")
        # Without rows there is nothing whose versions have changed: new rows come from the log.
        if has_rows:
            async for page in self._pages(source):
                wrote |= await self._copy_satellites(page)
                await self._apply_new_changes()
                yield Progress("copying", total, total, "memories")
        if wrote:  # no commit covers the copies: the log would not bring them back after a power cut
            await self.target.store.flush()

    async def _apply_new_changes(self) -> None:
        """Apply the erasures and rewinds that the ledger has learned of, for what was inserted while it did.

        At first all since the process began: a copy that was interrupted may not have come to it.
        """
        ledger, store = self.parts.ledger, self.target.store
        for erasure in ledger.added_since(self._erasures_applied):
            await store.erase(erasure)
            self._erasures_applied += 1
        for rewind in ledger.rewinds.changed_since(self._rewinds_applied):
            await store.set_aside(rewind, ledger.rewinds.covers)
            self._rewinds_applied += 1

    async def _pages(self, source: StoreMaintenance) -> AsyncGenerator[Sequence[Memory | Tombstone | Row]]:
        """All of the source, page by page, with pauses."""
        after: str | None = None
        while True:
            began = time.perf_counter()
            page, after = await source.scan(after, PAGE_SIZE)
            await self._throttle.pause(time.perf_counter() - began)
            yield page
            if after is None:
                return

    async def _log_start(self) -> float:
        """The Unix time from which on no partition lacks records: that of the latest of all first records."""
        return max((at for _, at in (await self.parts.log.offsets_for_time(0)).values()), default=math.inf)

    async def _copy_page(
        self, source: MemoryWriter, before: float, page: Sequence[Memory | Tombstone | Row]
    ) -> bool:
        """Copy memories accepted before `before`, rows and tombstones. Returns whether the page had any."""
        now, ledger = self.parts.clock.now(), self.parts.ledger
        memories = [
            ledger.strip(one).marked(ledger.rewinds.covers)
            for one in page
            if isinstance(one, Memory)
            and one.accepted_at < before
            and (one.expires_at is None or one.expires_at > now)
            and not ledger.covers(one)
        ]
        tombstones = [one for one in page if isinstance(one, Tombstone)]
        has_any = bool(memories or tombstones)
        has_any |= await self._copy_rows([one for one in page if isinstance(one, Row)])
        # What an interrupted replay has copied already is not embedded again.
        if memories:
            present = await self.target.store.lookup(memories)
            memories = [memory for memory, one in zip(memories, present, strict=True) if one is None]
        if memories:
            refused = await self._insert(source, memories)
            self.copied += len(memories) - len(refused)
            self._refused += refused
        await self._throttle.in_chunks(tombstones, self.target.store.put_tombstones)
        return has_any

    async def _copy_satellites(self, page: Sequence[Memory | Tombstone | Row]) -> bool:
        """Copy the rows that belong to other rows. Returns whether the page had any."""
        return await self._copy_rows(
            [one for one in page if isinstance(one, Row) and one.key.kind in _SATELLITES]
        )

    async def _copy_rows(self, rows: Sequence[Row]) -> bool:
        """Copy the rows that the target lacks, apart from erased and expired ones. Returns whether there were any."""
        now = self.parts.clock.now()
        kept = [
            row
            for row in rows
            if (row.expires_at is None or row.expires_at > now) and not self._is_erased(row)
        ]
        present = await self.target.store.rows([row.key for row in kept]) if kept else ()
        missing = [row for row, one in zip(kept, present, strict=True) if one is None]

        async def insert(chunk: Sequence[Row]) -> None:
            # The indexer may have applied an erasure since the page was read.
            await self.target.store.insert_rows([row for row in chunk if not self._is_erased(row)])

        await self._throttle.in_chunks(missing, insert)
        self.copied += len(missing)
        return bool(kept)

    def _is_erased(self, row: Row) -> bool:
        return self.parts.ledger.covers_state(row.key.agent, row.agent_player, row.since)

    async def _insert(self, source: MemoryWriter, memories: Sequence[Memory]) -> list[str]:
        """Returns a message for each memory that the target's store refused."""
        embedder = self.target.embedder
        same_model = embedder.model_id == self.parts.collections.current.embedder.model_id
        marked, rows = await vectors.embed(memories, embedder, source if same_model else None, self._throttle)
        refused: list[str] = []

        async def insert(chunk: Sequence[int]) -> None:
            # The indexer may have applied an erasure or a rewind since the page was read, and the target's may have given an
            # id again that the memories of the page still name.
            ledger = self.parts.ledger
            for row in chunk:
                marked[row] = ledger.strip(marked[row]).marked(ledger.rewinds.covers)
            chunk = [row for row in chunk if not ledger.covers(marked[row])]
            replaces = ledger.rewinds.replaces
            some = await insertion.insert(self.target.store, marked, rows, chunk, replaces=replaces)
            refused.extend(some.values())

        await self._throttle.in_chunks(range(len(marked)), insert)
        return refused
