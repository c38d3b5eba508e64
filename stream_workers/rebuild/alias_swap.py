"""Which collection is searched: `lorestream alias list|swap|rollback`, and `lorestream drop`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from lorestream.admin import AdminTask, NoArguments, Outcome, Remark, ReportStream, Row
from lorestream.collections.catalogue import REPLACED_LIVES_S, Collection
from lorestream.errors import InvalidRequest, OperationRefused
from lorestream.wiring import OpenCollection, WorkerParts
from stream_workers.rebuild.quality_gate import behind

_log = structlog.get_logger("lorestream.admin")

LEVEL_S = 5.0
FOLLOWED_S = 3.0
"""By then every process has heard of a change: they look twice a second."""
CLOSED_S = 15.0


class SwapArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`to`: the collection that is to be searched; None = the only other one that is whole."""

    to: str | None = None


class DropArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The collection that nobody needs any more."""

    name: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Alias:
    """The tasks, over the parts of a worker."""

    parts: WorkerParts

    def tasks(self) -> Sequence[AdminTask]:
        """As the frame of care wants them."""
        return (
            AdminTask("alias-list", NoArguments, self.list_),
            AdminTask("alias-swap", SwapArguments, self.swap),
            AdminTask("alias-rollback", NoArguments, self.rollback),
            AdminTask("drop", DropArguments, self.drop),
        )

    async def list_(self, _asked: NoArguments) -> ReportStream:
        """Every collection, the one that is searched first. Raises Unavailable."""
        await collect_garbage(self.parts)
        listed = await self.parts.collections.refresh()
        for one in listed:
            row = {
                "name": one.name,
                "searched": one.active,
                "whole": one.complete,
                "model": one.model.model_id,
                "dim": one.model.dim,
                "replaced_at": one.replaced_at,
            }
            # Without its model, which may not be there.
            store = await self.parts.collections.catalogue.open(one.name)
            row["memories"] = await store.size(now=self.parts.clock.now())
            yield Row(row)
        yield Outcome({"collections": len(listed)})

    async def swap(self, asked: SwapArguments) -> ReportStream:
        """Search another collection from now on. Raises OperationRefused, Unavailable."""
        listed = await self.parts.collections.refresh()
        others = [one for one in listed if not one.active and one.complete and one.replaced_at is None]
        if asked.to is not None:
            one = _named(listed, asked.to)
        elif len(others) == 1:
            [one] = others
        else:
            raise InvalidRequest(f"{len(others)} collections could be meant: name one", path="to")
        yield await self._turned(one)

    async def rollback(self, _asked: NoArguments) -> ReportStream:
        """Search the collection again that was searched before. Raises OperationRefused, Unavailable."""
        listed = await self.parts.collections.refresh()
        before = next((one for one in listed if one.replaced_at is not None), None)
        if before is None:
            raise OperationRefused(
                "there is nothing to go back to: no collection was replaced, or it was dropped"
            )
        yield await self._turned(before)

    async def drop(self, asked: DropArguments) -> ReportStream:
        """Remove a collection and all that lies in it. Raises OperationRefused, Unavailable."""
        collections = self.parts.collections
        await collect_garbage(self.parts)
        if asked.name in await collections.catalogue.pending_deletions():
            raise OperationRefused(f"{asked.name} is being dropped or made: look again in some minutes")
        one = _named(await collections.refresh(), asked.name)
        if one.active:
            raise OperationRefused(f"{one.name} is searched: swap to another collection first")
        age = REPLACED_LIVES_S if one.replaced_at is None else self.parts.clock.now() - one.replaced_at
        if age < REPLACED_LIVES_S:
            raise OperationRefused(
                f"{one.name} was searched until {age:.0f} s ago, and searches may still be under way in it:"
                f" try again in {REPLACED_LIVES_S - age:.0f} s"
            )
        if not asked.dry_run:
            yield Remark(f"{one.name} is no longer fed")
            await drop_collection(self.parts, one)
        yield Outcome({"dropped": one.name, "dry_run": asked.dry_run})

    async def _turned(self, to: Collection) -> Outcome:
        collections = self.parts.collections
        if to.active:
            raise OperationRefused(f"{to.name} is searched already")
        if not to.complete:
            raise OperationRefused(
                f"{to.name} is not whole: `lorestream replay --to {to.name}` goes on with it"
            )
        before = collections.current.name
        if missing := await switch_alias(self.parts, await collections.ensure_open(to)):
            raise OperationRefused(
                f"{to.name} is {missing:,} records behind the log: wait until it is level, or look whether the"
                " workers feed it"
            )
        return Outcome({"searched": to.name, "before": before})


async def switch_alias(parts: WorkerParts, to: OpenCollection) -> int:
    """Search a collection from now on, if it is level; else its arrears, in records. Raises Unavailable.

    No answer is older than a finished write: from a moment before until a moment after, a write is finished when
    it is in both collections, and what was finished earlier is in the log, with which the new one is level.
    """
    collections, before = parts.collections, parts.collections.current
    try:
        await collections.catalogue.announce_switch([before.name, to.name])
        await wait_until_seen(parts)
        await behind(parts, before, LEVEL_S)  # so that what it is at counts as done while it still counts
        missing = await behind(parts, to, LEVEL_S)
        if not missing:
            await collections.catalogue.swap(to.name, parts.clock.now())
            await wait_until_seen(parts)
    finally:
        await collections.catalogue.announce_switch([])
        await collections.refresh()
    return missing


async def wait_until_seen(parts: WorkerParts) -> None:
    """Every process knows what the catalogue says."""
    await parts.collections.refresh()
    if parts.settings.distributed:
        await asyncio.sleep(FOLLOWED_S)


async def drop_collection(parts: WorkerParts, one: Collection) -> None:
    """Have a collection closed everywhere, and delete it. Raises Unavailable."""
    collections = parts.collections
    await collections.catalogue.mark_deleted(one.name, parts.clock.now())
    await collections.refresh()
    await asyncio.sleep(FOLLOWED_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSED_S):
            # In this process a worker may still be finishing a batch of it.
            while not parts.settings.distributed and collections.is_open(one.name):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    await collections.close(one.name)
    await collections.catalogue.delete(one.name)
    await parts.log.delete_group(collections.group_of(one))


async def collect_garbage(parts: WorkerParts) -> None:
    """Delete what a drop or a replay that was broken off has left, once nobody can use it. Raises Unavailable."""
    collections, now = parts.collections, parts.clock.now()
    for name, at in (await collections.catalogue.pending_deletions()).items():
        if now - at >= REPLACED_LIVES_S:
            _log.info("what was left of a collection is deleted", collection=name)
            await collections.close(name)
            await collections.catalogue.delete(name)


def _named(listed: Sequence[Collection], name: str) -> Collection:
    for one in listed:
        if one.name == name:
            return one
    there = ", ".join(one.name for one in listed)
    raise InvalidRequest(f"there is no collection {name}: there are {there}", path="name")
