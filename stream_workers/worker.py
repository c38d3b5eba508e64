"""One stream worker: an indexer, and the sweeper where it is this worker's turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar

from engram.memories import Memory
from engram.wiring import WorkerParts
from stream_workers.pipeline import Pipeline
from stream_workers.runner import COMMIT_INTERVAL_S, Indexer
from stream_workers.sweeper import Sweeper

SHARED_COMMIT_INTERVAL_S = 0.25
"""On a server every write is durable at once, and a commit is all that others hear of this worker's progress."""

_SWEEPERS_PARTITION = 0
"""Of several workers, the one that reads this partition sweeps."""


class Worker:
    """Indexes and sweeps, on parts that others open and close."""

    STOP_S: ClassVar[float] = 3.0
    """How long a stop may take: what is still in hand then is read again."""

    def __init__(
        self, parts: WorkerParts, *, on_indexed: Callable[[Sequence[Memory]], None] | None = None
    ) -> None:
        self.parts = parts
        shared = parts.settings.distributed
        self.indexer = Indexer(
            parts.log,
            Pipeline(parts.store, parts.embedder, parts.ledger, parts.clock, parts.metrics),
            parts.watermarks,
            cache=parts.cache,
            group=parts.group,
            commit_interval_s=SHARED_COMMIT_INTERVAL_S if shared else COMMIT_INTERVAL_S,
            on_indexed=on_indexed,
        )
        self._sweeper = Sweeper(
            parts.store,
            parts.clock,
            tombstone_life_s=2 * parts.log.retention_s,
            interval_s=parts.settings.sweep_interval_s,
            keep_per_agent=parts.settings.keep_per_agent,
            cache=parts.cache,
            trim_log=parts.trim,
            wanted=lambda: _SWEEPERS_PARTITION in self.indexer.partitions,
        )

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
