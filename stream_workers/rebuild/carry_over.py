"""What a new collection takes over from the present one: what is older than the log, and every tombstone."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from lorestream.admin import Progress, Report
from lorestream.memories import Memory
from lorestream.ports import Tombstone, VectorStore
from lorestream.wiring import OpenCollection, WorkerParts
from stream_workers.indexing.throttle import Pace
from stream_workers.indexing.vectors import embedded

PAGE = 32


@dataclass(slots=True)
class CarryOver:
    """Copies into a collection that nobody searches yet. Doing it twice, or again from the start, does no harm.

    It comes behind the log: the first content of an id stays, so that what the log knows is told by the log.
    """

    parts: WorkerParts
    heir: OpenCollection
    everything: bool = False
    """Also what the log could tell again: it is only moved."""
    copied: int = 0
    """Memories that were put into the new collection."""
    _pace: Pace = field(default_factory=lambda: Pace(hurried=lambda: False), repr=False)

    async def copy(self) -> AsyncGenerator[Report]:
        """Page by page through the collection that is searched. Raises Unavailable, Misconfigured."""
        source, seen = self.parts.collections.current.store, 0
        older = math.inf if self.everything else await self._beginning()
        asked_for = len(self.parts.ledger.added_since(0))
        after: str | None = None
        taken = False
        total = await source.size(now=self.parts.clock.now())
        while True:
            began = time.perf_counter()
            page, after = await source.scan(after, PAGE)
            await self._pace.rest(time.perf_counter() - began)
            taken |= await self._take_over(source, page, older)
            seen += len(page)
            yield Progress("copying", min(seen, total), total, "memories")
            if after is None:
                break
        # What was erased meanwhile may have been copied a moment later.
        for erasure in self.parts.ledger.added_since(asked_for):
            await self.heir.store.erase(erasure)
        if taken:  # no record of the log would bring it back
            await self.heir.store.flush()

    async def _beginning(self) -> float:
        """When the log begins, in Unix seconds: of several partitions, the last one to begin."""
        return max((at for _, at in (await self.parts.log.offsets_for_time(0)).values()), default=math.inf)

    async def _take_over(self, source: VectorStore, page: Sequence[Memory | Tombstone], older: float) -> bool:
        """Whether anything of the page is to be in the new collection and not in the log."""
        now, ledger = self.parts.clock.now(), self.parts.ledger
        memories = [
            one
            for one in page
            if isinstance(one, Memory)
            and one.accepted_at < older
            and (one.expires_at is None or one.expires_at > now)
            and not ledger.covers(one)
        ]
        tombstones = [one for one in page if isinstance(one, Tombstone)]
        taken = bool(memories or tombstones)
        # What was copied before a replay was broken off needs no model once more.
        if memories:
            there = await self.heir.store.lookup(memories)
            memories = [memory for memory, one in zip(memories, there, strict=True) if one is None]
        if memories:
            await self._insert(source, memories)
        self.copied += len(memories)
        await self._pace.in_pieces(tombstones, self.heir.store.put_tombstones)
        return taken

    async def _insert(self, source: VectorStore, memories: Sequence[Memory]) -> None:
        embedder = self.heir.embedder
        same = embedder.model_id == self.parts.collections.current.embedder.model_id
        marked, vectors = await embedded(memories, embedder, source if same else None, self._pace)

        async def insert(rows: Sequence[int]) -> None:
            await self.heir.store.insert([marked[row] for row in rows], vectors[list(rows)])

        await self._pace.in_pieces(range(len(marked)), insert)
