"""Errors of the operating system at the disk: translated where the disk is touched, survived, recovered from."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from lorestream import durable, events, os_support
from lorestream.adapters.qdrant.edge import shard
from lorestream.adapters.qdrant.edge.catalogue import EdgeCatalogue
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.admin import snapshot_manifest
from lorestream.admin.snapshots import SnapshotSchedule
from lorestream.collections.catalogue import Model
from lorestream.errors import Misconfigured, Unavailable
from lorestream.memories import Erasure, SubjectKind
from lorestream.settings import load_settings
from lorestream.telemetry import set_up_logging
from lorestream.wiring import player_keys
from lorestream.wiring.snapshots import snapshots_over
from stream_workers import collection_feed
from stream_workers.indexing import failures
from stream_workers.rebuild import alias_swap
from stream_workers.rebuild.compaction import Compaction
from tests.contracts.stored import memory, names, put
from tests.parts import open_parts, running_worker, texts
from tests.parts import put as event

MODEL = Model("hash", 4, "hash", "hash")
EDGE: dict[str, Any] = {"store": {"kind": "edge"}}
SPY = Erasure("e", "default", SubjectKind.AGENT, ("a",), 1e12)


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullDisk:
    """While `is_full`, durable files whose name matches cannot be written. `refused`: how many were not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, matches: Callable[[Path], bool]) -> None:
        self.is_full = True
        self.refused = 0
        real = durable.write_file

        def write_file(path: Path, content: bytes, *, mode: int = durable.PRIVATE) -> None:
            if self.is_full and matches(path):
                self.refused += 1
                raise full()
            real(path, content, mode=mode)

        monkeypatch.setattr(durable, "write_file", write_file)

    async def has_refused(self) -> None:
        async with asyncio.timeout(60):
            while not self.refused:
                await asyncio.sleep(0.005)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses."""
    monkeypatch.setattr(alias_swap, "PROPAGATION_S", 0.0)
    monkeypatch.setattr(collection_feed, "COMMIT_INTERVAL_S", 0.02)
    monkeypatch.setattr(failures, "INITIAL_PAUSE_S", 0.01)


# --- the catalogue of embedded collections -------------------------------------------------------------------


async def test_a_catalogue_left_by_a_kill_during_a_creation_is_read(tmp_path: Path) -> None:
    """Versions before this one wrote infinity for the collection in the making, which JSON turns into null."""
    entry = {"model_id": "hash", "dim": 4, "kind": "hash", "model": "hash"}
    state = {"active": "first", "collections": {"first": entry}, "withdrawn": {"half": None}}
    (tmp_path / "first.json").write_text(json.dumps(state))
    (tmp_path / "half").mkdir()
    catalogue = EdgeCatalogue(tmp_path, "first")
    assert (await catalogue.ensure_active(MODEL)).name == "first"
    assert await catalogue.pending_deletions() == {"half": 0.0}
    await catalogue.delete("half")
    assert not (tmp_path / "half").exists()
    await catalogue.close_all()


async def test_the_catalogue_holds_only_finite_numbers_while_a_collection_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    async def look(*_: object, **__: object) -> None:
        seen.append((tmp_path / "first.json").read_bytes())
        raise asyncio.CancelledError

    monkeypatch.setattr(shard, "create_in_subprocess", look)
    catalogue = EdgeCatalogue(tmp_path, "first")
    await catalogue.ensure_active(MODEL)
    with pytest.raises(asyncio.CancelledError):
        await catalogue.create("half", MODEL, "run")
    assert json.loads(seen[0])["withdrawn"] == {"half": 0.0}
    await catalogue.close_all()
    again = EdgeCatalogue(tmp_path, "first")
    await again.ensure_active(MODEL)
    await again.close_all()


async def test_a_change_of_the_catalogue_that_cannot_be_written_has_no_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    catalogue = EdgeCatalogue(tmp_path, "first")
    await catalogue.ensure_active(MODEL)
    await catalogue.create("second", MODEL, "run")
    before = await catalogue.list_all()
    disk = FullDisk(monkeypatch, lambda path: path.name == "first.json")
    changes: list[Callable[[], Any]] = [
        lambda: catalogue.mark_complete("second"),
        lambda: catalogue.swap("second", 1.0),
        lambda: catalogue.mark_deleted("second", 1.0),
        lambda: catalogue.create("third", MODEL, "run"),
    ]
    for change in changes:
        with pytest.raises(Unavailable, match=r"first\.json cannot be used .*free some space"):
            await change()
        assert await catalogue.list_all() == before
        assert await catalogue.pending_deletions() == {}
    disk.is_full = False
    await catalogue.mark_deleted("second", 1.0)
    disk.is_full = True
    for _ in range(
        2
    ):  # the directory is gone after the first attempt, and stays noted until the note is written
        with pytest.raises(Unavailable):
            await catalogue.delete("second")
        assert await catalogue.pending_deletions() == {"second": 1.0}
    disk.is_full = False
    await catalogue.delete("second")
    assert await catalogue.pending_deletions() == {}
    await catalogue.close_all()


async def test_a_collection_that_was_dropped_meanwhile_is_an_outage_for_who_opens_it(tmp_path: Path) -> None:
    """The worker opens what was listed a moment ago: another error would end it, and the process."""
    catalogue = EdgeCatalogue(tmp_path, "first")
    await catalogue.ensure_active(MODEL)
    with pytest.raises(Unavailable, match="no collection second"):
        await catalogue.open("second")
    await catalogue.close_all()


# --- background work on a full disk --------------------------------------------------------------------------


async def test_a_compaction_on_a_full_disk_is_tried_again_and_forgets_its_consumer_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """One write of the catalogue fails, then there is room again: the erased bytes leave the disk by themselves."""
    async with open_parts(tmp_path, **EDGE) as runtime, running_worker(runtime):
        records = [
            events.encode(event("under the oak", agent="spy")),
            events.encode(event("nothing to hide")),
        ]
        erased = events.Erase("default", "e", "agent", ("spy",), 2000.0)
        assert await runtime.watermarks.reached(await runtime.log.append(records), 60)
        assert await runtime.watermarks.reached(await runtime.log.append([events.encode(erased)]), 60)
        disk = FullDisk(monkeypatch, lambda path: path.name == "agent_memories.json")
        compaction = Compaction(runtime, check_interval_s=0.01, min_interval_s=0.0, replaced_retention_s=0.0)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(compaction.run())
            await disk.has_refused()
            disk.is_full = False
            while (
                (await runtime.store.reclaimable()).erased
                or len(await runtime.log.groups()) != 1
                or len(runtime.collections.listed) != 1
            ):
                await asyncio.sleep(0.01)
            compaction.stop()
        assert await texts(runtime) == ["nothing to hide"]
        files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
        assert not [path for path in files if b"under the oak" in path.read_bytes()]


async def test_a_deletion_on_a_full_disk_keeps_reads_alive_and_is_committed_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    async with open_parts(tmp_path, **EDGE) as runtime, running_worker(runtime) as worker:
        put = event("a wolf", event_id="1")
        kept = event("a fire", event_id="2")
        assert await runtime.watermarks.reached(
            await runtime.log.append([events.encode(put), events.encode(kept)]), 60
        )
        disk = FullDisk(monkeypatch, lambda path: path.name == shard.RECLAIMABLE)
        delete = events.Delete("default", "a", put.memory_id, 2000.0)
        last = await runtime.log.append([events.encode(delete)])
        assert await runtime.watermarks.reached(last, 60)
        await disk.has_refused()
        assert await texts(runtime) == ["a fire"]
        assert worker.indexer.partitions
        disk.is_full = False
        async with asyncio.timeout(60):
            while (await runtime.log.committed(runtime.group)).get(0, 0) <= last[0]:
                await asyncio.sleep(0.005)
    assert json.loads((tmp_path / "store" / "agent_memories" / shard.RECLAIMABLE).read_bytes())["points"] == 1


async def test_an_erasure_is_noted_on_the_disk_before_it_removes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash in between the erasure is repeated and finds nothing: without the note no compaction follows."""
    async with EdgeStore.open(tmp_path, model_id="hash", dim=4) as store:
        await put(store, memory("m"))
        disk = FullDisk(monkeypatch, lambda path: path.name == shard.RECLAIMABLE)
        for _ in range(2):
            with pytest.raises(Unavailable, match="free some space"):
                await store.erase(SPY)
            assert await names(store) == ["m"]
        disk.is_full = False
        delete, noted = store._delete, list[object]()

        async def look(points: Any) -> None:
            noted.append(json.loads((tmp_path / shard.RECLAIMABLE).read_bytes())["erased"])
            await delete(points)

        monkeypatch.setattr(store, "_delete", look)
        await store.erase(SPY)
        assert noted == [True]
        assert await names(store) == []


async def test_data_that_the_disk_refuses_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EdgeStore.open(tmp_path, model_id="hash", dim=4) as store:
        await put(store, memory("m"))

        def refuse(_descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", refuse)
            with pytest.raises(Unavailable, match="check its disk"):
                await store.flush()
        await store.flush()


def test_a_log_line_that_cannot_be_written_is_lost_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stderr in a file on the full disk: the line that reports the full disk must not end the work."""
    with Path("/dev/full").open("w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        set_up_logging("json", "info")
        structlog.get_logger().warning("commit failed")
        with contextlib.suppress(OSError):
            stream.close()


def test_a_key_for_player_names_that_cannot_be_written_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise full()

    monkeypatch.setattr(durable, "create_file", refuse)
    settings = load_settings(data_dir=tmp_path, embedder={"kind": "hash"})
    with pytest.raises(Misconfigured, match=r"cannot be read or written \(No space left.*free some space"):
        player_keys.open_pseudonyms(settings, tmp_path)


async def test_a_store_whose_last_flush_fails_can_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard is closed all the same: an open one could not be loaded again by this process."""
    store = EdgeStore.open(tmp_path, model_id="hash", dim=4)
    await put(store, memory("m"))
    real = store._shard

    class Refusing:
        """The shard, on a disk that refuses the flush."""

        close = staticmethod(real.close)

        def flush(self) -> None:
            raise full()

    monkeypatch.setattr(store, "_shard", Refusing())
    with pytest.raises(Unavailable):
        await store.close()
    async with EdgeStore.open(tmp_path, model_id="hash", dim=4) as again:
        assert await names(again) == ["m"]


def test_a_size_that_is_only_shown_makes_no_snapshot_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    assert os_support.used_bytes(tmp_path) >= 5000

    def refuse(_path: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "scandir", refuse)
    assert os_support.used_bytes(tmp_path) == 0


async def test_a_snapshot_waits_for_the_disk_in_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Manifests, lists of files, fsync, renames and removals: with many snapshots they take long."""
    async with open_parts(tmp_path, **EDGE, snapshot={"every_hours": 1, "keep": 1}) as runtime:
        snapshots = snapshots_over(runtime)
        snapshots.directory.mkdir(parents=True)
        threads: set[threading.Thread] = set()

        def recorded(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                threads.add(threading.current_thread())
                return real(*args, **kwargs)

            return call

        for module, name in (
            (os, "fsync"),
            (shutil, "rmtree"),
            (os_support, "used_bytes"),
            (snapshot_manifest, "read"),
            (snapshot_manifest, "list_snapshots"),
        ):
            monkeypatch.setattr(module, name, recorded(getattr(module, name)))
        for _ in range(2):
            async for _ in snapshots.take(None):
                pass
        schedule = SnapshotSchedule(snapshots)
        await schedule.take_if_due()
        assert schedule.problem is None
        assert len(list(snapshots.directory.iterdir())) == 1
        assert threads
        assert threading.main_thread() not in threads


# --- threads and rights --------------------------------------------------------------------------------------


async def test_the_catalogue_waits_for_the_disk_in_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    catalogue = EdgeCatalogue(tmp_path, "first")
    await catalogue.ensure_active(MODEL)
    threads: set[threading.Thread] = set()

    def recorded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            threads.add(threading.current_thread())
            return real(*args, **kwargs)

        return call

    await catalogue.create("second", MODEL, "run")
    for module, name in ((os, "fsync"), (shutil, "rmtree"), (shard, "open_shard")):
        monkeypatch.setattr(module, name, recorded(getattr(module, name)))
    monkeypatch.setattr("lorestream.adapters.qdrant.edge.store.open_shard", shard.open_shard)
    await catalogue.open("second")
    await catalogue.mark_complete("second")
    await catalogue.mark_deleted("second", 1.0)
    await catalogue.delete("second")
    assert threads
    assert threading.main_thread() not in threads
    await catalogue.close_all()


async def test_a_store_that_is_opened_for_a_caller_who_leaves_is_open_for_the_next_one(
    tmp_path: Path, quick: None
) -> None:
    catalogue = EdgeCatalogue(tmp_path, "first")
    await catalogue.ensure_active(MODEL)
    await catalogue.create("second", MODEL, "run")
    leaving = asyncio.get_running_loop().create_task(catalogue.open("second"))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await put(await catalogue.open("second"), memory("m"))
    await catalogue.close_all()


async def test_the_store_is_its_owners_alone_even_where_it_was_not(tmp_path: Path) -> None:
    """Texts lie in its files in clear, and Edge creates them with the rights that the umask leaves."""
    directory = tmp_path / "store"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    catalogue = EdgeCatalogue(directory, "first")
    await catalogue.ensure_active(MODEL)
    await catalogue.close_all()
    for path in (directory, directory / "first"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_temporary_files_of_killed_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".dead.json.0123abcd.tmp", ".dead.json.tmp", "dead.json", ".hidden"):
        (tmp_path / name).touch()
    durable.remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dead.json.tmp", ".hidden", "dead.json"]
