"""Removal by age and number works in bounded steps; an outage postpones it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.admin.dead_letters import DeadLetters
from lorestream.errors import Unavailable
from lorestream.events import encode
from lorestream.memories import AgentKey, PageQuery, Scope
from lorestream.ports import Tombstone
from lorestream.wiring import Runtime
from stream_workers.sweeper import STEP, Sweeper
from tests.parts import Faulty, open_parts, pipeline_over, put, records, running_worker, texts


class StoppedClock:
    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time


async def test_expired_memories_and_old_tombstones_are_removed(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        now = runtime.clock.now()
        pipeline = pipeline_over(runtime)
        doomed = [put(f"{n}", event_id=f"{n}", expires_at=now + 50) for n in range(STEP + 7)]
        await pipeline.apply(await pipeline.prepare(records(put("stays", event_id="stays"), *doomed)))
        await runtime.store.put_tombstones(
            [Tombstone("default", "a", "00000000-0000-0000-0000-000000000001", now - 100)]
        )
        clock = StoppedClock(now)
        sweeper = Sweeper(runtime.store, clock, tombstone_life_s=1000, interval_s=1)
        assert await sweeper.sweep() == 0
        clock.time = now + 60
        assert await sweeper.sweep() == STEP + 7
        clock.time = now + 1000
        assert await sweeper.sweep() == 1
        assert await runtime.store.count(PageQuery(Scope("default"), limit=1, now=0)) == 1
        assert await texts(runtime) == ["stays"]


async def test_an_outage_postpones_a_sweep(tmp_path: Path) -> None:
    outages = iter([True, False])
    swept = asyncio.Event()

    def fail(**_: object) -> None:
        if next(outages):
            raise Unavailable("the store is away")
        swept.set()

    async with open_parts(tmp_path) as runtime:
        store = Faulty(runtime.store, sweep=fail)
        sweeper = Sweeper(store, runtime.clock, tombstone_life_s=1, interval_s=0.01)  # type: ignore[arg-type]
        running = asyncio.create_task(sweeper.run())
        await asyncio.wait_for(swept.wait(), 10)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()


async def test_the_log_is_trimmed_although_the_store_can_remove_nothing(tmp_path: Path) -> None:
    """As on a full disk: the trim of the log is what makes room again."""
    trimmed = asyncio.Event()

    def fail(**_: object) -> None:
        raise Unavailable("no space")

    async def trim_log() -> int:
        trimmed.set()
        return 1

    async with open_parts(tmp_path) as runtime:
        store = Faulty(runtime.store, sweep=fail)
        sweeper = Sweeper(store, runtime.clock, tombstone_life_s=1, interval_s=0.01, trim_log=trim_log)  # type: ignore[arg-type]
        running = asyncio.create_task(sweeper.run())
        await asyncio.wait_for(trimmed.wait(), 10)
        running.cancel()
        await asyncio.wait({running})


async def test_the_log_is_trimmed_although_dead_letters_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed: list[SqliteLog] = []

    async def trim(log: SqliteLog) -> int:
        trimmed.append(log)
        return 1

    async def fail(_dead_letters: DeadLetters) -> int:
        raise Unavailable("no space")

    monkeypatch.setattr(SqliteLog, "trim", trim)
    monkeypatch.setattr(DeadLetters, "remove_erased", fail)
    async with open_parts(tmp_path) as runtime:
        assert runtime.trim is not None
        with pytest.raises(Unavailable):
            await runtime.trim()
        assert len(trimmed) == 1


async def test_only_the_newest_of_each_agent_are_kept(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        pipeline = pipeline_over(runtime)
        crowd = [put(f"crowd {n}", agent="b", event_id=f"{n}", at=1000.0 + n) for n in range(STEP + 9)]
        few = [put(f"few {n}", event_id=f"{n}", at=1000.0 + n) for n in range(3)]
        await pipeline.apply(await pipeline.prepare(records(*crowd, *few)))
        sweeper = _trimming(runtime, keep=4)
        assert await sweeper.trim() == STEP + 5
        assert await texts(runtime, "b") == [f"crowd {STEP + n}" for n in range(5, 9)]
        assert len(await texts(runtime, "a")) == 3
        assert await sweeper.trim() == 0
        # An old memory that arrives late is trimmed as well.
        late = put("late", agent="b", event_id="late", at=5.0)
        await pipeline.apply(await pipeline.prepare(records(late)))
        assert await sweeper.trim() == 1
        assert "late" not in await texts(runtime, "b")


async def test_the_cache_is_invalidated_after_a_trim_even_if_it_was_unavailable(tmp_path: Path) -> None:
    outages = iter([True, True, False])

    def fail(*_: object) -> None:
        if next(outages):
            raise Unavailable("the cache is away")

    agent, other = AgentKey("default", "a"), AgentKey("default", "b")
    async with open_parts(tmp_path) as runtime:
        assert runtime.cache is not None
        cache = Faulty(runtime.cache, invalidate=fail)
        pipeline = pipeline_over(runtime)
        two = [put(f"{n}", event_id=f"{n}", at=1000.0 + n) for n in range(2)]
        await pipeline.apply(await pipeline.prepare(records(*two, put("of b", agent="b"))))
        for each in (agent, other):
            _, generation = await runtime.cache.get(each, b"question")
            await runtime.cache.put(each, b"question", b"both", generation, 60)
        sweeper = _trimming(runtime, keep=1, cache=cache)
        assert await sweeper.trim() == 1
        assert await sweeper.trim() == 0
        assert (await runtime.cache.get(agent, b"question"))[0] == b"both"
        assert await sweeper.trim() == 0
        assert (await runtime.cache.get(agent, b"question"))[0] is None
        assert (await runtime.cache.get(other, b"question"))[0] == b"both"
        assert await sweeper.trim() == 0


async def test_a_worker_trims_according_to_the_settings(tmp_path: Path) -> None:
    chosen = {"keep_per_agent": 2, "sweep_interval_s": 0.05}
    async with open_parts(tmp_path, **chosen) as runtime:
        events = [put(f"{n}", event_id=f"{n}", at=1000.0 + n) for n in range(5)]
        await runtime.log.append([encode(one) for one in events])
        async with running_worker(runtime), asyncio.timeout(60):
            while await texts(runtime) != ["3", "4"]:
                await asyncio.sleep(0.02)


def _trimming(runtime: Runtime, *, keep: int, cache: object = None) -> Sweeper:
    return Sweeper(
        runtime.store,
        runtime.clock,
        tombstone_life_s=1000,
        interval_s=1,
        keep_per_agent=keep,
        cache=cache,  # type: ignore[arg-type]
    )
