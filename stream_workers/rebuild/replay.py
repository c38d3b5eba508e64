"""`lorestream replay`: another collection, filled from the log while the present one goes on answering.

The workers fill it: they feed every collection that is listed, this one at a slower pace, because nobody searches
it. The task makes it, copies what is older than the log, watches, and looks at the end whether it is as good as
the present one. Broken off at any moment, it goes on where it was when it is called again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from lorestream.admin import AdminTask, Outcome, Progress, Remark, Report, ReportStream
from lorestream.collections.catalogue import Collection, Model
from lorestream.errors import InvalidRequest, OperationRefused
from lorestream.wiring import OpenCollection, WorkerParts
from stream_workers.rebuild.alias_swap import collect_garbage
from stream_workers.rebuild.carry_over import CarryOver
from stream_workers.rebuild.quality_gate import evaluate

LOOK_S = 0.5
UNFED_S = 30.0
"""So long nothing may move until somebody is told."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class ReplayArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`to`: the collection that is filled. `since`: Unix seconds, None = from the log's beginning."""

    to: Name
    since: float | None = None
    model: str | None = None
    """Its name as in LORESTREAM_EMBEDDER__MODEL; None = the one of the settings."""
    dim: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """The task, over the parts of a worker."""

    parts: WorkerParts

    def task(self) -> AdminTask:
        """As the frame of care wants it."""
        return AdminTask("replay", ReplayArguments, self.run)

    async def run(self, asked: ReplayArguments) -> ReportStream:
        """Fill a collection. Raises OperationRefused, InvalidRequest, Unavailable, Misconfigured."""
        began = time.monotonic()
        await collect_garbage(self.parts)
        listed = {one.name: one for one in await self.parts.collections.refresh()}
        barrier = await self.parts.log.end()
        collection = listed.get(asked.to)
        if collection is None:
            collection, remark = await self._made(asked)
            yield Remark(remark)
        else:
            _may_go_on(collection)
            yield Remark(f"{asked.to} is there already, filled by {collection.model.model_id}: going on")
        target = await self.parts.collections.ensure_open(collection)
        async for report in self._filled(target, barrier):
            yield report
        copied = 0
        if asked.since is None:
            inheritance = CarryOver(self.parts, target)
            async for report in inheritance.copy():
                yield report
            copied = inheritance.copied
        verdict = await evaluate(self.parts, target, complete=asked.since is None)
        if verdict.passed:
            await self.parts.collections.catalogue.mark_complete(collection.name)
        yield Outcome(
            {
                "collection": collection.name,
                "model": collection.model.model_id,
                "copied": copied,
                "seconds": round(time.monotonic() - began, 1),
                **verdict.figures(),
            }
        )

    async def _made(self, asked: ReplayArguments) -> tuple[Collection, str]:
        """An empty collection that the workers will find, and what there is to say of it."""
        collections, log = self.parts.collections, self.parts.log
        chosen = self.parts.settings.embedder
        known = asked.model is None and asked.dim is None
        wanted = Model("", asked.dim or 0, chosen.kind, asked.model or chosen.model)
        embedder = collections.default_embedder if known else await collections.load_embedder(wanted)
        model = Model(embedder.model_id, embedder.dim, wanted.kind, wanted.name)
        collection = Collection(asked.to, model, secrets.token_hex(4), complete=False)
        remark = f"{asked.to} is filled from the beginning of the log, by {model.model_id}"
        if asked.since is not None:
            first = await log.offsets_for_time(asked.since)
            if (left_out := await self._left_out(asked.since, first)) is None:
                raise InvalidRequest(
                    "the log begins later than that: leave --from out, and what is older is copied",
                    path="from",
                )
            # Where a partition has nothing since then, its group begins at its end.
            await log.set_group_offsets(
                collections.group_of(collection),
                {**await log.end(), **{number: offset for number, (offset, _) in first.items()}},
            )
            remark += f"; {left_out:,} records from before that time are left out, and all that is older than the log"
        await collections.catalogue.create(collection.name, model, collection.run)
        await collections.refresh()
        return collection, remark

    async def _left_out(self, since: float, first: Mapping[int, tuple[int, float]]) -> int | None:
        """How many records of the log are older; None when all of it is younger."""
        beginning, end = await self.parts.log.offsets_for_time(0), await self.parts.log.end()
        if beginning and since < min(at for _, at in beginning.values()):
            return None
        positions = {number: first[number][0] if number in first else end[number] for number in beginning}
        return sum(positions[number] - offset for number, (offset, _) in beginning.items())

    async def _filled(self, target: OpenCollection, barrier: Mapping[int, int]) -> AsyncGenerator[Report]:
        """Wait until everything in front of the barrier is in the collection."""
        log, group = self.parts.log, target.group
        beginning = {number: offset for number, (offset, _) in (await log.offsets_for_time(0)).items()}
        start = {**beginning, **await log.committed(group)}
        wanted = {number: end for number, end in barrier.items() if end > start.get(number, end)}
        total = sum(end - start[number] for number, end in wanted.items())
        last = {number: end - 1 for number, end in wanted.items()}
        done, began, moved, told = 0, time.monotonic(), time.monotonic(), False
        yield Progress("replaying the log", 0, total, "records")
        while not await target.watermarks.reached(last, LOOK_S):
            now = time.monotonic()
            reached = await self._reached(target, start, wanted)
            if reached > done:
                done, moved = reached, now
            elif now - moved > UNFED_S and not told:
                told = True
                yield Remark(
                    f"nothing has moved for {UNFED_S:.0f} s: does a worker run, and has it the model"
                    f" {target.collection.model.name}? Its log says so"
                )
            rate = done / (now - began)
            yield Progress(
                "replaying the log", done, total, "records", (total - done) / rate if rate else None
            )
        yield Progress("replaying the log", total, total, "records", 0.0)

    async def _reached(
        self, target: OpenCollection, start: Mapping[int, int], wanted: Mapping[int, int]
    ) -> int:
        """How many records of those that are wanted are in the collection."""
        committed = await self.parts.log.committed(target.group)
        reached = 0
        for number, end in wanted.items():
            low = min(committed.get(number, start[number]), end)
            high = low if self.parts.settings.distributed else end  # commits are frequent there
            while low < high:
                middle = (low + high + 1) // 2
                if await target.watermarks.reached({number: middle - 1}, 0):
                    low = middle
                else:
                    high = middle - 1
            reached += low - start[number]
        return reached


def _may_go_on(collection: Collection) -> None:
    if collection.active:
        raise OperationRefused(f"{collection.name} is searched at present: choose another name to fill")
    if collection.complete:
        raise OperationRefused(
            f"{collection.name} holds everything already: `lorestream alias swap {collection.name}`, or"
            f" `lorestream drop {collection.name}` first"
        )
