"""The operations of the matrix of disk faults, on a lorestream without network services, and what must hold after them.

What is acknowledged is noted in a file outside of the reach of the faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lorestream.adapters.embedded import restore, snapshot
from lorestream.adapters.embedders import hash as hash_embedder
from lorestream.adapters.in_process import cache, watermarks
from lorestream.adapters.qdrant.edge import catalogue, shard
from lorestream.adapters.sqlite import log as sqlite_log
from lorestream.admin import Outcome, snapshot_manifest
from lorestream.cli.admin.tasks import tasks_over
from lorestream.collections import open_collections
from lorestream.settings import Settings, load_settings
from lorestream.wiring import Runtime, open_runtime, restores
from producers.gateway import Gateway
from stream_workers import collection_feed
from stream_workers import worker as worker_module
from stream_workers.indexing import checkpoint, failures, indexer
from stream_workers.rebuild import alias_swap, replay
from stream_workers.rebuild.compaction import Compaction
from stream_workers.worker import Worker
from tests.empty_shards import create_in_this_process
from tests.log_fold import differences, fold, stored

LOADED = (restore, snapshot, hash_embedder, cache, watermarks, catalogue, sqlite_log)
"""What the wiring imports where it is chosen: imported here once, before the processes of the runs are forked."""
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
    shard.create_in_subprocess = create_in_this_process  # so that its calls to the disk are points too


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
