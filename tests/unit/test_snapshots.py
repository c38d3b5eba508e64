"""Snapshots of the embedded parts: consistent under writes, complete or absent, and only the newest kept."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from lorestream.access.authentication import ANONYMOUS, Principal
from lorestream.access.key_file import KeyScope
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.adapters.qdrant.words import layout_of
from lorestream.adapters.sqlite import ledger_merge
from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.adapters.sqlite.pinned_copy import PinnedDatabase
from lorestream.admin import Outcome, Progress, snapshot_files, snapshot_manifest
from lorestream.admin.snapshot_manifest import Manifest
from lorestream.admin.snapshots import CopyInfo, Snapshots, SnapshotSchedule
from lorestream.cli.serve import readiness
from lorestream.errors import InvalidRequest, Misconfigured, ModelMismatch, OperationRefused, Unavailable
from lorestream.events import Put, decode, encode
from lorestream.http.application import application
from lorestream.memories import AgentKey, Erasure, SubjectKind
from lorestream.ports import NewRecord, RewindState
from lorestream.rewinds import Rewind
from lorestream.settings import load_settings
from lorestream.telemetry import Metrics
from lorestream.wiring import Runtime, restores
from lorestream.wiring.snapshots import snapshots_over
from tests.contracts.stored import EAST, START, memory, names, nearest, put, vectors
from tests.http_gateway import SetClock
from tests.parts import indexer_over, open_parts
from tests.parts import put as event


@contextlib.asynccontextmanager
async def open_edge_parts(tmp_path: Path, **overrides: Any) -> AsyncIterator[Runtime]:
    async with open_parts(tmp_path / "data", store={"kind": "edge"}, **overrides) as runtime:
        yield runtime


async def take(runtime: Runtime, to: Path | None = None) -> Path:
    reports = [one async for one in snapshots_over(runtime).take(to)]
    assert isinstance(reports[0], Progress)
    outcome = reports[-1]
    assert isinstance(outcome, Outcome)
    return Path(outcome.value["snapshot"])


async def append(runtime: Runtime, first: int, count: int) -> None:
    await runtime.log.append(
        [encode(event(f"text {n}", event_id=f"{n}", at=1000.0 + n)) for n in range(first, first + count)]
    )


def entries(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def has(directory: Path, pattern: str) -> bool:
    return any(directory.glob(pattern))


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


# --- consistency --------------------------------------------------------------------------------------


async def test_every_record_below_the_committed_offset_is_in_the_copied_store(tmp_path: Path) -> None:
    async with open_edge_parts(tmp_path, keyword={"language": "german"}) as runtime:
        working = asyncio.create_task(indexer_over(runtime, commit_interval_s=0.05).run())
        taken: list[Path] = []
        try:
            for number in range(3):
                writing = asyncio.create_task(append(runtime, 100 * number, 100))
                taken.append(await take(runtime, tmp_path / f"kept{number}"))
                await writing
                async with asyncio.timeout(60):
                    while (await runtime.log.committed("indexer")).get(0, 0) < 100 * number + 100:
                        await asyncio.sleep(0.005)
        finally:
            working.cancel()
            await asyncio.wait({working})
    committed: list[int] = []
    for snapshot in taken:
        manifest = snapshot_manifest.read(snapshot)
        async with Database.open(snapshot / "log.sqlite3") as database, log_in(database) as opened:
            offset = (await opened.committed("indexer")).get(0, 0)
            records = await opened.read("test", limit=1000, wait_s=0)
            end = (await opened.end())[0]
        assert manifest.offsets.get(0, 0) == offset <= end
        done = [decode(record) for record in records if record.offset < offset]
        store = EdgeStore.open(snapshot / "store", model_id=manifest.model_id, dim=manifest.dim)
        async with store:
            assert store.words.layout == layout_of(("german",))
            for one in done:
                assert isinstance(one, Put)
                assert await store.get(one.tenant, one.agent_id, one.memory_id, now=START) is not None
        committed.append(offset)
    assert committed[1] >= 100
    assert committed[2] >= 200


def log_in(database: Database) -> contextlib.AbstractAsyncContextManager[SqliteLog]:
    return SqliteLog.open(database, retention_s=1e9, max_bytes=0, clock=SetClock())


async def test_writes_wait_and_reads_continue_while_files_are_copied(tmp_path: Path) -> None:
    async with EdgeStore.open(tmp_path / "store", model_id="hash", dim=4) as store:
        await put(store, *(memory(f"m{n}", timestamp=START + n) for n in range(200)))
        async with store.without_writes() as directory:
            before = digests(directory)
            writes = [
                asyncio.create_task(store.insert([memory("late")], vectors(EAST, 1))),
                asyncio.create_task(store.flush()),
                asyncio.create_task(store.trim(AgentKey("default", "a"), keep=150, limit=5, now=START)),
            ]
            for _ in range(20):
                assert len(await store.search(nearest(5))) == 5
                await asyncio.sleep(0)
            assert not any(write.done() for write in writes)
            assert digests(directory) == before
        await asyncio.gather(*writes)
        assert "late" in await names(store)


async def test_a_pinned_copy_has_no_later_writes(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "log") as database, log_in(database) as log:
        await log.append([NewRecord(b"k", b"before", {})])
        await log.commit("worker", {0: 1})
        await log.commit("another", {0: 1})
        async with PinnedDatabase.open(tmp_path / "log") as pinned:
            await log.append([NewRecord(b"k", b"after", {}) for _ in range(2000)])
            await log.commit("worker", {0: 1000})
            await pinned.copy(tmp_path / "copy", {"indexer": 1})
    async with Database.open(tmp_path / "copy") as database, log_in(database) as log:
        assert await log.end() == {0: 1}
        assert await log.committed("indexer") == {0: 1}
        assert await log.committed("worker") == {}
        assert await log.committed("another") == {}


# --- complete or absent ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Limit the size of every file, in bytes, to act as a full disk: writes fail with EFBIG instead of ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_snapshot_or_restore_on_a_full_disk_leaves_no_files(tmp_path: Path) -> None:
    async with open_edge_parts(tmp_path) as runtime:
        await append(runtime, 0, 300)
        await indexer_over(runtime).run(burst=True)
        with no_file_beyond(50_000), pytest.raises(OperationRefused, match=r"cannot be written.*--to"):
            await take(runtime, tmp_path / "kept")
        assert entries(tmp_path) == {"data"}
        # Writes that waited for the copy continue.
        await append(runtime, 300, 1)
        await indexer_over(runtime).run(burst=True)
        snapshot = await take(runtime, tmp_path / "kept")
    target = load_settings(data_dir=tmp_path / "new", embedder={"kind": "hash"}, player_key="k1:test")
    (tmp_path / "new" / "snapshots").mkdir(parents=True)
    with no_file_beyond(50_000), pytest.raises(OperationRefused, match="nothing was restored"):
        [_ async for _ in restores.restore(target, snapshot, ledger_from=None)]
    assert entries(target.data_dir) == {"snapshots", "lock"}
    reports = [one async for one in restores.restore(target, snapshot, ledger_from=None)]
    assert isinstance(reports[-1], Outcome)
    async with open_parts(target.data_dir, store={"kind": "edge"}) as runtime:
        assert (await runtime.log.committed("indexer"))[0] == 301


async def test_a_cancelled_snapshot_leaves_no_files(tmp_path: Path) -> None:
    async with open_edge_parts(tmp_path) as runtime:
        await append(runtime, 0, 50)
        await indexer_over(runtime).run(burst=True)
        taking = snapshots_over(runtime).take(tmp_path / "kept")
        await anext(taking)
        copying = asyncio.ensure_future(anext(taking))
        while not has(tmp_path, ".making-*/store"):
            await asyncio.sleep(0.001)
        copying.cancel()
        await asyncio.wait({copying})
        await taking.aclose()
        assert entries(tmp_path) == {"data"}
        await append(runtime, 50, 1)
        await indexer_over(runtime).run(burst=True)


async def test_a_restore_that_was_killed_starts_from_the_beginning(tmp_path: Path) -> None:
    async with open_edge_parts(tmp_path) as runtime:
        await append(runtime, 0, 5)
        await indexer_over(runtime).run(burst=True)
        snapshot = await take(runtime, tmp_path / "kept")
    new = tmp_path / "new"
    target = load_settings(data_dir=new, embedder={"kind": "hash"}, player_key="k1:test")
    for left in ("restoring", "restoring/store", "store"):  # one entry is in its place, the others are not
        (new / left).mkdir(parents=True)
    (new / "store" / "half").touch()
    with pytest.raises(Misconfigured, match="was interrupted"):
        async with open_parts(new, store={"kind": "edge"}):
            pass
    reports = [one async for one in restores.restore(target, snapshot, ledger_from=None)]
    assert isinstance(reports[-1], Outcome)
    assert not (new / "restoring").exists()
    assert not (new / "store" / "half").exists()
    async with open_parts(new, store={"kind": "edge"}) as runtime:
        assert (await runtime.log.end())[0] == 5


async def test_a_target_that_exists_or_cannot_be_written_is_refused(tmp_path: Path) -> None:
    snapshots = Snapshots(TinySource(), tmp_path / "kept", SetClock())
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").touch()
    for to, said in (("taken", "exists already"), ("file/below", "cannot be written")):
        with pytest.raises(OperationRefused, match=said):
            [_ async for _ in snapshots.take(tmp_path / to)]
    with pytest.raises(OperationRefused, match="absolute path"):
        [_ async for _ in snapshots.task().run(snapshots.task().arguments(to="somewhere"))]
    source = TinySource()
    source.fail = PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(OperationRefused, match="give this user the right to write it, or choose another"):
        [_ async for _ in Snapshots(source, tmp_path / "kept", SetClock()).take(None)]
    assert entries(tmp_path) == {"taken", "file", "kept"}


async def test_a_path_that_no_file_can_have_is_refused_with_a_reason(tmp_path: Path) -> None:
    task = Snapshots(TinySource(), tmp_path / "kept", SetClock()).task()
    for to, error in (("/a\0b", InvalidRequest), (f"{tmp_path}/{'x' * 300}", OperationRefused)):
        with pytest.raises(error):
            [_ async for _ in task.run(task.restrict(task.arguments(to=to), ANONYMOUS))]
    with pytest.raises(InvalidRequest):
        task.restrict(task.arguments(to="/a\0b"), Principal("a", frozenset(KeyScope), "key"))
    assert entries(tmp_path) <= {"kept"}


async def test_a_caller_with_a_key_gets_snapshots_below_their_directory_only(tmp_path: Path) -> None:
    """Without keys, callers are on this machine and choose any directory."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "link").symlink_to(tmp_path)
    task = Snapshots(TinySource(), kept, SetClock()).task()
    operator = Principal("a", frozenset({KeyScope.OPERATOR}), "key")
    for outside in (
        tmp_path / "x",
        kept / ".." / "x",
        kept / "link" / "x",
        tmp_path / "kept-too" / "x",
        kept,
    ):
        arguments = task.arguments(to=str(outside))
        assert task.restrict(arguments, ANONYMOUS) is arguments
        with pytest.raises(OperationRefused, match="LORESTREAM_SNAPSHOT__DIR"):
            task.restrict(arguments, operator)
    for inside in (None, str(kept / "monday")):
        arguments = task.arguments(to=inside)
        assert task.restrict(arguments, operator) is arguments


async def test_a_snapshot_that_is_damaged_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    async with open_edge_parts(tmp_path) as runtime:
        await append(runtime, 0, 5)
        await indexer_over(runtime).run(burst=True)
        kept = await take(runtime, tmp_path / "kept")
    new = tmp_path / "new"

    async def refused(kind: type[Exception], said: str, **overrides: Any) -> None:
        embedder = {"kind": "hash"} | overrides
        target = load_settings(data_dir=new, embedder=embedder, player_key="k1:test")
        before = digests(new)
        for restoring in (restores.check(target, kept), restores.restore(target, kept, ledger_from=None)):
            with pytest.raises(kind, match=said):
                [_ async for _ in restoring]
        assert digests(new) == before

    page = max((kept / "store").rglob("page_0.dat"), key=lambda path: path.stat().st_blocks)
    whole, manifest = page.read_bytes(), (kept / "manifest.json").read_text()

    def manifest_with(old: str, new: str) -> None:
        (kept / "manifest.json").write_text(manifest.replace(old, new))

    damages: list[tuple[Callable[[], object], str]] = [
        (lambda: page.write_bytes(bytes([whole[0] ^ 1]) + whole[1:]), "is not what was written"),
        (lambda: page.write_bytes(whole[:-1]), "another size"),
        (page.unlink, "cannot be read"),
        ((kept / "manifest.json").unlink, "no snapshot"),
        (lambda: (kept / "manifest.json").write_text(manifest[:-20]), "damaged"),
        (
            lambda: (kept / "manifest.json").write_text(manifest.rstrip()[:-1] + ', "x": ' + "[" * 100_000),
            "damaged",
        ),
        (lambda: manifest_with('"format": 1', '"format": 9'), "format 9"),
        (lambda: manifest_with("log.sqlite3", "other"), "names no log.sqlite3"),
        (lambda: manifest_with('"edge"', '"qdrant"'), "of the distributed shape"),
    ]
    for damage, said in damages:
        damage()
        await refused(OperationRefused, said)
        page.write_bytes(whole)
        (kept / "manifest.json").write_text(manifest)
    await refused(ModelMismatch, "hash-v1-384", dim=64)
    assert not has(tmp_path, "new")
    new.mkdir()
    (new / "diary.txt").write_text("mine")
    await refused(OperationRefused, r"diary\.txt")


async def test_a_store_in_memory_has_no_snapshot(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        with pytest.raises(OperationRefused, match="no files to copy"):
            await take(runtime)


# --- retention --------------------------------------------------------------------------------------------


class TinySource:
    """A SnapshotSource of one small file, which raises `fail` when it is set."""

    def __init__(self) -> None:
        self.fail: Exception | None = None

    async def copy(self, into: Path) -> CopyInfo:
        (into / "a").write_bytes(b"something")
        if self.fail is not None:
            raise self.fail
        return CopyInfo("c", "hash", 4, "embedded", {0: 7}, "file", "edge")


async def test_the_newest_are_kept_and_other_files_are_not_touched(tmp_path: Path) -> None:
    clock = SetClock(1_760_000_000.0)
    kept = tmp_path / "kept"
    snapshots = Snapshots(TinySource(), kept, clock, keep=2)
    (kept / "photos").mkdir(parents=True)
    for _ in range(4):
        clock.time += 3600
        async for _ in snapshots.take(None):
            pass
    async for _ in snapshots.take(tmp_path / "apart"):
        pass
    assert sorted(path.name for path in kept.iterdir()) == ["20251009T115320Z", "20251009T125320Z", "photos"]
    assert [manifest.created for _, manifest in snapshot_manifest.list_snapshots(kept)] == [
        clock.time,
        clock.time - 3600,
    ]
    assert (tmp_path / "apart" / "manifest.json").is_file()


async def test_a_snapshot_from_the_future_neither_stops_the_schedule_nor_displaces_later_ones(
    tmp_path: Path,
) -> None:
    """The clock was wrong while it was taken, and was set back."""
    clock = SetClock(1_760_000_000.0 + 70 * 86_400)
    snapshots = Snapshots(TinySource(), tmp_path, clock, every_s=3600.0, keep=2)

    async def take() -> float:
        async for _ in snapshots.take(None):
            pass
        return clock.time

    await take()
    clock.time -= 70 * 86_400
    taken = []
    for _ in range(2):
        assert snapshots.is_due()
        taken.append(await take())
        clock.time += 3599
        assert not snapshots.is_due()
        clock.time += 1
    found = [manifest.created for _, manifest in snapshot_manifest.list_snapshots(tmp_path)]
    assert sorted(found) == taken


async def test_what_killed_snapshots_left_is_deleted_after_a_day_whatever_the_clock_was(
    tmp_path: Path,
) -> None:
    for name, age_s in (("old", 90_000), ("future", -90_000), ("new", 60)):
        (tmp_path / f".making-{name}").mkdir()
        os.utime(tmp_path / f".making-{name}", (time.time() - age_s,) * 2)
    async for _ in Snapshots(TinySource(), tmp_path, SetClock()).take(None):
        pass
    assert {name for name in entries(tmp_path) if name.startswith(".")} == {".making-new"}


async def test_an_abandoned_directory_may_vanish_while_a_snapshot_begins(tmp_path: Path) -> None:
    """Another worker with the same directory removes it, or completes its snapshot and renames it."""
    (tmp_path / ".making-gone").symlink_to(tmp_path / "nowhere")
    snapshots = Snapshots(TinySource(), tmp_path, SetClock(1_760_000_000.0), keep=2)
    async for _ in snapshots.take(None):
        pass
    assert len(snapshot_manifest.list_snapshots(tmp_path)) == 1


async def test_a_snapshot_is_taken_when_due_and_retried_after_a_failure(tmp_path: Path) -> None:
    source, clock = TinySource(), SetClock(1_760_000_000.0)
    snapshots = Snapshots(source, tmp_path, clock, every_s=0.01, keep=0)
    turn = False
    schedule = SnapshotSchedule(snapshots, lambda: turn)
    [work] = schedule.work().values()
    running = asyncio.create_task(work)

    async def until(count: int) -> None:
        async with asyncio.timeout(60):
            while len(snapshot_manifest.list_snapshots(tmp_path)) != count:
                await asyncio.sleep(0.005)

    try:
        source.fail = Unavailable("the log is away")
        turn = True
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert snapshot_manifest.list_snapshots(tmp_path) == []
        source.fail = None
        await until(1)
        clock.time += 1  # until then none is due
        await until(2)
    finally:
        schedule.stop()
        await asyncio.wait_for(running, 60)
    assert SnapshotSchedule(Snapshots(source, tmp_path, clock)).work() == {}


def test_a_copy_of_a_sparse_file_is_sparse(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.write(b"begin")
        file.seek(50_000_000)
        file.write(b"middle")
        file.truncate(90_000_000)
    snapshot_files.copy(source, tmp_path / "copy", snapshot_files.Cancelled())
    assert (tmp_path / "copy").stat().st_size == 90_000_000
    assert (tmp_path / "copy").stat().st_blocks * 512 < 10_000_000
    digest = snapshot_files.digest(source, snapshot_files.Cancelled(), lambda _: None)
    assert snapshot_files.digest(tmp_path / "copy", snapshot_files.Cancelled(), lambda _: None) == digest
    for empty in (b"", b"x"):
        (tmp_path / "small").write_bytes(empty)
        snapshot_files.copy(tmp_path / "small", tmp_path / f"small{len(empty)}", snapshot_files.Cancelled())
        assert (tmp_path / f"small{len(empty)}").read_bytes() == empty


def test_a_manifest_with_a_path_outside_of_the_snapshot_is_refused(tmp_path: Path) -> None:
    for name in ("/etc/passwd", "../x", "a/../../x"):
        manifest = Manifest(
            lorestream="0",
            created=0.0,
            collection="c",
            model_id="m",
            dim=4,
            log="embedded",
            offsets={},
            player_key="file",
            store="edge",
            files={name: snapshot_files.FileDigest(0, "")},
        )
        (tmp_path / "manifest.json").unlink(missing_ok=True)
        snapshot_manifest.write(tmp_path, manifest)
        with pytest.raises(OperationRefused, match="outside"):
            snapshot_manifest.read(tmp_path)


# --- later deletions and erasures ----------------------------------------------------------------------------------


async def test_erasures_and_rewinds_that_only_the_old_ledger_has_are_applied(tmp_path: Path) -> None:
    gone = Erasure("e-1", "default", SubjectKind.AGENT, ("a",), START + 1)
    back = Rewind("r-1", "default", "s", START, START + 9)
    undone = Rewind("r-2", "default", "t", START, START + 9, START + 10)
    async with open_parts(tmp_path / "old", store={"kind": "edge"}) as old:
        await old.ledger.add(gone)
        await old.ledger.mark_done("e-1")
        await old.ledger.rewinds.put(back)
        await old.ledger.rewinds.put(undone)
    async with open_parts(tmp_path / "new", store={"kind": "edge"}) as new:
        now = new.clock.now()
        dim = new.embedder.dim
        unit = (1.0, *(0.0 for _ in range(dim - 1)))
        few = [memory("m"), memory("kept", agent_id="b"), memory("later", accepted_at=START + 2)]
        few.append(memory("rewound", agent_id="b", server="s", accepted_at=START + 1))
        few.append(memory("back", agent_id="b", server="t", accepted_at=START + 1, rewound=True))
        await new.ledger.rewinds.put(replace(undone, undone_at=None))
        await new.store.insert(few, vectors(unit, len(few)))
        forgotten = ledger_merge.read_removals(tmp_path / "old" / "log.sqlite3")
        present = ledger_merge.read_removals(tmp_path / "new" / "log.sqlite3")
        assert await ledger_merge.merge(forgotten, present, new.log, new.ledger, new.store) == 3
        left = [await new.store.get("default", one.agent_id, one.id, now=now) for one in few]
        assert [one is not None for one in left] == [False, True, True, False, True]
        assert new.ledger.covers(few[0])
        state = await new.ledger.state("e-1")
        assert state is not None
        assert state.done
        assert await new.ledger.rewinds.state("r-1") == RewindState(back, done=True)
        assert await new.ledger.rewinds.state("r-2") == RewindState(undone, done=True)
        # A second merge finds nothing to apply.
        present = ledger_merge.read_removals(tmp_path / "new" / "log.sqlite3")
        assert await ledger_merge.merge(forgotten, present, new.log, new.ledger, new.store) == 0


async def test_a_directory_that_cannot_be_read_is_a_problem_of_the_schedule_and_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = SnapshotSchedule(Snapshots(TinySource(), tmp_path, SetClock(), every_s=3600.0))

    def stale(_: Path) -> Iterator[Path]:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as away, capture_logs() as logs:
        away.setattr(Path, "iterdir", stale)
        for _ in range(3):
            await schedule.take_if_due()
        app = application("lorestream", [], metrics=Metrics(), checks=readiness.of_snapshots(schedule))
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://lorestream"
        ) as http:
            ready = await http.get("/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")  # reads and writes go on
    assert "Stale file handle" in ready.json()["checks"]["snapshots"]
    assert len(logs) == 1
    await schedule.take_if_due()
    assert schedule.problem is None
    assert len(snapshot_manifest.list_snapshots(tmp_path)) == 1
