"""The indexer: an outage loses nothing, and no offset is committed before its work is finished."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stamina

from lorestream import events
from lorestream.adapters.in_process.cache import LocalCache
from lorestream.errors import Misconfigured, Unavailable
from lorestream.memories import Erasure, Memory, SubjectKind
from lorestream.ports import NewRecord, Record
from lorestream.wiring import Runtime
from stream_workers.indexing.failures import DeadLetterPolicy, IndexingFailed, RetryUntilAvailable
from stream_workers.indexing.indexer import GROUP, BatchLimits, Indexer
from stream_workers.indexing.pipeline import Applied, Batch, Pipeline
from stream_workers.indexing.vectors import CHUNK_SIZE, Throttle
from tests.parts import (
    Faulty,
    indexer_over,
    open_parts,
    pipeline_over,
    put,
    read_dead_letters,
    running,
    texts,
)


def indexer(runtime: Runtime, *, store: object = None, batch: int = 4) -> Indexer:
    return indexer_over(runtime, store, limits=BatchLimits(records=batch, age_s=0))  # type: ignore[arg-type]


async def fill(runtime: Runtime, count: int, first: int = 0) -> dict[int, int]:
    puts = [put(f"event {n:03}", event_id=str(n), at=1000.0 + n) for n in range(first, first + count)]
    return await runtime.log.append([events.encode(each) for each in puts])


def failing(times: int) -> Callable[..., None]:
    left = iter(range(times))

    def fail(*_args: object, **_kwargs: object) -> None:
        if next(left, None) is not None:
            raise Unavailable("the store is away")

    return fail


async def test_a_burst_drains_the_log_commits_and_ends(tmp_path: Path) -> None:
    async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
        await fill(runtime, 21)
        worker = indexer(runtime)
        await worker.run(burst=True)
        assert await texts(runtime) == [f"event {n:03}" for n in range(21)]
        assert await runtime.log.committed(GROUP) == {0: 21}
    async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
        await fill(runtime, 2, first=21)
        again = indexer(runtime)
        await again.run(burst=True)
        assert await runtime.log.committed(GROUP) == {0: 23}
        assert len(await texts(runtime)) == 23


async def test_an_outage_of_the_store_is_waited_out(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 10)
        store = Faulty(runtime.store, insert=failing(3))
        with stamina.set_testing(False):
            await indexer(runtime, store=store).run(burst=True)
        assert store.calls.count("insert") > 3
        assert len(await texts(runtime)) == 10
        assert await read_dead_letters(runtime.log) == []  # type: ignore[attr-defined]


async def test_during_an_outage_of_the_store_the_problem_is_shown_and_nothing_committed(
    tmp_path: Path,
) -> None:
    async with open_parts(tmp_path) as runtime:
        end = await fill(runtime, 3)
        worker = indexer(runtime, store=Faulty(runtime.store, insert=failing(10**9)))
        running = asyncio.create_task(worker.run())
        while worker.problem != "store: the store is away":
            await asyncio.sleep(0.01)
        assert await runtime.watermarks.reached(end, 0) is False
        worker.stop()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await runtime.log.committed(GROUP) == {}


async def test_an_undecodable_record_becomes_a_dead_letter_and_the_others_are_stored(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 2)
        await runtime.log.append([NewRecord(b"key", b"rubbish", {"schema": b"1"})])
        await fill(runtime, 2, first=2)
        await indexer(runtime).run(burst=True)
        [stored] = await read_dead_letters(runtime.log)
        assert stored.dead_letter.record.value == b"rubbish"
        assert stored.dead_letter.reason == "undecodable"
        assert len(await texts(runtime)) == 4
        assert await runtime.log.committed(GROUP) == {0: 5}


async def test_an_unexpected_error_makes_a_dead_letter_of_the_record_that_causes_it_only(
    tmp_path: Path,
) -> None:
    def crash(memories: list[object], _vectors: object, **_how: bool) -> None:
        if any("005" in memory.text for memory in memories):  # type: ignore[attr-defined]
            raise RuntimeError("a defect")

    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 12)
        await indexer(runtime, store=Faulty(runtime.store, insert=crash)).run(burst=True)
        [stored] = await read_dead_letters(runtime.log)
        assert stored.dead_letter.reason == "unprocessable"
        assert len(await texts(runtime)) == 11


async def test_a_misconfiguration_stops_the_indexer_and_makes_no_dead_letter(tmp_path: Path) -> None:
    def refuse(*_: object, **_how: bool) -> None:
        raise Misconfigured("the store wants another key")

    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 1)
        with pytest.raises(IndexingFailed, match="another key"):
            await indexer(runtime, store=Faulty(runtime.store, insert=refuse)).run()
        assert await read_dead_letters(runtime.log) == []
        assert await runtime.log.committed(GROUP) == {}
        await indexer(runtime).run(burst=True)
        assert await texts(runtime) == ["event 000"]


async def test_a_cancelled_revocation_still_gives_the_partitions_up(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 1)
        worker = indexer(runtime, store=Faulty(runtime.store, insert=failing(10**9)))
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(10):
            while not worker.checkpoint.offsets.in_progress({0}):
                await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await worker.revoked([0])
        assert worker.partitions == frozenset()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_batches_from_before_a_rebalance_do_not_delay_those_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns the partitions now reads their records again: applied here, they would only take time."""
    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 12)
        release, inserted, prepared = asyncio.Event(), list[str](), list[int]()
        store: Any = runtime.store
        insert, prepare = store.insert, Pipeline.prepare

        async def slow_insert(memories: Sequence[Memory], vectors: Any, **how: bool) -> None:
            inserted.extend(memory.text for memory in memories)
            await release.wait()
            await insert(memories, vectors, **how)

        async def noted_prepare(pipeline: Pipeline, records: Sequence[Record]) -> Batch:
            batch = await prepare(pipeline, records)
            prepared.extend(record.offset for record in records)
            return batch

        monkeypatch.setattr(store, "insert", slow_insert)
        monkeypatch.setattr(Pipeline, "prepare", noted_prepare)
        worker = indexer(runtime)
        async with running(worker):
            async with asyncio.timeout(10):
                while not (inserted and len(prepared) == 12):
                    await asyncio.sleep(0.01)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await worker.revoked([0])
            await worker.assigned({0: 12})
            after = await fill(runtime, 1, first=12)
            release.set()
            assert await runtime.watermarks.reached(after, 10)
        assert inserted == [f"event {n:03}" for n in (0, 1, 2, 3, 12)]


async def test_while_a_revocation_waits_for_a_batch_in_the_background_it_is_not_slowed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All members of the group wait, and a batch that is not finished in time is done again by another."""
    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 5 * CHUNK_SIZE)
        store: Any = runtime.store
        insert, sizes, revoking = store.insert, list[int](), list[asyncio.Task[None]]()

        async def noted_insert(memories: Sequence[Memory], vectors: Any, **how: bool) -> None:
            sizes.append(len(memories))
            if not revoking:
                revoking.append(asyncio.create_task(worker.revoked([0])))
                await asyncio.sleep(0)
            await insert(memories, vectors, **how)

        monkeypatch.setattr(store, "insert", noted_insert)
        pipeline = replace(pipeline_over(runtime), throttle=Throttle(is_foreground=lambda: False))
        worker = Indexer(runtime.log, pipeline, None, cache=None)
        async with running(worker):
            async with asyncio.timeout(10):
                while not revoking:
                    await asyncio.sleep(0.01)
                await revoking[0]
        assert sizes == [CHUNK_SIZE, 4 * CHUNK_SIZE]
        assert await runtime.log.committed(GROUP) == {0: 5 * CHUNK_SIZE}


async def test_batches_that_wait_for_the_cache_keep_no_memories_and_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They waited for 65 s with everything in them: 8 KB an event."""
    apply, vectors = Pipeline.apply, list[weakref.ref[Any]]()

    async def noted_apply(self: Pipeline, batch: Batch) -> Applied:
        vectors.append(weakref.ref(batch.vectors))
        return await apply(self, batch)

    monkeypatch.setattr(Pipeline, "apply", noted_apply)
    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 40)
        cache: Any = Faulty(LocalCache(), invalidate=failing(10**9))
        worker = indexer_over(runtime, cache=cache, limits=BatchLimits(records=4, age_s=0))
        async with running(worker):
            async with asyncio.timeout(10):
                while worker._invalidation.pending < 10:
                    await asyncio.sleep(0.01)
            gc.collect()
            assert [each() is None for each in vectors[:8]] == [True] * 8


async def test_a_batch_that_the_model_works_on_is_no_standstill(tmp_path: Path) -> None:
    async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
        worker = indexer(runtime)
        before = worker._stall._progress()
        await worker._pipeline.embedder.embed(["one of many"])
        assert worker._stall._progress() > before


async def test_when_every_record_fails_it_stops_after_a_few_dead_letters(tmp_path: Path) -> None:
    def crash(*_: object, **_how: bool) -> None:
        raise RuntimeError("a defect")

    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 100)
        worker = indexer(runtime, store=Faulty(runtime.store, insert=crash))
        with pytest.raises(IndexingFailed):
            await worker.run()
        assert worker.problem is not None
        aside = await read_dead_letters(runtime.log)
        assert len(aside) < DeadLetterPolicy.MAX_CONSECUTIVE_FAULTS


async def test_an_outage_is_over_when_a_call_to_the_same_part_succeeds() -> None:
    retry = RetryUntilAvailable()
    retry.problem = None
    outcomes = iter([Unavailable("away"), ValueError("a defect")])

    async def fail() -> None:
        raise next(outcomes)

    async def work() -> None:
        pass

    with pytest.raises(ValueError, match="defect"):
        await retry("embedder", fail)
    await retry("log", work)
    assert retry.problem == "embedder: away"
    await retry("embedder", work)
    assert retry.problem is None


async def test_only_finished_work_raises_the_watermark(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime, running(indexer(runtime)):
        end = await fill(runtime, 9)
        assert await runtime.watermarks.reached(end, 10)
        assert len(await texts(runtime)) == 9
        assert await runtime.watermarks.reached({0: end[0] + 1}, 0) is False


async def test_offsets_are_committed_only_after_a_flush(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 3)
        worker = indexer(runtime, store=Faulty(runtime.store, flush=failing(10**9)))
        await worker.run(burst=True)
        assert await runtime.log.committed(GROUP) == {}
        assert len(await texts(runtime)) == 3


async def test_events_do_not_wait_for_the_erasures_of_the_last_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a rebalance all of them are applied again, a few between two batches."""
    monkeypatch.setattr("stream_workers.indexing.indexer.ERASURES_PER_TURN", 2)
    async with open_parts(tmp_path) as runtime:
        await fill(runtime, 1)
        now = runtime.clock.now()
        for n in range(50):
            await runtime.ledger.add(Erasure(str(n), "default", SubjectKind.AGENT, (f"agent {n}",), now))
        prepared, calls = asyncio.Event(), list[str]()
        store: Any = runtime.store
        prepare, erase, insert = Pipeline.prepare, store.erase, store.insert

        async def prepare_and_tell(pipeline: Pipeline, records: Sequence[Record]) -> Batch:
            batch = await prepare(pipeline, records)
            prepared.set()
            return batch

        async def erase_when_prepared(erasure: Erasure) -> object:
            calls.append("erase")
            await prepared.wait()
            for _ in range(20):  # until the indexer can see it
                await asyncio.sleep(0)
            return await erase(erasure)

        async def noted_insert(*arguments: Any, **named: Any) -> object:
            calls.append("insert")
            return await insert(*arguments, **named)

        monkeypatch.setattr(Pipeline, "prepare", prepare_and_tell)
        monkeypatch.setattr(store, "erase", erase_when_prepared)
        monkeypatch.setattr(store, "insert", noted_insert)
        await indexer(runtime).run(burst=True)
        assert calls.index("insert") <= 6
        assert calls.count("erase") == 50


async def test_a_late_write_is_erased_when_the_ledger_learns_of_the_erasure(tmp_path: Path) -> None:
    """An indexer with an outdated ledger stores a covered memory, and the erasure's own record was processed elsewhere."""
    async with open_parts(tmp_path) as runtime, running(indexer(runtime)):
        end = await fill(runtime, 3)
        assert await runtime.watermarks.reached(end, 10)
        now = runtime.clock.now()
        late = events.encode(put("late", event_id="late", at=now - 10))
        assert await runtime.watermarks.reached(await runtime.log.append([late]), 10)

        await runtime.ledger.add(Erasure("e", "default", SubjectKind.AGENT, ("a",), now))

        async with asyncio.timeout(10):
            while await texts(runtime):
                await asyncio.sleep(0.05)
