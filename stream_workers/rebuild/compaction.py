"""Gives back the disk space of deleted memories, in the embedded shape.

Qdrant Edge never shrinks its files. So the memories and tombstones are copied into a new collection, which then
becomes the active one, and the old one is deleted. That is a replay that copies instead of reading the log: the
consumer group of the new collection begins at the committed offsets of the old collection's group, so every memory is
either copied or read from the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from lorestream import supervision
from lorestream.admin import Remark
from lorestream.collections.catalogue import REPLACED_RETENTION_S, Collection, retention_left_s
from lorestream.errors import LorestreamError
from lorestream.wiring import WorkerParts
from stream_workers.rebuild.alias_swap import (
    collect_garbage,
    create_collection,
    drop_collection,
    switch_alias,
)
from stream_workers.rebuild.carry_over import CarryOver
from stream_workers.rebuild.quality_gate import records_behind

_log = structlog.get_logger("lorestream.compaction")

RUN_PREFIX = "compacted"
"""Prefix of the `run` of each collection that a compaction created."""
CHECK_INTERVAL_S = 60.0
MIN_INTERVAL_S = 600.0
"""Shortest time between two compactions."""
MAX_INTERVAL_S = 6 * 3600.0
"""Longest time until a compaction that failed is tried again: each attempt copies the whole store."""
MIN_RECLAIMABLE = 10_000
"""With fewer deleted points than this no compaction is started: the space is not worth the work."""
MAX_RECLAIMABLE_SHARE = 0.5
"""A compaction is started when the deleted points exceed this share of the memories and rows that exist."""
CATCH_UP_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Compaction:
    """Compacts the embedded store when `is_due`. A Qdrant server gives space back by itself."""

    parts: WorkerParts
    check_interval_s: float = CHECK_INTERVAL_S
    min_interval_s: float = MIN_INTERVAL_S
    min_reclaimable: int = MIN_RECLAIMABLE
    replaced_retention_s: float = REPLACED_RETENTION_S
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _warned: bool = False
    _failures: int = 0
    """How often it has failed since it last succeeded."""
    _not_before: float = -math.inf
    _unknown_groups: set[str] = field(default_factory=set[str], repr=False)

    async def run(self) -> None:
        """Work until `stop`."""
        async with supervision.restarting(self._work, "compaction"):
            await self._stopping.wait()

    def stop(self) -> None:
        """End `run`. An interrupted compaction is cleaned up and started again after the next start."""
        self._stopping.set()

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self.check_interval_s)
            try:
                await self.clean_up()
                await self.compact_if_due()
            except LorestreamError as error:
                _log.warning("compaction failed, it is tried again later", error=str(error))

    async def compact_if_due(self) -> None:
        """Compact if `is_due`, at most every `min_interval_s`; after a failure twice as long. Raises Unavailable."""
        if time.monotonic() < self._not_before or not await self.is_due():
            return
        self._failures += 1
        try:
            await self.compact()
            self._failures = 0
        finally:
            pause_s = self.min_interval_s * 2 ** min(self._failures, 10)
            self._not_before = time.monotonic() + min(pause_s, MAX_INTERVAL_S)

    async def is_due(self) -> bool:
        """Whether memories were erased, or the deleted points exceed half of what exists. Raises Unavailable.

        False while there is another collection: an operator may be replaying, or may want to roll back to it.
        """
        listed = await self.parts.collections.refresh()
        store = self.parts.collections.current.store
        reclaimable = await store.reclaimable()
        if not reclaimable.erased:
            if reclaimable.points < self.min_reclaimable:
                return False
            # With so many living memories, or rows that take as much space, it is not due.
            enough = math.ceil(reclaimable.points / MAX_RECLAIMABLE_SHARE)
            enough -= await store.size(now=self.parts.clock.now())
            if enough <= 0 or await store.row_space(enough) >= enough:
                return False
        if len(listed) == 1:
            self._warned = False
            return True
        if not self._warned:
            self._warned = True
            _log.warning(
                "compaction is due and waits until there is one collection: `lorestream drop` the others",
                collections=len(listed),
                reclaimable=reclaimable.points,
                erased=reclaimable.erased,
            )
        return False

    async def compact(self) -> None:
        """Copy memories and tombstones, switch the alias to the copy, delete the old collection. Raises Unavailable."""
        began = time.monotonic()
        collections = self.parts.collections
        old = collections.current
        run = f"{RUN_PREFIX}-{secrets.token_hex(4)}"
        alias = self.parts.settings.store.collection
        new = Collection(f"{alias}-{run}", old.collection.model, run, complete=False)
        reclaimable = await old.store.reclaimable()
        _log.info(
            "compaction started",
            collection=old.name,
            reclaimable=reclaimable.points,
            erased=reclaimable.erased,
        )
        await create_collection(self.parts, new, await self._position(old.group))
        target = await collections.ensure_open(new)
        carry_over = CarryOver(self.parts, target, memories_before=math.inf)
        async with contextlib.aclosing(carry_over.copy()) as reports:
            async for report in reports:
                if isinstance(report, Remark):
                    _log.error(report.text, collection=new.name)
        while await records_behind(self.parts, target, CATCH_UP_TIMEOUT_S):
            pass
        # The switch marks it as complete: until then a crash leaves an incomplete copy, which is deleted.
        while await switch_alias(self.parts, target):
            pass
        await asyncio.sleep(self.replaced_retention_s)
        await drop_collection(self.parts, old.collection)
        _log.info(
            "compacted",
            collection=new.name,
            memories=carry_over.copied,
            seconds=round(time.monotonic() - began, 1),
        )

    async def clean_up(self) -> None:
        """Delete what an interrupted compaction left: an incomplete copy, or the replaced original.

        Raises Unavailable.
        """
        await collect_garbage(self.parts)
        listed = await self.parts.collections.refresh()
        now = self.parts.clock.now()
        active_is_copy = listed[0].run.startswith(RUN_PREFIX)
        for one in listed[1:]:
            incomplete = one.run.startswith(RUN_PREFIX) and not one.complete
            replaced = (
                active_is_copy
                and one.replaced_at is not None
                and not retention_left_s(one.replaced_at, now, self.replaced_retention_s)
            )
            if incomplete or replaced:
                await drop_collection(self.parts, one)
        await self._delete_unused_groups(await self.parts.collections.refresh())

    async def _delete_unused_groups(self, listed: Sequence[Collection]) -> None:
        """Delete consumer groups without a collection: the log would keep its records for them for ever.

        Only groups found at two checks in a row: the collection of a new group may be just being created.
        """
        known = {self.parts.collections.group_of(one) for one in listed}
        unknown = set(await self.parts.log.groups()) - known
        for group in unknown & self._unknown_groups:
            await self.parts.log.delete_group(group)
        self._unknown_groups = unknown

    async def _position(self, group: str) -> dict[int, int]:
        """The committed offset of each partition; the log's first one where the group has none."""
        first = {number: offset for number, (offset, _) in (await self.parts.log.offsets_for_time(0)).items()}
        return {**first, **await self.parts.log.committed(group)}
