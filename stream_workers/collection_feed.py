"""CollectionIndexer: keeps one collection up to date, by an indexer, and by a sweeper in one of the workers."""

from __future__ import annotations

from functools import partial

from lorestream import supervision
from lorestream.wiring import OpenCollection, WorkerParts
from stream_workers.folding.folder import Folder
from stream_workers.indexing.checkpoint import COMMIT_INTERVAL_S
from stream_workers.indexing.indexer import Indexer
from stream_workers.indexing.pipeline import Pipeline
from stream_workers.indexing.stored_vectors import StoredVectors
from stream_workers.indexing.vectors import Throttle
from stream_workers.store_gauges import StoreGauges
from stream_workers.sweeper import Sweeper
from stream_workers.time_check import TimeCheck

SERVER_COMMIT_INTERVAL_S = 0.25
"""How often the offsets of a collection on a Qdrant server are committed.

Often, because the server makes each write durable by itself, so that a commit needs no expensive flush; and because
without Redis other processes see the watermarks only by the commits.
"""

_SWEEPER_PARTITION = 0
"""Of several workers, the one to which this partition is assigned runs the sweeper."""


class CollectionIndexer:
    """Indexes the log into one collection, with a consumer group of its own."""

    def __init__(self, parts: WorkerParts, collection: OpenCollection, *, time_check: TimeCheck) -> None:
        """`time_check` is that of the process."""
        self.collection = collection
        self._collections = parts.collections
        distributed = parts.settings.distributed
        must_finish = partial(parts.collections.must_finish, collection)
        throttle = Throttle(is_foreground=must_finish)
        pipeline = Pipeline(
            collection.store,
            collection.embedder,
            parts.ledger,
            parts.clock,
            parts.metrics,
            Folder(
                collection.store,
                parts.ledger,
                parts.clock,
                parts.log_identity,
                parts.settings.state.keep_versions,
                row_source=lambda: None if self.is_active() else parts.collections.current.store,
            ),
            must_finish=must_finish,
            throttle=throttle,
            is_clock_right=lambda: time_check.problem() is None,
            vector_source=lambda: (
                None if (other := parts.collections.same_model(collection)) is None else other.store
            ),
            stored=StoredVectors(collection.store, throttle),
        )
        self.indexer = Indexer(
            parts.log,
            pipeline,
            collection.publisher,
            cache=parts.cache,
            group=collection.group,
            commit_interval_s=SERVER_COMMIT_INTERVAL_S if distributed else COMMIT_INTERVAL_S,
        )
        self._sweeper = Sweeper(
            collection.store,
            parts.clock,
            tombstone_life_s=2 * parts.log.retention_s,
            interval_s=parts.settings.sweep_interval_s,
            keep_per_agent=parts.settings.keep_per_agent,
            cache=parts.cache,
            trim_log=parts.trim,
            is_responsible=lambda: _SWEEPER_PARTITION in self.indexer.partitions,
            time_problem=time_check.problem,
        )
        self._gauges = StoreGauges(collection.store, parts.clock, parts.metrics, self.is_active)

    def is_active(self) -> bool:
        """Whether queries are answered from this collection."""
        return self._collections.current is self.collection

    async def run(self, *, burst: bool = False) -> None:
        """Work until `stop`, or with `burst` until the log is drained. Raises IndexingFailed."""
        async with (
            supervision.restarting(self._sweeper.run, "sweeper"),
            supervision.restarting(self._gauges.run, "size of the store"),
        ):
            await self.indexer.run(burst=burst)

    def stop(self) -> None:
        """Finish the current batch and end `run`."""
        self.indexer.stop()
