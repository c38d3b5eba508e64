"""What feeds one collection: an indexer, and the sweeper where it is this process's turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from lorestream.memories import Memory
from lorestream.wiring import OpenCollection, WorkerParts
from stream_workers.indexing.checkpoint import COMMIT_INTERVAL_S
from stream_workers.indexing.indexer import Indexer
from stream_workers.indexing.pipeline import Pipeline
from stream_workers.indexing.throttle import Pace
from stream_workers.sweeper import Sweeper

SHARED_COMMIT_INTERVAL_S = 0.25
"""On a server every write is durable at once, and a commit is all that others hear of this worker's progress."""

_SWEEPERS_PARTITION = 0
"""Of several workers, the one that reads this partition sweeps."""


class Feed:
    """Feeds one collection, with whatever the log has for it."""

    def __init__(
        self,
        parts: WorkerParts,
        collection: OpenCollection,
        *,
        on_indexed: Callable[[Sequence[Memory]], None] | None = None,
    ) -> None:
        self.collection = collection
        self._collections = parts.collections
        shared = parts.settings.distributed
        pipeline = Pipeline(
            collection.store,
            collection.embedder,
            parts.ledger,
            parts.clock,
            parts.metrics,
            searched=self.counts,
            pace=Pace(hurried=self.counts),
            donor=lambda: (
                None if (donor := parts.collections.same_model(collection)) is None else donor.store
            ),
        )
        self.indexer = Indexer(
            parts.log,
            pipeline,
            collection.publisher,
            cache=parts.cache,
            group=collection.group,
            commit_interval_s=SHARED_COMMIT_INTERVAL_S if shared else COMMIT_INTERVAL_S,
            on_indexed=on_indexed,
        )
        self._sweeper = Sweeper(
            collection.store,
            parts.clock,
            tombstone_life_s=2 * parts.log.retention_s,
            interval_s=parts.settings.sweep_interval_s,
            keep_per_agent=parts.settings.keep_per_agent,
            cache=parts.cache,
            trim_log=parts.trim,
            wanted=lambda: _SWEEPERS_PARTITION in self.indexer.partitions,
        )

    def searched(self) -> bool:
        """Whether queries are answered from it."""
        return self._collections.current is self.collection

    def counts(self) -> bool:
        """Whether a write has to be in it to be finished."""
        return self.searched() or self._collections.is_switching(self.collection)

    async def run(self, *, burst: bool = False) -> None:
        """Work until `stop`, or, with `burst`, until the log is drained. Raises Broken."""
        sweeping = asyncio.create_task(self._sweeper.run())
        try:
            await self.indexer.run(burst=burst)
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    def stop(self) -> None:
        """Finish the batch in hand and end `run`."""
        self.indexer.stop()
