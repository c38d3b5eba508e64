"""The embedded store gives no space back by itself: what lives is moved into a new collection, and the old one goes.

It is a replay that copies instead of reading the log: the new collection's group begins where the old one's has
committed, so that everything is either copied or read.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from lorestream.collections.catalogue import REPLACED_LIVES_S, Collection
from lorestream.errors import LorestreamError
from lorestream.wiring import WorkerParts
from stream_workers.rebuild.alias_swap import collect_garbage, drop_collection, switch_alias
from stream_workers.rebuild.carry_over import CarryOver
from stream_workers.rebuild.quality_gate import behind

_log = structlog.get_logger("lorestream.compaction")

RUN = "compacted"
"""What the runs of its collections begin with."""
LOOK_S = 60.0
REST_S = 600.0
"""Between two of them, however much is erased."""
FEWEST_DEAD = 10_000
"""Below that the space is not worth the work."""
DEAD_SHARE = 0.5
"""Of the living."""
LEVEL_S = 30.0


@dataclass(slots=True)
class Compaction:
    """Looks now and then whether it is worth it. For the embedded shape: a server does its own."""

    parts: WorkerParts
    look_s: float = LOOK_S
    rest_s: float = REST_S
    fewest_dead: int = FEWEST_DEAD
    replaced_lives_s: float = REPLACED_LIVES_S
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _told: bool = False
    _unknown: set[str] = field(default_factory=set[str], repr=False)

    async def run(self) -> None:
        """Work until `stop`."""
        working = asyncio.create_task(self._work())
        await self._stopping.wait()
        working.cancel()
        await asyncio.wait([working])

    def stop(self) -> None:
        """End `run`: what it was at is begun anew at the next start."""
        self._stopping.set()

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self.look_s)
            try:
                await self.clear_away()
                if await self.is_due():
                    await self.compact()
                    await asyncio.sleep(self.rest_s)
            except LorestreamError as error:
                _log.warning("compaction postponed", error=str(error))

    async def is_due(self) -> bool:
        """Whether the dead outgrow half of the living, or something was erased. Raises Unavailable.

        Not as long as there is another collection: somebody is at a replay, and may want to roll back to it.
        """
        listed = await self.parts.collections.refresh()
        store = self.parts.collections.current.store
        dead = await store.reclaimable()
        if not dead.erased:
            living = await store.size(now=self.parts.clock.now())
            if dead.points < self.fewest_dead or dead.points <= DEAD_SHARE * living:
                return False
        if len(listed) == 1:
            self._told = False
            return True
        if not self._told:
            self._told = True
            _log.warning(
                "compaction waits until there is one collection: `lorestream drop` those that nobody needs",
                collections=len(listed),
                dead=dead.points,
                erased=dead.erased,
            )
        return False

    async def compact(self) -> None:
        """Move what lives, search the new collection, and remove the old one. Raises Unavailable."""
        began = time.monotonic()
        collections, log = self.parts.collections, self.parts.log
        old = collections.current
        run = f"{RUN}-{secrets.token_hex(4)}"
        alias = self.parts.settings.store.collection
        new = Collection(f"{alias}-{run}", old.collection.model, run, complete=False)
        dead = await old.store.reclaimable()
        _log.info("compaction begins", collection=old.name, dead=dead.points, erased=dead.erased)
        # Before it is listed: from then on a worker reads for it.
        await log.set_group_offsets(collections.group_of(new), await self._position(old.group))
        await collections.catalogue.create(new.name, new.model, run)
        target = await collections.ensure_open(new)
        await collections.refresh()
        inheritance = CarryOver(self.parts, target, everything=True)
        async with contextlib.aclosing(inheritance.copy()) as reports:
            async for _ in reports:
                pass
        while await behind(self.parts, target, LEVEL_S):
            pass
        await collections.catalogue.mark_complete(new.name)
        while await switch_alias(self.parts, target):
            pass
        await asyncio.sleep(self.replaced_lives_s)
        await drop_collection(self.parts, old.collection)
        _log.info(
            "compacted",
            collection=new.name,
            memories=inheritance.copied,
            seconds=round(time.monotonic() - began, 1),
        )

    async def clear_away(self) -> None:
        """Remove what an earlier process has left of one: half filled, or replaced and not yet removed."""
        await collect_garbage(self.parts)
        listed = await self.parts.collections.refresh()
        compacted = listed[0].run.startswith(RUN)
        for one in listed[1:]:
            half = one.run.startswith(RUN) and not one.complete
            age = None if one.replaced_at is None else self.parts.clock.now() - one.replaced_at
            replaced = compacted and age is not None and age >= self.replaced_lives_s
            if half or replaced:
                await drop_collection(self.parts, one)
        await self._forget_groups(await self.parts.collections.refresh())

    async def _forget_groups(self, listed: Sequence[Collection]) -> None:
        """Those of collections that are no more, or never came to be, would hold the log back for ever.

        One that is unknown for the first time may be that of a collection which is just being made.
        """
        known = {self.parts.collections.group_of(one) for one in listed}
        unknown = set(await self.parts.log.groups()) - known
        for group in unknown & self._unknown:
            await self.parts.log.delete_group(group)
        self._unknown = unknown

    async def _position(self, group: str) -> dict[int, int]:
        """Where the group has committed; the log's beginning where it never has."""
        beginning = {
            number: offset for number, (offset, _) in (await self.parts.log.offsets_for_time(0)).items()
        }
        return {**beginning, **await self.parts.log.committed(group)}
