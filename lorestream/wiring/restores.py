"""Restores of snapshots: into a data directory or a Qdrant server, as the settings say."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lorestream import os_support, supervision
from lorestream.admin import Outcome, Progress, Remark, Report, snapshot_files, snapshot_manifest
from lorestream.errors import OperationRefused, Unavailable
from lorestream.settings.backends import QdrantStore
from lorestream.telemetry import Metrics
from lorestream.wiring import data_directory, logs, openers
from lorestream.wiring.parts import SystemClock
from lorestream.wiring.snapshots import connect_qdrant, snapshot_api

if TYPE_CHECKING:
    from lorestream.adapters.embedded.restore import RestoreTarget
    from lorestream.admin.snapshot_manifest import Manifest
    from lorestream.ports import EventLog
    from lorestream.settings import Settings

_RESTORED_SUFFIX = "__restored_"
"""Stands between the old name of a restored collection and the time of the restore."""
_JOIN_TIMEOUT_S = 120.0
"""How long joining a consumer group without members may take."""


async def check(settings: Settings, snapshot: Path) -> AsyncGenerator[Report]:
    """Check whether a snapshot can be restored with these settings; change nothing.

    Raises OperationRefused, Misconfigured, ModelMismatch, Unavailable.
    """
    manifest = snapshot_manifest.read(snapshot)
    if isinstance(settings.store, QdrantStore):
        await _check_server_manifest(settings, manifest)
    else:
        await _check_target(settings, snapshot, manifest)
    async for progress in _verify(snapshot, manifest):
        yield progress
    yield Outcome(_describe(snapshot, manifest))


async def restore(settings: Settings, snapshot: Path, *, ledger_from: Path | None) -> AsyncGenerator[Report]:
    """Restore a snapshot: into an empty data directory, or to a Qdrant server as another collection.

    `ledger_from`: a data directory whose later deletions and erasures are applied. Raises OperationRefused and
    Misconfigured, with nothing changed, and Unavailable.
    """
    manifest = snapshot_manifest.read(snapshot)
    if isinstance(settings.store, QdrantStore):
        reports = _restore_to_server(settings, settings.store, snapshot, manifest, ledger_from)
    else:
        reports = _restore_embedded(settings, snapshot, manifest, ledger_from)
    async with contextlib.aclosing(reports):
        async for report in reports:
            yield report


async def _restore_embedded(
    settings: Settings, snapshot: Path, manifest: Manifest, ledger_from: Path | None
) -> AsyncGenerator[Report]:
    from lorestream.adapters.embedded import restore  # noqa: PLC0415

    target = await _check_target(settings, snapshot, manifest)
    async for progress in _verify(snapshot, manifest):
        yield progress
    removed = 0
    # The lock file is the first thing that is written.
    with data_directory.exclusive_use(data_directory.ensure_writable(target.data_dir), restoring=True):
        restore.check(snapshot, manifest, target)
        old = None if ledger_from is None else ledger_from / restore.LOG
        async for report in restore.restore(snapshot, manifest, target, old, SystemClock()):
            removed = report.done if report.doing == "applying deletions" else removed
            yield report
    if warning := _player_key_warning(settings, manifest):
        yield Remark(warning)
    yield Outcome(
        _describe(snapshot, manifest) | {"data": str(target.data_dir.resolve()), "forgotten": removed}
    )


async def _restore_to_server(
    settings: Settings, store: QdrantStore, snapshot: Path, manifest: Manifest, ledger_from: Path | None
) -> AsyncGenerator[Report]:
    """Restore a collection. The services' own ledger applies to it, and they index the log from its offsets on."""
    from lorestream.adapters.qdrant.server import snapshots  # noqa: PLC0415

    if not settings.distributed or ledger_from is not None:
        raise OperationRefused(
            "a snapshot of a Qdrant server needs the erasure ledger in Kafka, which applies without --ledger-from: set"
            " LORESTREAM_LOG__BOOTSTRAP, and leave out --ledger-from"
        )
    await _check_server_manifest(settings, manifest)
    async for progress in _verify(snapshot, manifest):
        yield progress
    name = (
        manifest.collection.partition(_RESTORED_SUFFIX)[0]
        + _RESTORED_SUFFIX
        + time.strftime("%Y%m%d%H%M%S", time.gmtime())
    )
    async with contextlib.AsyncExitStack() as stack:
        log = await logs.open_log(settings, settings.data_dir, SystemClock(), stack)
        connection = await stack.enter_async_context(connect_qdrant(store))
        await connection.version()
        yield Progress("restoring", 0, manifest.bytes, "bytes")
        await snapshot_api(store).recover(snapshot / snapshots.FILE, name)
        unregistered = await snapshots.mark_unregistered(connection, store.collection, name)
        yield Progress("restoring", manifest.bytes, manifest.bytes, "bytes")
        metadata = await snapshots.collection_metadata(connection, name)
        await commit_start_offsets(
            log.events, logs.group_of(settings.log, name, metadata.run), manifest.offsets
        )
        # Last: workers begin to index into a collection as soon as it is registered.
        active = await snapshots.register_collection(connection, store.collection, name, unregistered)
    if active is not None:
        yield Remark(
            f"{active} is still searched: once {name} has caught up with the log, switch with `lorestream alias swap {name}`"
        )
    searched = active is None
    yield Outcome(
        _describe(snapshot, manifest)
        | {"collection": name, "searched": searched, "forgotten": 0, "data": name}
    )


async def _check_server_manifest(settings: Settings, manifest: Manifest) -> None:
    from lorestream.adapters.qdrant.server import snapshots  # noqa: PLC0415

    model_id, dim = await _configured_model(settings)
    snapshots.check_manifest(manifest, model_id=model_id, dim=dim)


async def _check_target(settings: Settings, snapshot: Path, manifest: Manifest) -> RestoreTarget:
    from lorestream.adapters.embedded import restore  # noqa: PLC0415

    if settings.store.kind == "memory":
        raise OperationRefused(
            "LORESTREAM_STORE__KIND=memory keeps nothing after exit: set it to edge for a restore"
        )
    model_id, dim = await _configured_model(settings)
    directory = settings.data_dir
    target = restore.RestoreTarget(
        directory, directory / data_directory.RESTORING, settings.store.collection, model_id, dim
    )
    restore.check(snapshot, manifest, target)
    return target


async def _configured_model(settings: Settings) -> tuple[str, int]:
    """The id and the dimension of the model of the settings, which is loaded to find them."""
    async with contextlib.AsyncExitStack() as stack:
        embedder = await openers.open_embedder(settings.embedder, settings.models_dir, Metrics(), stack)
        return embedder.model_id, embedder.dim


@dataclass(slots=True)
class _AssignmentListener:
    """Collects the partitions that are assigned to a member."""

    partitions: set[int] = field(default_factory=set[int])
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def assigned(self, positions: Mapping[int, int]) -> None:
        self.partitions |= set(positions)
        self.changed.set()

    async def revoked(self, partitions: Collection[int]) -> None:
        self.partitions -= set(partitions)


async def commit_start_offsets(log: EventLog, group: str, offsets: Mapping[int, int]) -> None:
    """Commit the offsets at which a group without members begins, as its member. Raises Unavailable."""
    listener = _AssignmentListener()
    async with log.subscribe(group, listener) as member:
        try:
            async with asyncio.timeout(_JOIN_TIMEOUT_S):
                while not set(offsets) <= listener.partitions:
                    listener.changed.clear()
                    await listener.changed.wait()
        except TimeoutError:
            raise Unavailable(
                f"the consumer group {group} has other members: stop the services that are in it"
            ) from None
        if offsets:
            await member.commit(offsets)


def _describe(snapshot: Path, manifest: Manifest) -> dict[str, object]:
    return {
        "snapshot": str(snapshot),
        "created": manifest.created,
        "lorestream": manifest.lorestream,
        "model_id": manifest.model_id,
        "bytes": os_support.used_bytes(snapshot),
    }


async def _verify(snapshot: Path, manifest: Manifest) -> AsyncGenerator[Progress]:
    seen = 0

    def count(more: int) -> None:
        nonlocal seen
        seen += more

    verifying = snapshot_files.run_in_thread(
        lambda cancelled: snapshot_manifest.verify(snapshot, manifest.files, cancelled, count)
    )
    async with supervision.alongside(verifying, "check of a snapshot") as task:
        async for _ in snapshot_files.ticks(task):
            yield Progress("checking", seen, manifest.bytes, "bytes")
        task.result()
    yield Progress("checking", manifest.bytes, manifest.bytes, "bytes")


def _player_key_warning(settings: Settings, manifest: Manifest) -> str | None:
    if manifest.player_key == "setting" and settings.player_key is None:
        return (
            "the key for player names was a setting when this snapshot was taken: set LORESTREAM_PLAYER_KEY to the same"
            " key, otherwise no memory is found by a player's name"
        )
    if manifest.player_key == "file" and settings.player_key is not None:
        return (
            "this snapshot contains its own key for player names (player.key), but LORESTREAM_PLAYER_KEY takes"
            " precedence: unset it, or put both keys into it"
        )
    return None
