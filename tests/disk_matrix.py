"""The matrix of faults of the disk: each operation, each place in the code that calls the disk in it, each fault.

    python -m tests.disk_matrix OPERATION...       the whole matrix of some operations, or of all

Each run is a process of its own, forked from one that has imported everything and opened nothing: it opens a copy of
a small data directory, arms the fault, and calls the operation. After an error it must go on by itself. After that, or
after the kill, another process starts on the same directory, and what it holds must equal the fold of the log, with
everything that was acknowledged. Then the operation must succeed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from lorestream import durable
from lorestream.adapters.embedded import restore, snapshot
from lorestream.adapters.embedders import hash as hash_embedder
from lorestream.adapters.in_process import cache, watermarks
from lorestream.adapters.qdrant.edge import catalogue, shard
from lorestream.adapters.sqlite import log as sqlite_log
from lorestream.admin import Outcome, snapshot_manifest
from lorestream.cli.admin.tasks import tasks_over
from lorestream.collections import open_collections
from lorestream.errors import InvalidRequest, LorestreamError, OperationRefused, Unavailable
from lorestream.settings import Settings, load_settings
from lorestream.telemetry import set_up_logging
from lorestream.wiring import Runtime, open_runtime, restores
from producers.gateway import Gateway
from stream_workers import collection_feed
from stream_workers import worker as worker_module
from stream_workers.indexing import checkpoint, failures, indexer
from stream_workers.rebuild import alias_swap, replay
from stream_workers.rebuild.compaction import Compaction
from stream_workers.worker import Worker
from tests.disk_faults import KILLED, MODES, Fault
from tests.log_fold import differences, fold, stored

LOADED = (restore, snapshot, hash_embedder, cache, watermarks, catalogue, sqlite_log)
"""What the wiring imports where it is chosen: imported here once, before the processes of the runs are forked."""
RUN_TIMEOUT_S = 300
"""A run that takes longer hangs."""
RECOVERY_S = 100.0
SECRET = "the secret lies under the oak"
NEXT = "next"
"""The name of a second collection."""


def quick() -> None:
    """Shorten pauses between attempts and polls: nothing here waits for other processes."""
    alias_swap.PROPAGATION_S = alias_swap.REPLACED_RETENTION_S = 0.0
    worker_module.POLL_INTERVAL_S = indexer.POLL_INTERVAL_S = open_collections.POLL_INTERVAL_S = 0.02
    worker_module.RETRY_DELAY_S = 0.1
    collection_feed.COMMIT_INTERVAL_S = replay.POLL_INTERVAL_S = 0.05
    checkpoint.BACKGROUND_COMMIT_EVERY = 1
    failures.INITIAL_PAUSE_S, failures.MAX_PAUSE_S = 0.02, 0.1
    shard.create_in_subprocess = create_in_this_process


async def create_in_this_process(directory: Path, *, model_id: str, dim: int) -> None:
    """In place of a process of its own, so that its calls to the disk are points too."""
    try:
        opened, lock = shard.open_shard(directory, model_id=model_id, dim=dim)
    except LorestreamError as error:
        raise Unavailable(str(error)) from error
    opened.close()
    lock.release()


def settings_of(data: Path) -> Settings:
    chosen: dict[str, Any] = {"store": {"kind": "edge"}, "embedder": {"kind": "hash", "dim": 8}}
    return load_settings(data_dir=data, **chosen)


@dataclass
class Stage:
    """A running lorestream, and what it has acknowledged."""

    runtime: Runtime
    gateway: Gateway
    notes: Path
    """A file outside of the fault's reach, which outlives a kill: one line for each acknowledgement."""

    def note(self, **what: Any) -> None:
        with self.notes.open("a") as file:
            file.write(json.dumps(what) + "\n")

    async def put(self, agent: str, **texts: str) -> dict[str, str]:
        """Send events; return {memory id: text} of those that are acknowledged."""
        batch = [
            json.dumps({"agent_id": agent, "id": one, "text": text}).encode() for one, text in texts.items()
        ]
        accepted = await self.gateway.ingest("default", "s", batch)
        put = dict(zip([str(one) for one in accepted.ids], texts.values(), strict=True))
        self.note(put=put)
        return put

    async def task(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Run an admin task to its outcome."""
        task = tasks_over(self.runtime)[name]
        wanted = msgspec.json.decode(msgspec.json.encode(arguments), type=task.arguments)
        async with contextlib.aclosing(task.run(wanted)) as reports:
            async for report in reports:
                if isinstance(report, Outcome):
                    return report.value
        raise AssertionError(f"{name} ended without an outcome")

    async def level(self) -> None:
        """Wait until every listed collection has committed all of the log."""
        async with asyncio.timeout(RECOVERY_S):
            while True:
                end = (await self.runtime.log.end())[0]
                groups = [self.runtime.collections.group_of(one) for one in self.runtime.collections.listed]
                done = [(await self.runtime.log.committed(group)).get(0, 0) for group in groups]
                if min(done) >= end:
                    return
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def lorestream(data: Path, notes: Path) -> AsyncIterator[Stage]:
    """A lorestream with its worker, without network services."""
    async with open_runtime(settings_of(data)) as runtime:
        worker = Worker(runtime)
        working = asyncio.get_running_loop().create_task(worker.run())
        try:
            yield Stage(runtime, Gateway.over(runtime), notes)
            if working.done():
                raise AssertionError(f"the worker has ended: {working.exception()!r}")
        finally:
            worker.stop()
            await asyncio.wait({working}, timeout=20)


# --- operations: each may be called again after a failure ----------------------------------------------------


async def write(stage: Stage) -> None:
    await stage.put("npc:a", w1="saw a wolf", w2="lit a fire")
    await stage.level()


async def delete(stage: Stage) -> None:
    memory_id = json.loads((stage.notes.parent / "base.json").read_text())["gone"]
    await stage.gateway.erasures.delete_memory("default", "npc:a", memory_id)
    stage.note(deleted=memory_id)
    await stage.level()


async def erase(stage: Stage) -> None:
    await stage.gateway.erasures.erase_agent("default", "npc:spy")
    stage.note(erased="npc:spy")
    await stage.level()


async def compact(stage: Stage) -> None:
    """The background task itself: after an error it must try again without a call."""
    compaction = Compaction(
        stage.runtime, check_interval_s=0.02, min_interval_s=0.0, replaced_retention_s=0.0
    )
    running = asyncio.get_running_loop().create_task(compaction.run())
    try:
        async with asyncio.timeout(RECOVERY_S):
            while not await is_compacted(stage.runtime):
                if running.done():
                    raise AssertionError(f"the compaction has ended: {running.exception()!r}")
                await asyncio.sleep(0.01)
    finally:
        compaction.stop()
        await asyncio.wait({running}, timeout=20)


async def is_compacted(runtime: Runtime) -> bool:
    listed = runtime.collections.listed
    pending = await runtime.collections.catalogue.pending_deletions()
    return (
        len(listed) == 1
        and listed[0].run != ""
        and not pending
        and set(await runtime.log.groups()) <= {runtime.collections.group_of(listed[0])}
    )


async def take_snapshot(stage: Stage) -> None:
    await stage.task("snapshot")


async def replay_log(stage: Stage) -> None:
    await stage.task("replay", to=NEXT)


async def swap(stage: Stage) -> None:
    await stage.task("alias-swap", to=NEXT)


async def drop(stage: Stage) -> None:
    await stage.task("drop", name=NEXT)


async def import_lines(stage: Stage) -> None:
    lines = json.loads((stage.notes.parent / "base.json").read_text())["lines"]
    outcome = await stage.task("import", lines=list(enumerate(lines, 2)))
    if outcome["imported"]:
        stage.note(put={json.loads(line)["id"]: json.loads(line)["text"] for line in lines})
    await stage.level()


@dataclass(frozen=True)
class Operation:
    name: str
    run: Callable[[Stage], Awaitable[None]]
    base: str = "plain"
    """The data directory that it begins with."""
    alone: bool = False
    """It runs without a lorestream: `run` is not used."""


OPERATIONS = {
    one.name: one
    for one in (
        Operation("write", write),
        Operation("delete", delete),
        Operation("erase", erase),
        Operation("compaction", compact, "erased"),
        Operation("snapshot", take_snapshot),
        Operation("replay", replay_log),
        Operation("swap", swap, "second"),
        Operation("drop", drop, "second"),
        Operation("import", import_lines),
        Operation("restore", write, "empty", alone=True),
        Operation("start", write, "empty", alone=True),
    )
}


async def run_alone(name: str, data: Path, bases: Path) -> None:
    if name == "restore":
        reports = restores.restore(settings_of(data), bases / "snapshot", ledger_from=None)
        async with contextlib.aclosing(reports):
            async for _ in reports:
                pass
    else:
        async with open_runtime(settings_of(data)):
            pass


# --- one run -------------------------------------------------------------------------------------------------


@dataclass
class Finding:
    """What a run has found. `points`: the names of the calls, when the run only counted them."""

    wrong: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    hit: str = ""


async def first_process(operation: Operation, fault: Fault, notes: Path, found: Finding) -> None:
    """Call the operation with the fault; after an error, it must succeed in the end without the fault."""
    fault.install()
    if operation.alone:
        await fail_then_succeed(
            lambda: run_alone(operation.name, fault.root, notes.parent), operation, fault, found
        )
        return
    async with lorestream(fault.root, notes) as stage:
        await stage.level()
        await fail_then_succeed(lambda: operation.run(stage), operation, fault, found)
        await stage.put("npc:a", last="went to sleep")
        await stage.level()
        found.wrong += await judge(stage, operation)


async def fail_then_succeed(
    run: Callable[[], Awaitable[None]], operation: Operation, fault: Fault, found: Finding
) -> None:
    fault.armed = True
    if fault.mode == "full":  # room again, while background work tries again and again
        asyncio.get_running_loop().call_later(0.5, lambda: setattr(fault, "armed", False))
    try:
        await run()
    except LorestreamError:
        pass
    except Exception:  # noqa: BLE001 (it is a finding)
        found.wrong.append(f"untranslated: {traceback.format_exc()}")
    finally:
        fault.armed = False
        found.points, found.hit = fault.points, fault.hit
    await succeed(run, found)


async def succeed(run: Callable[[], Awaitable[None]], found: Finding) -> None:
    try:
        await run()
    except (OperationRefused, InvalidRequest):
        pass  # it was done already
    except Exception:  # noqa: BLE001 (it is a finding)
        found.wrong.append(f"does not succeed afterwards: {traceback.format_exc()}")


async def second_process(operation: Operation, data: Path, notes: Path, found: Finding) -> None:
    """Start again on what the first process has left."""
    if operation.name == "restore":
        await succeed(lambda: run_alone("restore", data, notes.parent), found)
    async with lorestream(data, notes) as stage:
        await stage.level()
        found.wrong += await judge(stage, operation)
        if not operation.alone:
            await succeed(lambda: operation.run(stage), found)
            await stage.level()
            found.wrong += await judge(stage, operation, after=True)


async def judge(stage: Stage, operation: Operation, *, after: bool = False) -> list[str]:
    """What is wrong with the memories, as sentences. `after`: and with the files, after the operation was done."""
    notes = [json.loads(line) for line in stage.notes.read_text().splitlines()]
    runtime = stage.runtime
    truth = await fold(runtime.log, f"fold-{time.monotonic_ns()}")
    now = runtime.clock.now()
    accepted = {key: text for note in notes for key, text in note.get("put", {}).items()}
    wrong = differences(truth, await stored(runtime.store, now), accepted, now)
    wrong += [
        f"the deletion of {note['deleted']} is lost"
        for note in notes
        if note.get("deleted", "") not in {*truth.deleted, ""}
    ]
    if any("erased" in note for note in notes) and not truth.erasures:
        wrong.append("the erasure is lost")
    if not after:
        return wrong
    listed = {one.name for one in await runtime.collections.refresh()}
    directories = {path.name for path in (runtime.settings.data_dir / "store").iterdir() if path.is_dir()}
    if operation.name in {"compaction", "drop"} and directories != listed:
        wrong.append(f"directories {directories}, collections {listed}")
    known = {runtime.collections.group_of(one) for one in runtime.collections.listed}
    if operation.name == "compaction" and not set(await runtime.log.groups()) <= known:
        wrong.append(f"groups {await runtime.log.groups()}, known {known}")
    if operation.name == "compaction":
        files = [path for path in (runtime.settings.data_dir / "store").rglob("*") if path.is_file()]
        wrong += [f"erased bytes in {path}" for path in files if SECRET.encode() in path.read_bytes()]
    if operation.name == "snapshot":
        taken = snapshot_manifest.list_snapshots(runtime.settings.data_dir / "snapshots")
        for path, manifest in taken:
            snapshot_manifest.verify(path, manifest.files, asyncio.Event(), lambda _bytes: None)  # type: ignore[arg-type]
        if not taken:
            wrong.append("no snapshot")
    return wrong


# --- processes -----------------------------------------------------------------------------------------------


class Failed(Exception):
    """A process of a run hung or ended with an error."""


def forked(work: Callable[[], Awaitable[object]], log: Path) -> int:
    """Run `work` in a forked process with an event loop of its own; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            stderr = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(stderr, 1)
            os.dup2(stderr, 2)
            signal.alarm(RUN_TIMEOUT_S)
            asyncio.run(work())
            code = 0
        except BaseException:  # noqa: BLE001 (it is reported, and the process ends)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@dataclass
class Matrix:
    """Runs over copies of small data directories, which `prepare` makes."""

    root: Path

    def prepare(self) -> None:
        """Make the data directories that the operations begin with."""
        for name, work in (("plain", self._plain), ("erased", self._erased), ("second", self._second)):
            if name != "plain":
                copy(self.root / "plain", self.root / name)
            if forked(work, self.root / "log"):
                raise Failed((self.root / "log").read_text())
        (self.root / "empty").mkdir()

    async def _plain(self) -> None:
        quick()
        notes = self.root / "notes"
        async with lorestream(self.root / "elsewhere", self.root / "others") as stage:
            await stage.put("npc:c", i1="found iron", i2="found coal")
            await stage.level()
            task = tasks_over(stage.runtime)["export"]
            lines = [
                msgspec.json.encode(report.value).decode()
                async for report in task.run(task.arguments())
                if not isinstance(report, Outcome) and hasattr(report, "value")
            ]
        async with lorestream(self.root / "plain", notes) as stage:
            kept = await stage.put("npc:a", k1="planted a tree", k2="saw the lake", gone="lost a tooth")
            await stage.put("npc:spy", s1=SECRET)
            await stage.level()
            [gone] = [one for one, text in kept.items() if text == "lost a tooth"]
            (self.root / "base.json").write_text(json.dumps({"gone": gone, "lines": lines}))
            await stage.task("snapshot", to=str(self.root / "snapshot"))

    async def _erased(self) -> None:
        quick()
        async with lorestream(self.root / "erased", self.root / "others") as stage:
            await erase(stage)

    async def _second(self) -> None:
        quick()
        async with lorestream(self.root / "second", self.root / "others") as stage:
            await stage.task("replay", to=NEXT)
            await stage.level()

    def run(self, operation: Operation, mode: str, at: int) -> Finding:
        """One run; mode "count" has no fault, and counts the points."""
        with tempfile.TemporaryDirectory(dir=self.root, prefix="run-") as directory:
            place = Path(directory)
            data, notes, log, result = place / "data", place / "notes", place / "log", place / "result"
            copy(self.root / operation.base, data)
            for name in ("base.json", "snapshot"):
                (place / name).symlink_to(self.root / name)
            notes.write_text("" if operation.name == "start" else (self.root / "notes").read_text())
            fault = Fault(data, mode, at)

            async def first() -> None:
                quick()
                found = Finding()
                try:
                    await first_process(operation, fault, notes, found)
                finally:
                    result.write_bytes(msgspec.json.encode(found))

            async def second() -> None:
                quick()
                found = Finding()
                try:
                    await second_process(operation, data, notes, found)
                finally:
                    result.write_bytes(msgspec.json.encode(found))

            total = Finding()
            for process, work in (("first", first), ("second", second)):
                result.unlink(missing_ok=True)
                code = forked(work, log)
                if result.exists():
                    found = msgspec.json.decode(result.read_bytes(), type=Finding)
                    total.wrong += [f"{process} process: {one}" for one in found.wrong]
                    total.points = total.points or found.points
                    total.hit = total.hit or found.hit
                if code not in ({0, KILLED} if process == "first" else {0}):
                    total.wrong.append(f"{process} process ended with {code}: {log.read_text()[-3000:]}")
        return total


def copy(source: Path, target: Path) -> None:
    """Copy a data directory, with the holes of its files."""
    subprocess.run(["cp", "-a", "--sparse=always", str(source), str(target)], check=True)


def sites_of(points: Sequence[str]) -> list[list[int]]:
    """The numbers of the points, from 1, by the place in the code that makes the call."""
    sites: dict[str, list[int]] = {}
    for number, site in enumerate(points, 1):
        sites.setdefault(site, []).append(number)
    return list(sites.values())


def chosen(points: Sequence[str], most: int, chance: random.Random) -> Sequence[int]:
    """The points to fail: the first, the last and one more of each place; or one of each of `most` places."""
    sites = sites_of(points)
    if most:
        return sorted(chance.choice(site) for site in chance.sample(sites, min(most, len(sites))))
    return sorted({one for site in sites for one in (site[0], chance.choice(site), site[-1])})


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line of JSON for each operation and mode. Returns the number of runs that found something wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument("--most", type=int, default=0, help="at most so many places, 0 = all")
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    set_up_logging("json", "error")
    os.umask(durable.PRIVATE_UMASK)
    chance, failed = random.Random(options.seed), 0
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=base, prefix="lorestream-matrix-") as directory:
        matrix = Matrix(Path(directory))
        matrix.prepare()
        for name in options.operations:
            operation = OPERATIONS[name]
            counted = matrix.run(operation, "count", 0)
            for mode in options.modes:
                numbers = chosen(counted.points, options.most, chance)
                runs = [(at, matrix.run(operation, mode, at)) for at in numbers]
                wrong = {f"{at} {found.hit}": found.wrong for at, found in runs if found.wrong}
                failed += len(wrong)
                report = {
                    "operation": name,
                    "mode": mode,
                    "calls": len(counted.points),
                    "places": len(sites_of(counted.points)),
                    "runs": len(runs),
                    "wrong": wrong or counted.wrong,
                }
                sys.stdout.write(json.dumps(report) + "\n")
                sys.stdout.flush()
            failed += bool(counted.wrong)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 100))
