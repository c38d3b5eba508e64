"""Which collection is searched: `lorestream alias list|swap|rollback`, and `lorestream drop`."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from lorestream.admin import AdminTask, NoArguments, Outcome, Remark, ReportStream, Row
from lorestream.collections.catalogue import REPLACED_RETENTION_S, Collection, retention_left_s
from lorestream.errors import InvalidRequest, LorestreamError, Misconfigured, OperationRefused
from lorestream.wiring import OpenCollection, WorkerParts
from stream_workers.rebuild.quality_gate import records_behind

_log = structlog.get_logger("lorestream.admin")

CATCH_UP_TIMEOUT_S = 5.0
"""How long a switch waits for the collections to reach the end of the log."""
PROPAGATION_S = 3.0
"""After this time every process has read a change of the catalogue: each reads it twice a second."""
CLOSE_TIMEOUT_S = 15.0
"""How long a drop waits for an indexer in this process to close the collection."""


class SwapArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`to`: the collection to be searched; None: the only inactive one that is complete and was not replaced."""

    to: str | None = None


class DropArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`name`: the collection to be deleted. `dry_run`: only check whether it may be."""

    name: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class AliasTasks:
    """The admin tasks, over the parts of a worker."""

    parts: WorkerParts

    def tasks(self) -> Sequence[AdminTask]:
        """The tasks of this module."""
        return (
            AdminTask("alias-list", NoArguments, self.list_),
            AdminTask("alias-swap", SwapArguments, self.swap),
            AdminTask("alias-rollback", NoArguments, self.rollback),
            AdminTask("drop", DropArguments, self.drop),
        )

    async def list_(self, _arguments: NoArguments) -> ReportStream:
        """One row for each collection, the active one first. `kept_for_s`: it cannot be dropped before. Raises Unavailable."""
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
                "kept_for_s": self._kept_for_s(one),
            }
            row["memories"] = await self.parts.collections.size(one.name, now=self.parts.clock.now())
            yield Row(row)
        yield Outcome({"collections": len(listed)})

    async def swap(self, arguments: SwapArguments) -> ReportStream:
        """Switch the alias to another collection. Raises InvalidRequest, OperationRefused, Unavailable."""
        listed = await self.parts.collections.refresh()
        others = [one for one in listed if not one.active and one.complete and one.replaced_at is None]
        if arguments.to is not None:
            one = _find(listed, arguments.to)
        elif len(others) == 1:
            [one] = others
        else:
            raise InvalidRequest(f"{len(others)} collections could be meant: name one", path="to")
        yield await self._switch(one)

    async def rollback(self, _arguments: NoArguments) -> ReportStream:
        """Switch the alias back to the collection that was active before. Raises OperationRefused, Unavailable."""
        listed = await self.parts.collections.refresh()
        before = next((one for one in listed if one.replaced_at is not None), None)
        if before is None:
            raise OperationRefused(
                "there is nothing to go back to: no collection was replaced, or it was dropped"
            )
        yield await self._switch(before)

    async def drop(self, arguments: DropArguments) -> ReportStream:
        """Delete an inactive collection with all its memories. Raises InvalidRequest, OperationRefused, Unavailable."""
        collections = self.parts.collections
        await collect_garbage(self.parts)
        if arguments.name in await collections.catalogue.pending_deletions():
            raise OperationRefused(
                f"{arguments.name} is just being created or dropped: try again in some minutes"
            )
        one = _find(await collections.refresh(), arguments.name)
        if one.active:
            raise OperationRefused(f"{one.name} is searched: swap to another collection first")
        if left := self._kept_for_s(one):
            raise OperationRefused(
                f"{one.name} was searched until just now, and searches in it may still be running: try again in"
                f" {left:.0f} s"
            )
        if not arguments.dry_run:
            yield Remark(f"no new memories are indexed into {one.name} any more")
            await drop_collection(self.parts, one)
        yield Outcome({"dropped": one.name, "dry_run": arguments.dry_run})

    def _kept_for_s(self, one: Collection) -> float:
        since = -math.inf if one.replaced_at is None else one.replaced_at
        return retention_left_s(since, self.parts.clock.now(), REPLACED_RETENTION_S)

    async def _switch(self, to: Collection) -> Outcome:
        collections = self.parts.collections
        if to.active:
            raise OperationRefused(f"{to.name} is searched already")
        if not to.complete:
            raise OperationRefused(
                f"{to.name} is not complete: `lorestream replay --to {to.name}` continues to fill it"
            )
        before = collections.current.name
        try:
            target = await collections.ensure_open(to)
        except Misconfigured as error:  # its model is not prepared on this machine
            raise OperationRefused(str(error)) from error
        if missing := await switch_alias(self.parts, target):
            raise OperationRefused(
                f"{to.name} is {missing:,} records behind the log: try again when it has caught up, and check that"
                " the workers index into it"
            )
        return Outcome({"searched": to.name, "before": before})


async def switch_alias(parts: WorkerParts, target: OpenCollection) -> int:
    """Make the target the active collection if it has caught up with the log, and return 0.

    Otherwise change nothing and return how many records it is behind. Raises Unavailable. A write that was reported as
    finished is found before and after the switch:

    1. Announce the switch: from then on a write is finished only when it is in both collections.
    2. Wait until the active collection has indexed what is in the log: earlier writes are finished there.
    3. Wait until the target has caught up with the log, so that it has those writes as well.
    4. Switch the alias in one step, and wait until every process has seen it.
    5. End the announcement: writes are finished when they are in the new active collection.
    """
    collections, before = parts.collections, parts.collections.current
    try:
        await collections.catalogue.announce_switch([before.name, target.name])
        await wait_until_seen(parts)
        await records_behind(parts, before, CATCH_UP_TIMEOUT_S)
        missing = await records_behind(parts, target, CATCH_UP_TIMEOUT_S)
        if not missing:
            await collections.catalogue.swap(target.name, parts.clock.now())
            await wait_until_seen(parts)
    finally:
        await collections.catalogue.announce_switch([])
        await collections.refresh()
    return missing


async def wait_until_seen(parts: WorkerParts) -> None:
    """Wait until every process has read the present state of the catalogue. Raises Unavailable."""
    await parts.collections.refresh()
    if parts.settings.distributed:
        await asyncio.sleep(PROPAGATION_S)


async def create_collection(
    parts: WorkerParts, collection: Collection, positions: Mapping[int, int] | None = None
) -> None:
    """Create a collection, whose consumer group begins at `positions` (None: at the beginning of the log).

    When it is not created, no group is left, for which the log would keep its records. Raises OperationRefused,
    Unavailable.
    """
    log, catalogue, group = parts.log, parts.collections.catalogue, parts.collections.group_of(collection)
    if positions is not None:
        # Before the collection is listed: from then on the workers read the log for it.
        await log.set_group_offsets(group, positions)
    try:
        await catalogue.create(collection.name, collection.model, collection.run)
    except BaseException:
        if positions is not None:
            with contextlib.suppress(LorestreamError):  # the error of the creation is the one to report
                if collection.run not in {one.run for one in await catalogue.list_all()}:
                    await log.delete_group(group)
        raise
    await parts.collections.refresh()


async def drop_collection(parts: WorkerParts, collection: Collection) -> None:
    """Wait until every process has closed a collection, then delete it and its consumer group. Raises Unavailable."""
    collections = parts.collections
    await collections.catalogue.mark_deleted(collection.name, parts.clock.now())
    await collections.refresh()
    await asyncio.sleep(PROPAGATION_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            # The worker of this process may still be finishing a batch.
            while not parts.settings.distributed and collections.is_open(collection.name):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    await collections.close(collection.name)
    await collections.catalogue.delete(collection.name)
    await parts.log.delete_group(collections.group_of(collection))


async def collect_garbage(parts: WorkerParts) -> None:
    """Delete what interrupted drops and replays have left, once no process can use it. Raises Unavailable."""
    collections, now = parts.collections, parts.clock.now()
    for name, at in (await collections.catalogue.pending_deletions()).items():
        if not retention_left_s(at, now, REPLACED_RETENTION_S):
            _log.info("deleting a collection left by an interrupted drop or replay", collection=name)
            await collections.close(name)
            await collections.catalogue.delete(name)


def _find(listed: Sequence[Collection], name: str) -> Collection:
    for one in listed:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in listed)
    raise InvalidRequest(f"there is no collection {name}: there are {names}", path="name")
