"""The state of the way from an event to an answer, as one process sees it: `GET /v1/admin/pipeline`.

What the process measures itself comes from its own metrics. Of other processes it knows what the log, the store and the
consumer groups tell: how far the workers are and which of them owns which partition, not how long their stages take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from lorestream.cli.serve.measurements import Measurements
from lorestream.errors import LorestreamError
from lorestream.http.operator_schemas import PartitionProgress, Pipeline, PipelineCollection, PipelinePart
from lorestream.http.readiness import OK, ReadinessChecks

if TYPE_CHECKING:
    from lorestream.ports import EventLog
    from lorestream.wiring import QueryParts
    from stream_workers.worker import Worker  # a second of imports that a query service does not need

OLDEST_AGE_STEPS = 22
"""Ages that are tried for the oldest unfinished record, each twice the last: 1 s to 24 days."""
AGE_REFINEMENTS = 3
"""How often the interval of that age is halved: it is known to an eighth of itself."""

COUNTED_EACH_TIME = 100_000
"""Up to so many memories, the store is counted for each answer; beyond, the gauge of the worker is shown."""

_State = Literal["ok", "problem", "off", "elsewhere"]


class PipelineView:
    """Reads the state of all parts. `worker` is the worker of this process; None in the distributed shape."""

    def __init__(
        self, service: str, parts: QueryParts, checks: ReadinessChecks, worker: Worker | None = None
    ) -> None:
        self._service = service
        self._parts = parts
        self._checks = checks
        self._worker = worker

    async def read(self) -> Pipeline:
        """The state as of now. An outage is part of the answer. Never raises LorestreamError."""
        parts = self._parts
        measured = Measurements(parts.metrics.registry)
        ready = await self._checks.results()
        try:
            partitions = await self._partitions()
            lag_s = await self._lag_s(partitions, measured)
        except LorestreamError:
            partitions, lag_s = None, None
        collections = [
            PipelineCollection(
                one.name,
                searched=one.active,
                whole=one.complete,
                switching=one.switching,
                model=one.model.model_id,
                dim=one.model.dim,
                behind=await self._behind(parts.collections.group_of(one), one.active, partitions),
            )
            for one in parts.collections.listed
        ]
        return Pipeline(
            service=self._service,
            at=parts.clock.now(),
            parts=[
                self._gateway(measured),
                self._log(measured, ready, partitions),
                self._indexing(measured, ready, partitions),
                await self._store(measured, ready),
                self._cache(measured, ready),
                self._queries(measured, ready),
            ],
            partitions=partitions or [],
            collections=collections,
            lag_records=None if partitions is None else sum(one.behind for one in partitions),
            lag_seconds=lag_s,
        )

    # --- progress in the log -----------------------------------------------------------------------------------

    async def _partitions(self) -> list[PartitionProgress]:
        parts = self._parts
        ends, finished = await parts.log.end(), await self._finished()
        owners = await parts.log.owners(parts.group)
        return [
            PartitionProgress(
                number, end, at := min(end, finished.get(number, 0)), end - at, owners.get(number)
            )
            for number, end in sorted(ends.items())
        ]

    async def _finished(self) -> Mapping[int, int]:
        """The watermarks of the worker here, which commits them every few seconds; else what the group has committed."""
        parts = self._parts
        first = {number: offset for number, (offset, _) in (await parts.log.offsets_for_time(0)).items()}
        committed = await parts.log.committed(parts.group)
        here = {} if self._worker is None else self._worker.indexer.checkpoint.offsets.watermarks()
        return {**first, **committed, **here}

    async def _behind(
        self, group: str, searched: bool, partitions: Sequence[PartitionProgress] | None
    ) -> int | None:
        """How many records a collection lacks; of one that is not searched, by what its group has committed."""
        if partitions is None:
            return None
        if searched:
            return sum(one.behind for one in partitions)
        try:
            committed = await self._parts.log.committed(group)
        except LorestreamError:
            return None
        return sum(max(0, one.end - committed.get(one.partition, 0)) for one in partitions)

    async def _lag_s(self, partitions: Sequence[PartitionProgress], measured: Measurements) -> float:
        if self._worker is not None:
            return (
                measured.value("lorestream_consumer_lag_seconds")
                if any(p.behind for p in partitions)
                else 0.0
            )
        return await oldest_age_s(self._parts.log, partitions, self._parts.clock.now())

    # --- the parts -----------------------------------------------------------------------------------------------

    def _gateway(self, measured: Measurements) -> PipelinePart:
        if self._worker is None:
            return _elsewhere(
                "gateway", "each gateway counts for itself: GET /metrics of its address, port 8081 by default"
            )
        name = "lorestream_ingest_events_total"
        counters = {
            result: measured.value(name, result=result) for result in ("accepted", "rejected", "refused")
        }
        return PipelinePart("gateway", "in this process", "ok", None, counters, {}, [])

    def _log(
        self,
        measured: Measurements,
        ready: Mapping[str, str],
        partitions: Sequence[PartitionProgress] | None,
    ) -> PipelinePart:
        state, note = _judged(ready, "log")
        counters = {"records": float(sum(one.end for one in partitions))} if partitions is not None else {}
        counters["lost_unread"] = measured.value("lorestream_lost_records_total")
        gauges = {} if partitions is None else {"behind": float(sum(one.behind for one in partitions))}
        return PipelinePart("log", self._parts.settings.log.kind, state, note, counters, gauges, [])

    def _indexing(
        self,
        measured: Measurements,
        ready: Mapping[str, str],
        partitions: Sequence[PartitionProgress] | None,
    ) -> PipelinePart:
        finished = {} if partitions is None else {"finished": float(sum(one.finished for one in partitions))}
        if self._worker is None:
            owners = {one.owner for one in partitions or () if one.owner is not None}
            if partitions is not None and not owners:
                note = "no worker has joined the consumer group: start `lorestream worker`"
                return PipelinePart(
                    "worker", "other processes", "problem", note, finished, {"workers": 0}, []
                )
            note = "the durations of its stages: GET /metrics of each worker, port 8000 by default"
            gauges = {"workers": float(len(owners))}
            return PipelinePart("worker", "other processes", "elsewhere", note, finished, gauges, [])
        state, note = _judged(ready, "indexer")
        counters = {
            **finished,
            "embedded": measured.value("lorestream_embed_texts_total", source="model"),
            "embedded_from_cache": measured.value("lorestream_embed_texts_total", source="cache"),
            "dead_letters": measured.value("lorestream_dlq_records_total"),
            "skipped": measured.value("lorestream_skipped_records_total"),
        }
        timings = [
            *measured.timings("lorestream_stage_duration_seconds", "stage"),
            *measured.timings("lorestream_event_visible_seconds", None, "accepted until findable"),
        ]
        return PipelinePart(
            "worker", self._parts.embedder.model_id, state, note, counters, {"workers": 1.0}, timings
        )

    async def _store(self, measured: Measurements, ready: Mapping[str, str]) -> PipelinePart:
        state, note = _judged(ready, "store")
        gauges = {"memories": measured.value("lorestream_store_memories")}
        if (size := measured.value("lorestream_store_bytes")) > 0:
            gauges["bytes"] = size
        if self._worker is None:  # the gauges are set by a worker
            gauges = {}
        # The worker sets them once in a while: a small store may have grown to many times that meanwhile.
        if state == "ok" and gauges.get("memories", 0) < COUNTED_EACH_TIME:
            try:
                gauges["memories"] = float(await self._parts.store.size(now=self._parts.clock.now()))
            except LorestreamError as error:
                state, note = "problem", str(error)
        return PipelinePart("store", self._parts.settings.store.kind, state, note, {}, gauges, [])

    def _cache(self, measured: Measurements, ready: Mapping[str, str]) -> PipelinePart:
        kind = self._parts.settings.cache.kind
        state, note = _judged(ready, "cache")
        if self._parts.cache is None:
            state = "off"
        name = "lorestream_cache_requests_total"
        counters = {result: measured.value(name, result=result) for result in ("hit", "miss")}
        return PipelinePart("cache", kind, state, note, {} if state == "off" else counters, {}, [])

    def _queries(self, measured: Measurements, ready: Mapping[str, str]) -> PipelinePart:
        state, note = _judged(ready, "embedder")
        whole = measured.timings("lorestream_query_duration_seconds", "api")
        timings = [
            *(replace(one, stage=f"{one.stage}, whole") for one in whole),  # "search" is a stage, too
            *measured.timings("lorestream_query_stage_seconds", "stage"),
        ]
        counters = {"answered": measured.value("lorestream_query_duration_seconds_count")}
        return PipelinePart("query", "in this process", state, note, counters, {}, timings)


async def oldest_age_s(log: EventLog, partitions: Sequence[PartitionProgress], now: float) -> float:
    """About how long ago the oldest record that is not finished was appended, in seconds; 0 without one.

    The log tells which record was the first at or after a time: the age is found by asking for older and older times,
    and is known to an eighth of itself. Raises Unavailable.
    """
    waiting = {one.partition: one.finished for one in partitions if one.behind > 0}
    if not waiting:
        return 0.0

    async def all_younger(age_s: float) -> bool:
        """Whether every record that is waited for was appended at most `age_s` ago."""
        found = await log.offsets_for_time(max(0.0, now - age_s))
        return all(number in found and found[number][0] <= at for number, at in waiting.items())

    low, high = 0.0, 1.0
    for _ in range(OLDEST_AGE_STEPS):
        if await all_younger(high):
            break
        low, high = high, high * 2
    for _ in range(AGE_REFINEMENTS):
        middle = (low + high) / 2
        low, high = (low, middle) if await all_younger(middle) else (middle, high)
    return high


def _judged(ready: Mapping[str, str], check: str) -> tuple[_State, str | None]:
    """State and note of a part by its readiness check; a part without a check is in order."""
    result = ready.get(check, OK)
    return ("ok", None) if result == OK else ("problem", result)


def _elsewhere(name: Literal["gateway"], note: str) -> PipelinePart:
    return PipelinePart(name, "other processes", "elsewhere", note, {}, {}, [])
