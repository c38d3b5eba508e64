"""One worker over several collections: what ends it, and which of its memories are reported as findable."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lorestream import events
from lorestream.collections.catalogue import Model
from lorestream.errors import Unavailable
from lorestream.push.selection import Selection
from lorestream.push.stream import MemoryStream
from lorestream.wiring import OpenCollection, Runtime
from lorestream.wiring.feeds import feed_over
from stream_workers.indexing.failures import DeadLetterPolicy, IndexingFailed
from stream_workers.rebuild.alias_swap import drop_collection, switch_alias
from stream_workers.worker import Worker
from tests.parts import open_parts, put, running

SAME = Model("hash-v1-384", 384, "hash", "hash")


async def create(runtime: Runtime, name: str) -> OpenCollection:
    await runtime.collections.catalogue.create(name, SAME, "run")
    listed = {one.name: one for one in await runtime.collections.refresh()}
    return await runtime.collections.ensure_open(listed[name])


async def write(runtime: Runtime, *numbers: int) -> None:
    records = [events.encode(put(f"m{n}", event_id=f"{n}")) for n in numbers]
    positions = await runtime.log.append(records)
    assert await runtime.watermarks.reached(positions, 60)


async def test_a_worker_whose_searched_collection_fails_ends_while_another_waits_out_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "STOP_TIMEOUT_S", 0.1)
    monkeypatch.setattr(DeadLetterPolicy, "MAX_CONSECUTIVE_FAULTS", 1)
    async with open_parts(tmp_path) as runtime:
        searched, other = runtime.collections.current, await create(runtime, "other")
        waits, broken = asyncio.Event(), asyncio.Event()

        async def unavailable(*_: Any, **_named: Any) -> None:
            waits.set()
            raise Unavailable("the disk is away")

        async def fail(*_: Any, **_named: Any) -> None:
            await broken.wait()
            raise RuntimeError("broken")

        monkeypatch.setattr(other.store, "insert", unavailable)
        monkeypatch.setattr(searched.store, "insert", fail)
        running = asyncio.create_task(Worker(runtime).run())
        await runtime.log.append([events.encode(put("x"))])
        await waits.wait()
        broken.set()
        async with asyncio.timeout(60):
            with pytest.raises(IndexingFailed, match="broken"):
                await running


async def test_a_stream_goes_on_after_the_collection_of_the_start_was_dropped(tmp_path: Path) -> None:
    texts: list[str] = []
    async with (
        open_parts(tmp_path) as runtime,
        feed_over(runtime) as feed,
        running(Worker(runtime)),
        MemoryStream.open(feed, Selection("default")) as stream,
    ):
        first = runtime.collections.current
        await write(runtime, 1)
        other = await create(runtime, "other")
        await runtime.collections.catalogue.mark_complete("other")
        assert not await switch_alias(runtime, other)
        await drop_collection(runtime, first.collection)
        await write(runtime, 2)
        async for items in stream.items():
            texts += [item.memory.text for item in items if item.memory]
            if "m2" in texts:
                break
    assert texts == ["m1", "m2"]


async def test_a_worker_goes_on_when_the_store_of_a_dropped_collection_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_parts(tmp_path) as runtime:
        first, closed = runtime.collections.current, asyncio.Event()
        close = runtime.collections.catalogue.close

        async def fail(name: str) -> None:
            await close(name)
            if name == first.name and not closed.is_set():
                closed.set()
                raise Unavailable("the disk is away")

        monkeypatch.setattr(runtime.collections.catalogue, "close", fail)
        async with running(Worker(runtime)):
            await write(runtime, 1)
            other = await create(runtime, "other")
            await runtime.collections.catalogue.mark_complete("other")
            assert not await switch_alias(runtime, other)
            await drop_collection(runtime, first.collection)
            await closed.wait()
            await write(runtime, 2)
        monkeypatch.undo()
