"""What a drop, a replay or a compaction leaves that was broken off: it is cleared away, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from lorestream import events
from lorestream.admin import NoArguments
from lorestream.collections.catalogue import REPLACED_RETENTION_S, Model
from lorestream.errors import OperationRefused
from lorestream.wiring import Runtime
from stream_workers.rebuild.alias_swap import AliasTasks, DropArguments
from stream_workers.rebuild.compaction import Compaction
from stream_workers.rebuild.replay import Replay, ReplayArguments
from tests.parts import open_parts, put, texts, working
from tests.retrieval.reader import SetClock

EDGE = {"store": {"kind": "edge"}}
SAME = Model("hash-v1-384", 384, "hash", "hash")


@contextlib.asynccontextmanager
async def lorestream(data: Path) -> AsyncGenerator[Runtime]:
    async with open_parts(data, **EDGE) as runtime, working(runtime):
        yield runtime


async def write(runtime: Runtime, *words: str) -> None:
    last = await runtime.log.append([events.encode(put(one, event_id=one)) for one in words])
    assert await runtime.watermarks.reached(last, 60)


def later(runtime: Runtime) -> Runtime:
    """The same parts, when nobody can be using any more what was just withdrawn."""
    return replace(runtime, clock=SetClock(time.time() + REPLACED_RETENTION_S + 1))


def directories(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "store").iterdir() if path.is_dir())


async def spare(runtime: Runtime) -> None:
    """A second collection, open and fed."""
    await runtime.collections.catalogue.create("spare", SAME, secrets.token_hex(4))
    [collection] = [
        await runtime.collections.ensure_open(one)
        for one in await runtime.collections.refresh()
        if one.name == "spare"
    ]
    assert await collection.watermarks.reached({0: 0}, 60)


async def drop_broken_off(runtime: Runtime) -> None:
    """Who asked for it goes away before anything is deleted."""
    await spare(runtime)
    dropping = asyncio.create_task(last(AliasTasks(runtime).drop(DropArguments("spare"))))
    while not await runtime.collections.catalogue.pending_deletions():
        assert not dropping.done()
        await asyncio.sleep(0)
    dropping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await dropping


async def last(reports: object) -> object:
    return [one async for one in reports][-1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", ["drop", "list", "replay"])
async def test_the_next_verb_deletes_what_a_drop_has_left_once_nobody_uses_it(
    tmp_path: Path, verb: str
) -> None:
    async with lorestream(tmp_path) as runtime:
        await write(runtime, "stays")
        await drop_broken_off(runtime)
        there = directories(tmp_path)
        assert len(there) == 2
        with pytest.raises(OperationRefused, match="is being dropped"):
            await last(AliasTasks(runtime).drop(DropArguments("spare")))
        await last(AliasTasks(runtime).list_(NoArguments()))
        assert directories(tmp_path) == there  # it may still be in use
        async with asyncio.timeout(60):
            while runtime.collections.is_open("spare"):
                await asyncio.sleep(0.05)
        match verb:
            case "drop":
                with pytest.raises(Exception, match="there is no collection spare"):
                    await last(AliasTasks(later(runtime)).drop(DropArguments("spare")))
            case "list":
                await last(AliasTasks(later(runtime)).list_(NoArguments()))
            case _:
                with pytest.raises(OperationRefused, match="searched at present"):
                    await last(Replay(later(runtime)).run(ReplayArguments("agent_memories")))
        assert directories(tmp_path) == ["agent_memories"]
        await spare(runtime)  # the name is free
        await write(runtime, "one more")
        assert await texts(runtime) == ["one more", "stays"]


async def test_what_a_killed_process_has_left_goes_after_the_next_start(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as runtime:
        await write(runtime, "stays")
        await drop_broken_off(runtime)
        stranger = tmp_path / "store" / "stranger"
        stranger.mkdir()
    async with lorestream(tmp_path) as runtime:
        assert "spare" in directories(tmp_path)
        await Compaction(runtime).clear_away()
        assert directories(tmp_path) == ["agent_memories", "stranger"]
        assert await texts(runtime) == ["stays"]


async def test_consumers_of_no_collection_hold_the_log_back_no_longer(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as runtime:
        await write(runtime, "stays")
        await spare(runtime)
        # A process that was killed between this and the making of the collection.
        await runtime.log.set_group_offsets("indexer.never.made", {0: 0})
        compaction = Compaction(runtime)
        await compaction.clear_away()
        assert "indexer.never.made" in await runtime.log.groups()  # it may be made at this moment
        await compaction.clear_away()
        assert "indexer.never.made" not in await runtime.log.groups()
        kept = {runtime.collections.group_of(one) for one in runtime.collections.listed}
    async with lorestream(tmp_path) as runtime:  # at its end every feed has committed
        compaction = Compaction(runtime)
        await compaction.clear_away()
        await compaction.clear_away()
        assert set(await runtime.log.groups()) == kept
        assert len(kept) == 2
