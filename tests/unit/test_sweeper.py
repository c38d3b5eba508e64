"""What time takes away goes in bounded steps, and an outage only postpones it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engram.errors import Unavailable
from engram.memories import PageQuery, Scope
from engram.ports import Tombstone
from stream_workers.sweeper import STEP, Sweeper
from tests.parts import Faulty, open_parts, pipeline_over, put, records, texts


class StoppedClock:
    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time


async def test_expired_memories_and_overaged_tombstones_go(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        now = runtime.clock.now()
        pipeline = pipeline_over(runtime)
        doomed = [put(f"{n}", event_id=f"{n}", expires_at=now + 50) for n in range(STEP + 7)]
        await pipeline.apply(await pipeline.prepare(records(put("stays", event_id="stays"), *doomed)))
        await runtime.store.bury(
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
