"""One stream worker: it keeps every listed collection up to date, so that the alias can be switched to any of them."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import structlog

from lorestream import supervision
from lorestream.errors import LorestreamError
from lorestream.telemetry import BACKGROUND_FAILURES
from lorestream.wiring import OpenCollection, Runtime, WorkerParts
from stream_workers.collection_feed import CollectionIndexer
from stream_workers.indexing.indexer import Indexer
from stream_workers.time_check import TimeCheck

_log = structlog.get_logger("lorestream.worker")

POLL_INTERVAL_S = 0.5
"""How often the list of collections is compared with what is running."""
RETRY_DELAY_S = 30.0
"""Pause before an indexer of an inactive collection that failed is started again."""


class Worker:
    """Runs one CollectionIndexer per listed collection. Its parts are opened and closed by the caller."""

    STOP_TIMEOUT_S: ClassVar[float] = 3.0
    """How long the end of an indexer is waited for. Records that it has not finished by then are read again later."""

    def __init__(self, parts: WorkerParts) -> None:
        self.parts = parts
        self._running: dict[str, tuple[CollectionIndexer, asyncio.Task[None]]] = {}
        self._not_before: dict[str, float] = {}
        self._stopping = False
        newest = parts.last_accepted_at if isinstance(parts, Runtime) else 0.0
        self._time_check = TimeCheck(parts.clock, newest=newest)
        self._first = self._indexer_of(parts.collections.current)

    def time_problem(self) -> str | None:
        """Why nothing is removed for its age at present, in one line; None when it is."""
        return self._time_check.problem()

    @property
    def indexer(self) -> Indexer:
        """The indexer of the active collection; that of the first active one while the new one has not started."""
        running = self._running.get(self.parts.collections.current.name)
        return (self._first if running is None else running[0]).indexer

    async def run(self, *, burst: bool = False) -> None:
        """Work until `stop`, or with `burst` until the log is drained into the active collection.

        Raises IndexingFailed when the indexer of the active collection fails. The others have `STOP_TIMEOUT_S` to
        end then: one that waits out an outage must not keep alive a process that indexes nothing.
        """
        if burst:
            await self._first.run(burst=True)
            return
        self._start(self._first)
        try:
            await self._supervise()
        finally:
            for indexer, _ in self._running.values():
                indexer.stop()
            tasks = [task for _, task in self._running.values()]
            await supervision.stop_tasks(tasks, grace_s=self.STOP_TIMEOUT_S)

    def stop(self) -> None:
        """Finish the current batches and end `run`."""
        self._stopping = True
        self._first.stop()
        for indexer, _ in self._running.values():
            indexer.stop()

    # --- one indexer per collection --------------------------------------------------------------------------

    def _start(self, indexer: CollectionIndexer) -> None:
        name = indexer.collection.name
        # Shared: `_supervise` reads how it ended.
        self._running[name] = indexer, supervision.start_shared(indexer.run(), f"indexer of {name}")

    async def _supervise(self) -> None:
        """Start and stop indexers as the list changes, until that of the active collection ends. Raises its error."""
        while True:
            tasks = [task for _, task in self._running.values()]
            if tasks:
                await asyncio.wait(tasks, timeout=POLL_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED)
            else:  # the only collection that could be opened was dropped
                await asyncio.sleep(POLL_INTERVAL_S)
            for name, (indexer, task) in list(self._running.items()):
                if task.done():
                    if self._stopping or indexer.is_active():
                        task.result()
                        return
                    del self._running[name]
                    self._postpone(name, None if task.cancelled() else task.exception())
            await self._follow_list()

    async def _follow_list(self) -> None:
        """Stop the indexers of collections that are no longer listed, and start those of new ones."""
        collections = self.parts.collections
        listed = {one.name: one for one in collections.listed}
        for name, (indexer, task) in list(self._running.items()):
            one = listed.get(name)
            if (one is None or one.run != indexer.collection.collection.run) and not indexer.is_active():
                indexer.stop()
                # It may be retrying a write to a store that was deleted.
                await supervision.stop_tasks([task], grace_s=self.STOP_TIMEOUT_S)
                del self._running[name]
                await self._close(name)
                _log.info("indexing stopped, the collection is no longer listed", collection=name)
        now = asyncio.get_running_loop().time()
        for name, one in listed.items():
            if name in self._running or self._not_before.get(name, 0.0) > now:
                continue
            try:
                opened = await collections.ensure_open(one)
            except LorestreamError as error:
                self._postpone(name, error)
                continue
            _log.info("indexing started", collection=name, group=opened.group)
            self._start(self._indexer_of(opened))

    async def _close(self, name: str) -> None:
        """Close a collection that is no longer listed: nobody needs its content, so an error ends nothing."""
        try:
            await self.parts.collections.close(name)
        except LorestreamError as error:
            _log.warning("a collection could not be closed properly", collection=name, exc_info=error)

    def _indexer_of(self, collection: OpenCollection) -> CollectionIndexer:
        return CollectionIndexer(self.parts, collection, time_check=self._time_check)

    def _postpone(self, name: str, error: BaseException | None) -> None:
        """Log why an inactive collection cannot be indexed, and try again after `RETRY_DELAY_S`. The others go on."""
        BACKGROUND_FAILURES.labels("indexer").inc()
        _log.error(
            "indexing of a collection failed, it is tried again later",
            collection=name,
            retry_in_s=RETRY_DELAY_S,
            exc_info=error,
        )
        self._not_before[name] = asyncio.get_running_loop().time() + RETRY_DELAY_S
