"""A snapshot of an embedded Lorestream, put into a data directory that has none.

Everything is checked before anything is written. The files come together in a folder of their own in the data
directory and are moved into their places at the end; as long as that folder is there, no lorestream starts in it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorestream import durable
from lorestream.adapters.embedded.snapshot import LOG, PLAYER_KEY, STORE
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.adapters.sqlite import ledger_merge
from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.erasure_ledger import SqliteErasureLedger
from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.admin import Progress, snapshot_files
from lorestream.admin.snapshot_manifest import Manifest
from lorestream.errors import ModelMismatch, OperationRefused

if TYPE_CHECKING:
    from lorestream.ports import Clock

OURS = (PLAYER_KEY, LOG, STORE)
"""What a restore puts into the data directory, in this order."""

_BESIDE = frozenset({"snapshots", "lock"})
"""What may lie in a data directory that is as good as empty."""
_REMAINS = ("-wal", "-shm", ".lock")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a snapshot goes.

    `ready`: the folder in `home` where it comes together. `collection`: the name under which it will be looked for.
    `model_id` and `dim`: of the model that will be asked.
    """

    home: Path
    ready: Path
    collection: str
    model_id: str
    dim: int


def check(snapshot: Path, manifest: Manifest, target: Target) -> None:
    """Refuse what cannot be restored there, before its files are looked at. Raises OperationRefused, ModelMismatch."""
    if (manifest.store, manifest.log) != ("edge", "embedded"):
        raise OperationRefused(
            f"{snapshot} is not of an embedded lorestream: restore it with the settings of its services"
        )
    if missing := {LOG, f"{STORE}/store.json"} - set(manifest.files):
        raise OperationRefused(f"the snapshot is damaged: its manifest names no {min(missing)}")
    if (manifest.model_id, manifest.dim) != (target.model_id, target.dim):
        raise ModelMismatch(
            f"{snapshot} was filled by {manifest.model_id} ({manifest.dim} dimensions), not by {target.model_id}"
            f" ({target.dim}): restore and start it with that model (LORESTREAM_EMBEDDER__MODEL)"
        )
    if target.ready.exists():
        return  # a restore that was broken off: what lies beside is its own
    found = {path.name for path in target.home.iterdir()} if target.home.is_dir() else set[str]()
    if others := found - _BESIDE:
        raise OperationRefused(
            f"{target.home} is not empty, {min(others)} is in it: restore into another place with --data,"
            " or move away what is there"
        )


async def restore(
    snapshot: Path, manifest: Manifest, target: Target, old: Path | None, clock: Clock
) -> AsyncGenerator[Progress]:
    """Do it, where `check` found nothing and this process alone has the data directory.

    `old`: the log database of the data directory whose deletions and erasures are taken over. The last report
    counts them. Raises OperationRefused, with the place as it was before, and Unavailable.
    """
    forgotten = None if old is None else ledger_merge.read_removals(old)
    _clear(target)
    try:
        copying = asyncio.create_task(
            snapshot_files.in_thread(lambda stopped: _copy(snapshot, manifest, target, stopped))
        )
        async with aclosing(snapshot_files.beats(copying)) as beats:
            async for _ in beats:
                yield Progress("copying", snapshot_files.taken_by(target.ready), unit="bytes")
        copying.result()
        merged = 0
        if forgotten is not None:
            yield Progress("forgetting", 0)
            merged = await _forget(forgotten, target, clock)
        await snapshot_files.in_thread(lambda _stopped: _put_in_place(target))
    except OSError as error:
        _clear(target)
        raise OperationRefused(
            f"nothing was restored, {target.home} cannot be written ({error.strerror}): make room,"
            " or choose another place with --data"
        ) from error
    except BaseException:
        _clear(target)
        raise
    yield Progress("forgetting", merged, merged)


def _copy(snapshot: Path, manifest: Manifest, target: Target, stopped: snapshot_files.Stopped) -> None:
    target.ready.mkdir(mode=0o700)
    for name in manifest.files:
        place = _place(name, target)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        snapshot_files.copy(snapshot / name, place, stopped)
    # What was copied is held against the manifest as well, and made durable by the way.
    for name, seal in manifest.files.items():
        if snapshot_files.seal(_place(name, target), stopped, lambda _bytes: None) != seal:
            raise OperationRefused(f"nothing was restored: {name} has changed while it was copied, try again")
        durable.sync(_place(name, target))
    for folder in (target.ready, *(path for path in target.ready.rglob("*") if path.is_dir())):
        durable.sync(folder)


def _place(name: str, target: Target) -> Path:
    """Where a file of the snapshot goes: its store under the name of the collection."""
    if name.startswith(f"{STORE}/"):
        return target.ready / STORE / target.collection / name.removeprefix(f"{STORE}/")
    return target.ready / name


async def _forget(forgotten: ledger_merge.Removals, target: Target, clock: Clock) -> int:
    present = ledger_merge.read_removals(target.ready / LOG)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(target.ready / LOG))
        ledger = await SqliteErasureLedger.open(database, clock=clock)
        log = await stack.enter_async_context(
            SqliteLog.open(database, retention_s=float("inf"), max_bytes=0, clock=clock)
        )
        store = await stack.enter_async_context(
            EdgeStore.open(target.ready / STORE / target.collection, model_id=target.model_id, dim=target.dim)
        )
        return await ledger_merge.merge(forgotten, present, log, ledger, store)


def _put_in_place(target: Target) -> None:
    for name in OURS:
        path = target.ready / name
        if path.exists():
            durable.rename(path, target.home / name)
    durable.remove_tree(target.ready)


def _clear(target: Target) -> None:
    """Remove what a restore that did not come to its end has left; nothing else was there when it began."""
    if not target.ready.exists():
        return
    for name in OURS:
        for path in (target.home / name, *(target.home / f"{name}{remains}" for remains in _REMAINS)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    snapshot_files.remove(target.ready)
