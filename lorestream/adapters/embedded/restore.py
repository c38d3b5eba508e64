"""Restores a snapshot of an embedded Lorestream into an empty data directory.

Everything is checked before anything is written. The files are copied to a staging directory inside the data
directory, and moved into their places at the end. While the staging directory exists, no lorestream starts there.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorestream import durable, os_support, supervision
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

RESTORED_ENTRIES = (PLAYER_KEY, LOG, STORE)
"""The entries of the data directory that a restore creates, in this order."""

_ALLOWED_ENTRIES = frozenset({"snapshots", "lock"})
"""Entries that an empty data directory may have."""
_SIDE_FILE_SUFFIXES = ("-wal", "-shm", ".lock")


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """Where a snapshot is restored to.

    `staging`: the directory in `data_dir` where the files are collected. `collection`: the name that the settings
    give to the collection. `model_id`, `dim`: the model of the settings.
    """

    data_dir: Path
    staging: Path
    collection: str
    model_id: str
    dim: int


def check(snapshot: Path, manifest: Manifest, target: RestoreTarget) -> None:
    """Check the manifest and the target, not the files. Raises OperationRefused, ModelMismatch."""
    if (manifest.store, manifest.log) != ("edge", "embedded"):
        raise OperationRefused(
            f"{snapshot} is of the distributed shape: restore it with the settings of its services, such as"
            " LORESTREAM_STORE__URL and LORESTREAM_LOG__BOOTSTRAP"
        )
    if missing := {LOG, f"{STORE}/store.json"} - set(manifest.files):
        raise OperationRefused(f"the snapshot is damaged: its manifest names no {min(missing)}")
    if (manifest.model_id, manifest.dim) != (target.model_id, target.dim):
        raise ModelMismatch(
            f"{snapshot} was filled by {manifest.model_id} ({manifest.dim} dimensions), not by {target.model_id}"
            f" ({target.dim}): restore and start it with that model (LORESTREAM_EMBEDDER__MODEL)"
        )
    if target.staging.exists():
        return  # left by an interrupted restore, as are the entries beside it
    found = {path.name for path in target.data_dir.iterdir()} if target.data_dir.is_dir() else set[str]()
    if others := found - _ALLOWED_ENTRIES:
        raise OperationRefused(
            f"{target.data_dir} is not empty, {min(others)} is in it: restore into another place with --data,"
            " or move away what is there"
        )


async def restore(
    snapshot: Path, manifest: Manifest, target: RestoreTarget, old: Path | None, clock: Clock
) -> AsyncGenerator[Progress]:
    """Restore, after `check`, while this process holds the lock of the data directory.

    `old`: the log database of another data directory, whose later deletions and erasures are applied; None: none are.
    The last report counts them. Raises OperationRefused and Unavailable, with the data directory as it was before.
    """
    removals = None if old is None else ledger_merge.read_removals(old)
    try:
        _clean_up(target)
        copying = snapshot_files.run_in_thread(lambda cancelled: _copy(snapshot, manifest, target, cancelled))
        async with supervision.alongside(copying, "restore") as task:
            async for _ in snapshot_files.ticks(task):
                yield Progress("copying", os_support.used_bytes(target.staging), unit="bytes")
            task.result()
        merged = 0
        if removals is not None:
            yield Progress("applying deletions", 0)
            merged = await _apply_removals(removals, target, clock)
        await snapshot_files.run_in_thread(lambda _cancelled: _move_into_place(target))
    except OSError as error:
        _try_to_clean_up(target)
        raise OperationRefused(
            f"nothing was restored, {target.data_dir} cannot be written ({error.strerror}): {durable.remedy(error)},"
            " or choose another place with --data"
        ) from error
    except BaseException:
        _try_to_clean_up(target)
        raise
    yield Progress("applying deletions", merged, merged)


def _copy(
    snapshot: Path, manifest: Manifest, target: RestoreTarget, cancelled: snapshot_files.Cancelled
) -> None:
    target.staging.mkdir(mode=0o700)
    for name in manifest.files:
        place = _target_path(name, target)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        snapshot_files.copy(snapshot / name, place, cancelled)
    # The copies are compared with the manifest, too: the snapshot may have changed since it was checked.
    for name, expected in manifest.files.items():
        if snapshot_files.digest(_target_path(name, target), cancelled, lambda _bytes: None) != expected:
            raise OperationRefused(f"nothing was restored: {name} has changed while it was copied, try again")
    durable.sync_tree(target.staging)


def _target_path(name: str, target: RestoreTarget) -> Path:
    """Where a file of the snapshot is staged: those of the store below the name of the collection."""
    if name.startswith(f"{STORE}/"):
        return target.staging / STORE / target.collection / name.removeprefix(f"{STORE}/")
    return target.staging / name


async def _apply_removals(removals: ledger_merge.Removals, target: RestoreTarget, clock: Clock) -> int:
    present = ledger_merge.read_removals(target.staging / LOG)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(target.staging / LOG))
        ledger = await SqliteErasureLedger.open(database, clock=clock)
        log = await stack.enter_async_context(
            SqliteLog.open(database, retention_s=float("inf"), max_bytes=0, clock=clock)
        )
        store = await stack.enter_async_context(
            EdgeStore.open(
                target.staging / STORE / target.collection, model_id=target.model_id, dim=target.dim
            )
        )
        return await ledger_merge.merge(removals, present, log, ledger, store)


def _move_into_place(target: RestoreTarget) -> None:
    for name in RESTORED_ENTRIES:
        path = target.staging / name
        if path.exists():
            durable.rename(path, target.data_dir / name)
    durable.remove_tree(target.staging)


def _try_to_clean_up(target: RestoreTarget) -> None:
    """Like `_clean_up`. What cannot be deleted now is deleted by the next restore; no lorestream starts before that."""
    with contextlib.suppress(OSError):
        _clean_up(target)


def _clean_up(target: RestoreTarget) -> None:
    """Delete what an interrupted restore has left. Nothing else was there when it began."""
    if not target.staging.exists():
        return
    for name in RESTORED_ENTRIES:
        for path in (
            target.data_dir / name,
            *(target.data_dir / f"{name}{remains}" for remains in _SIDE_FILE_SUFFIXES),
        ):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    durable.remove_tree(target.staging)
