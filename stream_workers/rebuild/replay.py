"""`lorestream replay`: builds another collection from the log, while the active one stays in use.

The workers fill it: they index into every listed collection, into an inactive one at a lower rate. This task creates
the collection, waits until the log was replayed, copies what is older than the log, and compares the result with the
active collection. An interrupted replay continues when the task is called again with the same name.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from lorestream.admin import AdminTask, Outcome, Progress, Remark, Report, ReportStream
from lorestream.collections.catalogue import Collection, Model
from lorestream.errors import InvalidRequest, Misconfigured, OperationRefused
from lorestream.limits import MAX_TIME, MIN_TIME, CollectionName, check_has_come, utc
from lorestream.wiring import OpenCollection, WorkerParts
from stream_workers.rebuild.alias_swap import collect_garbage, create_collection
from stream_workers.rebuild.carry_over import CarryOver
from stream_workers.rebuild.quality_gate import evaluate

POLL_INTERVAL_S = 0.5
STALL_REMARK_S = 30.0
"""After this time without progress the task yields a remark."""


class ReplayArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`to`: the collection to be filled. `since`: Unix seconds; None: the whole log, and what is older is copied.

    Documents, Q-tables and policies are copied in both cases.
    """

    to: CollectionName
    since: Annotated[float, msgspec.Meta(ge=MIN_TIME, le=MAX_TIME)] | None = None
    model: str | None = None
    """As in LORESTREAM_EMBEDDER__MODEL; None: the model of the settings."""
    dim: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """The admin task, over the parts of a worker."""

    parts: WorkerParts

    def task(self) -> AdminTask:
        """The task of this module."""
        return AdminTask("replay", ReplayArguments, self.run)

    async def run(self, arguments: ReplayArguments) -> ReportStream:
        """Fill a collection and evaluate it. Raises OperationRefused, InvalidRequest, Unavailable, Misconfigured.

        1. Create the collection, or continue with an incomplete one: the workers begin to index into it.
        2. Wait until they have indexed everything that is in the log now.
        3. Copy what is older than the log.
        4. Compare with the active collection; if the gate is passed, mark the collection as complete.
        """
        began = time.monotonic()
        await collect_garbage(self.parts)
        listed = {one.name: one for one in await self.parts.collections.refresh()}
        log_end = await self.parts.log.end()
        collection = listed.get(arguments.to)
        if collection is None:
            collection, remark = await self._create(arguments)
            yield Remark(remark)
        else:
            _refuse_unless_incomplete(collection)
            yield Remark(
                f"{arguments.to} exists already, with the model {collection.model.model_id}: continuing"
            )
        target = await self.parts.collections.ensure_open(collection)
        async for report in self._wait_for_replay(target, log_end):
            yield report
        # Memories from before `since` are left out. Documents are not: they have no other home.
        before = None if arguments.since is None else -math.inf
        carry_over = CarryOver(self.parts, target, memories_before=before)
        async for report in carry_over.copy():
            yield report
        result = await evaluate(self.parts, target, complete=arguments.since is None)
        if result.passed:
            await self.parts.collections.catalogue.mark_complete(collection.name)
        yield Outcome(
            {
                "collection": collection.name,
                "model": collection.model.model_id,
                "copied": carry_over.copied,
                "seconds": round(time.monotonic() - began, 1),
                **result.as_json(),
            }
        )

    async def _create(self, arguments: ReplayArguments) -> tuple[Collection, str]:
        """Create the collection, which the workers then find in the list. Returns it, and a remark about it."""
        since = arguments.since
        if since is not None:
            check_has_come(since, self.parts.clock.now(), "from")
        collections = self.parts.collections
        chosen = self.parts.settings.embedder
        is_default = arguments.model is None and arguments.dim is None
        wanted = Model("", arguments.dim or 0, chosen.kind, arguments.model or chosen.model)
        try:
            embedder = collections.default_embedder if is_default else await collections.load_embedder(wanted)
        except Misconfigured as error:  # of the model that the caller has chosen
            raise OperationRefused(str(error)) from error
        model = Model(embedder.model_id, embedder.dim, wanted.kind, wanted.name)
        collection = Collection(arguments.to, model, secrets.token_hex(4), complete=False)
        beginning = "the beginning of the log" if since is None else f"{utc(since):%Y-%m-%d %H:%M:%S} UTC"
        remark = f"{arguments.to} is filled from {beginning}, with the model {model.model_id}"
        try:
            positions = None
            if since is not None:
                positions, skipped = await self._positions_since(since)
                remark += f"; {skipped:,} older records are left out, and so is everything older than the log"
            await create_collection(self.parts, collection, positions)
        except BaseException:
            await collections.close_unused_models()
            raise
        return collection, remark

    async def _positions_since(self, since: float) -> tuple[Mapping[int, int], int]:
        """The offset of each partition's first record since then, and how many records lie before these offsets.

        Raises InvalidRequest when the log begins later.
        """
        log = self.parts.log
        offsets = await log.offsets_for_time(since)
        if (skipped := await self._records_before(since, offsets)) is None:
            raise InvalidRequest(
                "the log begins later than that: leave --from out, and what is older is copied",
                path="from",
            )
        # A partition without a record since then is read from its end.
        return {**await log.end(), **{number: offset for number, (offset, _) in offsets.items()}}, skipped

    async def _records_before(self, since: float, offsets: Mapping[int, tuple[int, float]]) -> int | None:
        """How many records lie before these offsets; None when the log has no record from before `since`."""
        first, end = await self.parts.log.offsets_for_time(0), await self.parts.log.end()
        if first and since < min(at for _, at in first.values()):
            return None
        positions = {number: offsets[number][0] if number in offsets else end[number] for number in first}
        return sum(positions[number] - offset for number, (offset, _) in first.items())

    async def _wait_for_replay(
        self, target: OpenCollection, log_end: Mapping[int, int]
    ) -> AsyncGenerator[Report]:
        """Wait until every record before `log_end` is in the collection; yields the progress."""
        log, group = self.parts.log, target.group
        first = {number: offset for number, (offset, _) in (await log.offsets_for_time(0)).items()}
        start = {**first, **await log.committed(group)}
        wanted = {number: end for number, end in log_end.items() if end > start.get(number, end)}
        total = sum(end - start[number] for number, end in wanted.items())
        last = {number: end - 1 for number, end in wanted.items()}
        done, began, progressed_at, remarked = 0, time.monotonic(), time.monotonic(), False
        yield Progress("replaying the log", 0, total, "records")
        while not await target.watermarks.reached(last, POLL_INTERVAL_S):
            now = time.monotonic()
            indexed = await self._records_indexed(target, start, wanted)
            if indexed > done:
                done, progressed_at = indexed, now
            elif now - progressed_at > STALL_REMARK_S and not remarked:
                remarked = True
                yield Remark(
                    f"no progress for {STALL_REMARK_S:.0f} s: check that a worker runs, and that it can load the model"
                    f" {target.collection.model.name} (see its log)"
                )
            rate = done / (now - began)
            yield Progress(
                "replaying the log", done, total, "records", (total - done) / rate if rate else None
            )
        yield Progress("replaying the log", total, total, "records", 0.0)

    async def _records_indexed(
        self, target: OpenCollection, start: Mapping[int, int], wanted: Mapping[int, int]
    ) -> int:
        """How many records from `start` up to `wanted` are in the collection.

        In the embedded shape the watermark of each partition is found by bisection, because commits are rare there.
        """
        committed = await self.parts.log.committed(target.group)
        indexed = 0
        for number, end in wanted.items():
            low = min(committed.get(number, start[number]), end)
            high = low if self.parts.settings.distributed else end
            while low < high:
                middle = (low + high + 1) // 2
                if await target.watermarks.reached({number: middle - 1}, 0):
                    low = middle
                else:
                    high = middle - 1
            indexed += low - start[number]
        return indexed


def _refuse_unless_incomplete(collection: Collection) -> None:
    """Raises OperationRefused for a collection that is searched, or that is complete."""
    if collection.active:
        raise OperationRefused(f"{collection.name} is searched at present: choose another name to fill")
    if collection.complete:
        raise OperationRefused(
            f"{collection.name} is complete already: `lorestream alias swap {collection.name}`, or"
            f" `lorestream drop {collection.name}` first"
        )
