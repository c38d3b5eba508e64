"""Compaction of the embedded store: living memories are copied, deleted ones leave the disk, reads and writes go on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from lorestream import events
from lorestream.errors import Unavailable
from lorestream.events import Erase
from lorestream.ports import Reclaimable
from lorestream.wiring import Runtime
from stream_workers.rebuild import alias_swap
from stream_workers.rebuild.compaction import Compaction
from tests.parts import open_parts, put, running_worker, texts

EDGE = {"store": {"kind": "edge"}}


@contextlib.asynccontextmanager
async def lorestream(data: Path) -> AsyncIterator[tuple[Runtime, Compaction]]:
    async with open_parts(data, **EDGE) as runtime, running_worker(runtime):
        yield runtime, Compaction(runtime, replaced_retention_s=0.0, min_reclaimable=10)


async def write(runtime: Runtime, *envelopes: events.Envelope) -> None:
    """Append, and wait until the writes are finished."""
    assert await runtime.watermarks.reached(
        await runtime.log.append([events.encode(one) for one in envelopes]), 60
    )


def erase(who: str, at: float, kind: str = "agent") -> Erase:
    return Erase("default", f"erasure of {who}", kind, (who,), at)


def holding(data: Path, text: str) -> list[Path]:
    """The files under the store in which the text can be read."""
    files = [path for path in (data / "store").rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]


async def test_after_an_erasure_it_is_due_and_removes_every_byte(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as (runtime, compaction):
        await write(runtime, put("the secret lies under the oak", agent="spy"), put("nothing to hide"))
        assert not await compaction.is_due()
        await runtime.store.flush()
        assert holding(tmp_path, "under the oak")
        await write(runtime, erase("spy", 2000.0))
        assert await compaction.is_due()
        await compaction.compact()
        assert await texts(runtime) == ["nothing to hide"]
        assert not holding(tmp_path, "under the oak")
        assert holding(tmp_path, "nothing to hide")
        assert not await compaction.is_due()
        assert len(runtime.collections.listed) == 1


async def test_it_removes_every_byte_of_an_erased_player(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as (runtime, compaction):
        await write(
            runtime,
            put("met under the oak", agent="npc:smith", event_id="1", player="k1:mata"),
            put("slept under the oak", agent="player:k1:mata", event_id="2", agent_player="k1:mata"),
            put("nothing to hide", agent="npc:smith", event_id="3", player="k1:bob"),
        )
        await runtime.store.flush()
        assert holding(tmp_path, "under the oak")
        assert holding(tmp_path, "k1:mata")
        await write(runtime, erase("k1:mata", 2000.0, "player"))
        assert await compaction.is_due()
        await compaction.compact()
        assert await texts(runtime) == ["nothing to hide"]
        for word in ("under the oak", "k1:mata"):
            assert not holding(tmp_path, word)


async def test_it_waits_while_there_is_another_collection_and_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lorestream(tmp_path) as (runtime, compaction):
        await write(runtime, put("the secret lies under the oak", agent="spy"), put("nothing to hide"))
        model = runtime.collections.current.collection.model
        await runtime.collections.catalogue.create("other", replace(model, kind="hash", name="hash"), "run")
        [_, other] = await runtime.collections.refresh()
        opened = await runtime.collections.ensure_open(other)
        assert not await compaction.is_due()
        with capture_logs() as logs:
            last = await runtime.log.append([events.encode(erase("spy", 2000.0))])
            for collection in (runtime.collections.current, opened):
                assert await collection.watermarks.reached(last, 60)
            for _ in range(3):
                assert not await compaction.is_due()
        assert [one["collections"] for one in logs if "compaction is due and waits" in one["event"]] == [2]
        monkeypatch.setattr(alias_swap, "PROPAGATION_S", 0.0)
        await alias_swap.drop_collection(runtime, other)
        assert await compaction.is_due()
        await compaction.compact()
        assert not holding(tmp_path, "under the oak")


async def test_it_is_due_when_deleted_points_exceed_half_of_the_living(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as (runtime, compaction):
        await write(runtime, *(put(f"m{n}", event_id=f"{n}") for n in range(40)))
        deletes = [
            events.Delete("default", "a", put(event_id=f"{n}").memory_id, time.time()) for n in range(15)
        ]
        await write(runtime, *deletes[:12])
        assert not await compaction.is_due()  # 12 of 28
        await write(runtime, *deletes[12:])
        assert await compaction.is_due()  # 15 of 25
        while not await runtime.log.committed(runtime.group):
            await asyncio.sleep(0.05)
        await compaction.compact()
        assert await runtime.store.reclaimable() == Reclaimable(0, erased=False)
        await write(runtime, put("m3", event_id="3"))
        assert len(await texts(runtime)) == 25  # their tombstones were copied


async def test_writes_during_a_compaction_are_there_afterwards_and_after_a_restart(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as (runtime, compaction):
        await write(runtime, *(put(f"before {n}", event_id=f"b{n}") for n in range(300)))
        compacting = asyncio.create_task(compaction.compact())
        number = 0
        while not compacting.done():
            await write(runtime, put(f"meanwhile {number}", event_id=f"m{number}", at=3000.0 + number))
            number += 1
        await compacting
        await write(runtime, put("after", event_id="a", at=9000.0))
        expected = sorted(
            [f"before {n}" for n in range(300)] + [f"meanwhile {n}" for n in range(number)] + ["after"]
        )
        assert await texts(runtime) == expected
        name = runtime.collections.current.name
    async with lorestream(tmp_path) as (runtime, compaction):
        assert runtime.collections.current.name == name
        assert await texts(runtime) == expected
        await compaction.compact()
        assert await texts(runtime) == expected


async def test_after_a_failure_it_waits_longer_and_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt copies the whole store."""
    now, attempts, fails = 0.0, list[float](), True

    async def compact(_compaction: Compaction) -> None:
        attempts.append(now)
        if fails:
            raise Unavailable("no space is left")

    async def is_due(_compaction: Compaction) -> bool:
        return True

    monkeypatch.setattr(Compaction, "compact", compact)
    monkeypatch.setattr(Compaction, "is_due", is_due)
    monkeypatch.setattr("stream_workers.rebuild.compaction.time", SimpleNamespace(monotonic=lambda: now))
    async with open_parts(tmp_path) as runtime:
        compaction = Compaction(runtime, min_interval_s=100.0)
        for minute in range(15):
            now, fails = 60.0 * minute, minute < 10
            with contextlib.suppress(Unavailable):
                await compaction.compact_if_due()
    assert attempts == [0.0, 240.0, 660.0, 780.0]


@pytest.mark.parametrize("moment", ["copying", "replaced"])
async def test_what_a_killed_process_left_is_deleted(tmp_path: Path, moment: str) -> None:
    async with lorestream(tmp_path) as (runtime, compaction):
        await write(runtime, *(put(f"m{n}", event_id=f"{n}") for n in range(10)))
        compaction.replaced_retention_s = 3600.0 if moment == "replaced" else 0.0
        compacting = asyncio.create_task(compaction.compact())
        while len(runtime.collections.listed) < 2 or (
            moment == "replaced" and runtime.collections.listed[1].replaced_at is None
        ):
            assert not compacting.done()
            await asyncio.sleep(0)
        compacting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await compacting
    async with lorestream(tmp_path) as (runtime, compaction):
        assert len(await texts(runtime)) == 10
        await compaction.clean_up()
        assert len(await runtime.collections.refresh()) == 1
        assert [path.name for path in (tmp_path / "store").iterdir() if path.is_dir()] == [
            runtime.collections.current.name
        ]
        await write(runtime, put("one more", event_id="more"))
        assert len(await texts(runtime)) == 11


async def test_a_compaction_that_ends_just_before_its_switch_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy is deleted: as a complete collection it would keep every further compaction waiting."""

    async def killed(*_: object) -> int:
        raise Unavailable("killed")

    async with lorestream(tmp_path) as (runtime, compaction):
        await write(runtime, put("the secret lies under the oak", agent="spy"), put("nothing to hide"))
        await write(runtime, erase("spy", 2000.0))
        monkeypatch.setattr(alias_swap, "PROPAGATION_S", 0.0)
        with monkeypatch.context() as patched:
            patched.setattr("stream_workers.rebuild.compaction.switch_alias", killed)
            with pytest.raises(Unavailable):
                await compaction.compact()
        assert len(await runtime.collections.refresh()) == 2
        await compaction.clean_up()
        assert len(runtime.collections.listed) == 1
        assert await compaction.is_due()
        await compaction.compact()
        assert runtime.collections.listed[0].complete
        assert not holding(tmp_path, "under the oak")
