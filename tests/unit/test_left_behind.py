"""What an interrupted drop, replay or compaction leaves is deleted, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from lorestream import events
from lorestream.admin import NoArguments, Outcome
from lorestream.collections.catalogue import (
    CREATION_TIMEOUT_S,
    REPLACED_RETENTION_S,
    Model,
    retention_left_s,
)
from lorestream.errors import OperationRefused
from lorestream.wiring import Runtime
from stream_workers.rebuild.alias_swap import AliasTasks, DropArguments
from stream_workers.rebuild.compaction import Compaction
from stream_workers.rebuild.replay import Replay, ReplayArguments
from tests.http_gateway import SetClock
from tests.parts import open_parts, put, running_worker, texts

EDGE = {"store": {"kind": "edge"}}
SAME = Model("hash-v1-384", 384, "hash", "hash")


@contextlib.asynccontextmanager
async def lorestream(data: Path) -> AsyncGenerator[Runtime]:
    async with open_parts(data, **EDGE) as runtime, running_worker(runtime):
        yield runtime


async def write(runtime: Runtime, *words: str) -> None:
    last = await runtime.log.append([events.encode(put(one, event_id=one)) for one in words])
    assert await runtime.watermarks.reached(last, 60)


def later(runtime: Runtime) -> Runtime:
    """The same parts with a later clock: no process can still use a collection that was marked as deleted before."""
    return replace(runtime, clock=SetClock(time.time() + REPLACED_RETENTION_S + 1))


def directories(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "store").iterdir() if path.is_dir())


async def create_spare(runtime: Runtime) -> None:
    """Create a second collection, and wait until the worker has indexed into it."""
    await runtime.collections.catalogue.create("spare", SAME, secrets.token_hex(4))
    [collection] = [
        await runtime.collections.ensure_open(one)
        for one in await runtime.collections.refresh()
        if one.name == "spare"
    ]
    assert await collection.watermarks.reached({0: 0}, 60)


async def interrupted_drop(runtime: Runtime) -> None:
    """A drop that is cancelled after the mark and before the deletion."""
    await create_spare(runtime)
    dropping = asyncio.create_task(outcome(AliasTasks(runtime).drop(DropArguments("spare"))))
    while not await runtime.collections.catalogue.pending_deletions():
        assert not dropping.done()
        await asyncio.sleep(0)
    dropping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await dropping


async def outcome(reports: object) -> object:
    return [one async for one in reports][-1]  # type: ignore[attr-defined]


async def test_a_collection_that_was_replaced_in_the_future_can_be_dropped(tmp_path: Path) -> None:
    """The clock was wrong at the swap, and was set back: nobody has to wait until that time has come."""
    async with lorestream(tmp_path) as runtime:
        await write(runtime, "x")
        await create_spare(runtime)
        catalogue, drop = runtime.collections.catalogue, DropArguments("agent_memories", dry_run=True)
        await catalogue.swap("spare", time.time())
        with pytest.raises(OperationRefused, match=r"try again in \d\d s"):
            await outcome(AliasTasks(runtime).drop(drop))
        await catalogue.swap("agent_memories", time.time())
        await catalogue.swap("spare", time.time() + 70 * 86_400)
        assert await outcome(AliasTasks(runtime).drop(drop)) == Outcome(
            {"dropped": "agent_memories", "dry_run": True}
        )


def test_how_long_a_collection_is_kept() -> None:
    assert retention_left_s(1000.0, 1010.0, 60.0) == 50.0
    assert retention_left_s(1000.0, 1060.0, 60.0) == 0.0
    assert retention_left_s(1000.0 + CREATION_TIMEOUT_S, 1000.0, 60.0) == CREATION_TIMEOUT_S + 60.0
    assert retention_left_s(9000.0, 1000.0, 60.0) == 0.0
    assert retention_left_s(-math.inf, 1000.0, 60.0) == 0.0


@pytest.mark.parametrize("verb", ["drop", "list", "replay"])
async def test_the_next_verb_deletes_what_a_drop_left_once_no_process_can_use_it(
    tmp_path: Path, verb: str
) -> None:
    async with lorestream(tmp_path) as runtime:
        await write(runtime, "stays")
        await interrupted_drop(runtime)
        there = directories(tmp_path)
        assert len(there) == 2
        with pytest.raises(OperationRefused, match="is just being created or dropped"):
            await outcome(AliasTasks(runtime).drop(DropArguments("spare")))
        await outcome(AliasTasks(runtime).list_(NoArguments()))
        assert directories(tmp_path) == there  # it may still be in use
        async with asyncio.timeout(60):
            while runtime.collections.is_open("spare"):
                await asyncio.sleep(0.05)
        match verb:
            case "drop":
                with pytest.raises(Exception, match="there is no collection spare"):
                    await outcome(AliasTasks(later(runtime)).drop(DropArguments("spare")))
            case "list":
                await outcome(AliasTasks(later(runtime)).list_(NoArguments()))
            case _:
                with pytest.raises(OperationRefused, match="searched at present"):
                    await outcome(Replay(later(runtime)).run(ReplayArguments("agent_memories")))
        assert directories(tmp_path) == ["agent_memories"]
        await create_spare(runtime)  # the name is free
        await write(runtime, "one more")
        assert await texts(runtime) == ["one more", "stays"]


async def test_what_a_killed_process_left_is_deleted_after_the_next_start(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as runtime:
        await write(runtime, "stays")
        await interrupted_drop(runtime)
        stranger = tmp_path / "store" / "stranger"
        stranger.mkdir()
    async with lorestream(tmp_path) as runtime:
        assert "spare" in directories(tmp_path)
        await Compaction(runtime).clean_up()
        assert directories(tmp_path) == ["agent_memories", "stranger"]
        assert await texts(runtime) == ["stays"]


async def test_consumer_groups_without_a_collection_are_deleted(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as runtime:
        await write(runtime, "stays")
        await create_spare(runtime)
        # Left by a process that was killed between this call and the creation of the collection.
        await runtime.log.set_group_offsets("indexer.never.made", {0: 0})
        compaction = Compaction(runtime)
        await compaction.clean_up()
        assert "indexer.never.made" in await runtime.log.groups()  # its collection may be just being created
        await compaction.clean_up()
        assert "indexer.never.made" not in await runtime.log.groups()
        kept = {runtime.collections.group_of(one) for one in runtime.collections.listed}
    async with lorestream(tmp_path) as runtime:  # at the end of the block before, every indexer committed
        compaction = Compaction(runtime)
        await compaction.clean_up()
        await compaction.clean_up()
        assert set(await runtime.log.groups()) == kept
        assert len(kept) == 2
