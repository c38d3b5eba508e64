"""One stream worker: it feeds every collection there is, so that each can be searched at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar

import structlog

from lorestream.errors import LorestreamError
from lorestream.memories import Memory
from lorestream.wiring import WorkerParts
from stream_workers.collection_feed import Feed
from stream_workers.indexing.indexer import Indexer

_log = structlog.get_logger("lorestream.worker")

LOOK_S = 0.5
"""How often it looks which collections there are."""
AGAIN_S = 30.0
"""How long one that cannot be fed is left alone."""


class Worker:
    """Indexes and sweeps, on parts that others open and close."""

    STOP_S: ClassVar[float] = 3.0
    """How long a stop may take: what is still in hand then is read again."""

    def __init__(
        self, parts: WorkerParts, *, on_indexed: Callable[[Sequence[Memory]], None] | None = None
    ) -> None:
        self.parts = parts
        self._on_indexed = on_indexed
        self._feeds: dict[str, tuple[Feed, asyncio.Task[None]]] = {}
        self._not_before: dict[str, float] = {}
        self._stopping = False
        self._first = self._feed_of_searched()

    @property
    def indexer(self) -> Indexer:
        """That of the collection which is searched, once it is fed; until then the first one's."""
        running = self._feeds.get(self.parts.collections.current.name)
        return (self._first if running is None else running[0]).indexer

    async def run(self, *, burst: bool = False) -> None:
        """Work until `stop`, or, with `burst`, until the log is drained. Raises Broken."""
        if burst:
            await self._first.run(burst=True)
            return
        self._start(self._first)
        following = asyncio.create_task(self._follow())
        try:
            await following
        finally:
            for feed, _ in self._feeds.values():
                feed.stop()
            await asyncio.gather(*(task for _, task in self._feeds.values()), return_exceptions=True)

    def stop(self) -> None:
        """Finish the batches in hand and end `run`."""
        self._stopping = True
        self._first.stop()
        for feed, _ in self._feeds.values():
            feed.stop()

    # --- which collections -------------------------------------------------------------------------------------

    def _feed_of_searched(self) -> Feed:
        return Feed(self.parts, self.parts.collections.current, on_indexed=self._on_indexed)

    def _start(self, feed: Feed) -> None:
        self._feeds[feed.collection.name] = feed, asyncio.create_task(feed.run())

    async def _follow(self) -> None:
        """Feed what is listed, until the feed of what is searched ends. Raises what has ended it."""
        while True:
            tasks = [task for _, task in self._feeds.values()]
            if tasks:
                await asyncio.wait(tasks, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            else:  # the only one that it could feed was dropped
                await asyncio.sleep(LOOK_S)
            for name, (feed, task) in list(self._feeds.items()):
                if task.done():
                    if self._stopping or feed.searched():
                        task.result()
                        return
                    del self._feeds[name]
                    self._leave_alone(name, task.exception())
            await self._follow_the_list()

    async def _follow_the_list(self) -> None:
        collections = self.parts.collections
        listed = {one.name: one for one in collections.listed}
        for name, (feed, task) in list(self._feeds.items()):
            one = listed.get(name)
            if (one is None or one.run != feed.collection.collection.run) and not feed.searched():
                feed.stop()
                await asyncio.wait([task], timeout=self.STOP_S)
                task.cancel()  # of a store that has gone it would wait for ever
                await asyncio.gather(task, return_exceptions=True)
                del self._feeds[name]
                await collections.close(name)
                _log.info("no longer fed", collection=name)
        now = asyncio.get_running_loop().time()
        for name, one in listed.items():
            if name in self._feeds or self._not_before.get(name, 0.0) > now:
                continue
            try:
                opened = await collections.ensure_open(one)
            except LorestreamError as error:
                self._leave_alone(name, error)
                continue
            _log.info("fed as well", collection=name, group=opened.group)
            self._start(Feed(self.parts, opened))

    def _leave_alone(self, name: str, error: BaseException | None) -> None:
        """One that is not searched fails alone: the others go on."""
        _log.error("a collection cannot be fed", collection=name, error=str(error), again_s=AGAIN_S)
        self._not_before[name] = asyncio.get_running_loop().time() + AGAIN_S
