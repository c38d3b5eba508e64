"""A worker's share of the partitions: taken over, given back, and how far it has come in them.

What is finished is published at once (`wait=indexed` looks at it), and committed behind the store's next flush,
so that no power cut can lose what the log would not read again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping

import structlog

from lorestream.errors import Unavailable
from lorestream.ports import Subscription, WatermarkPublisher
from stream_workers.indexing.offsets import Offsets
from stream_workers.indexing.pipeline import Pipeline

_log = structlog.get_logger("lorestream.indexer")

COMMIT_INTERVAL_S = 5.0
"""A flush of Edge stops everything for a tenth of a second, so it is rare; Qdrant's own default is the same."""

DRAIN_S = 5.0
"""How long a batch in hand may hold up a rebalance."""


class Share:
    """The partitions that are a worker's own at present."""

    def __init__(
        self, pipeline: Pipeline, publisher: WatermarkPublisher | None, commit_interval_s: float
    ) -> None:
        self.offsets = Offsets()
        self.member: Subscription | None = None
        """Through whom is committed what is given back; None where nothing of it can be any more."""
        self.begun = asyncio.Event()
        """Set once it was given partitions."""
        self._pipeline = pipeline
        self._publisher = publisher
        self._commit_interval_s = commit_interval_s
        self._committed: dict[int, int] = {}

    async def take(self, positions: Mapping[int, int]) -> None:
        """Go on with these partitions at these offsets."""
        self.offsets.assign(positions)
        self._committed |= positions
        self._pipeline.metrics.rebalances.inc()
        _log.info("partitions assigned", partitions=sorted(positions))
        await self.publish()
        self.begun.set()

    async def give_back(self, partitions: Collection[int]) -> None:
        """Wait until what is in hand of them is finished, within `DRAIN_S`, and commit it."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    while self.offsets.busy(partitions):  # noqa: ASYNC110 (rare, and for a moment)
                        await asyncio.sleep(0.01)
            if self.member is not None:
                with contextlib.suppress(Unavailable):
                    await self.commit(self.member)
        finally:  # whoever shares them out may wait for less than that
            cut_off = self.offsets.busy(partitions)
            self.offsets.revoke(partitions)
            for partition in partitions:
                self._committed.pop(partition, None)
            _log.info("partitions revoked", partitions=sorted(partitions), cut_off=cut_off)

    async def publish(self) -> None:
        """Tell what is finished."""
        if self._publisher is not None:
            with contextlib.suppress(Unavailable):  # whoever waits for it looks at the commits as well
                await self._publisher.publish(self.offsets.positions())

    async def commit(self, member: Subscription) -> None:
        """Make the store durable, then the offsets that stand for it. Raises Unavailable."""
        finished = self.offsets.positions()
        risen = {
            partition: offset
            for partition, offset in finished.items()
            if offset > self._committed.get(partition, -1)
        }
        if risen:
            await self._pipeline.store.flush()
            await member.commit(risen)
            self._committed |= {p: o for p, o in risen.items() if p in self._committed}

    async def commit_regularly(self, member: Subscription) -> None:
        """Publish and commit, for ever, however long the log or the store are away."""
        while True:
            await asyncio.sleep(self._commit_interval_s)
            try:
                await self.publish()
                if self._pipeline.pace.commits():
                    await self.commit(member)
            except Unavailable as error:
                _log.warning("commit postponed", error=str(error))
