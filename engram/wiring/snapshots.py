"""Where snapshots are taken from, and where they are put back, by the settings of a process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

from engram.backends import EmbeddedLog
from engram.care import Outcome, Progress, Remark, Report, files, manifests
from engram.care.snapshots import Snapshots
from engram.errors import Misconfigured, Refusal
from engram.telemetry import Metrics
from engram.wiring import backends, home
from engram.wiring.parts import SystemClock

if TYPE_CHECKING:
    from engram.adapters.embedded_restore import Target
    from engram.care.manifests import Manifest
    from engram.care.snapshots import Source
    from engram.settings import Settings
    from engram.wiring.parts import WorkerParts

HOUR_S = 3600.0


def snapshots_over(parts: WorkerParts) -> Snapshots:
    """The snapshots of what these parts hold."""
    settings = parts.settings
    return Snapshots(
        _source(parts),
        settings.snapshot_dir.absolute(),
        parts.clock,
        every_s=settings.snapshot.every_hours * HOUR_S,
        keep=settings.snapshot.keep,
    )


def _source(parts: WorkerParts) -> Source:
    from engram.adapters.embedded_copy import LOG, PLAYER_KEY, EmbeddedCopy  # noqa: PLC0415
    from engram.adapters.qdrant_edge import EdgeStore  # noqa: PLC0415

    settings = parts.settings

    def active() -> tuple[EdgeStore, str, str]:
        if settings.store.kind == "memory":
            raise Refusal("ENGRAM_STORE__KIND=memory forgets at exit: with edge there is something to keep")
        store = parts.store
        if not isinstance(store, EdgeStore):
            raise Misconfigured("ENGRAM_STORE__KIND: snapshots beside an embedded log are of an edge store")
        return store, settings.store.collection, parts.group

    return EmbeddedCopy(
        active,
        parts.log,
        settings.data_dir / LOG,
        player_key=None if settings.player_key is not None else settings.data_dir / PLAYER_KEY,
        group=backends.INDEXER,
    )


async def check(settings: Settings, snapshot: Path) -> AsyncGenerator[Report]:
    """Look whether a snapshot can be restored with these settings. Raises Refusal, Misconfigured."""
    from engram.adapters import embedded_restore  # noqa: PLC0415

    manifest, target = manifests.read(snapshot), await _target(settings)
    embedded_restore.check(snapshot, manifest, target)
    async for progress in _verify(snapshot, manifest):
        yield progress
    yield Outcome(_told(snapshot, manifest))


async def restore(settings: Settings, snapshot: Path, *, ledger_from: Path | None) -> AsyncGenerator[Report]:
    """Put a snapshot into an empty data directory. Raises Refusal, Misconfigured; then nothing has changed."""
    from engram.adapters import embedded_restore  # noqa: PLC0415

    manifest, target = manifests.read(snapshot), await _target(settings)
    embedded_restore.check(snapshot, manifest, target)
    async for progress in _verify(snapshot, manifest):
        yield progress
    merged = 0
    # From here on something is written, if only the lock.
    with home.only_process(home.writable(target.home), restoring=True):
        embedded_restore.check(snapshot, manifest, target)
        old = None if ledger_from is None else ledger_from / embedded_restore.LOG
        async for report in embedded_restore.restore(snapshot, manifest, target, old, SystemClock()):
            merged = report.done if report.doing == "forgetting" else merged
            yield report
    if warning := _about_names(settings, manifest):
        yield Remark(warning)
    yield Outcome(_told(snapshot, manifest) | {"data": str(target.home.resolve()), "forgotten": merged})


async def _target(settings: Settings) -> Target:
    from engram.adapters.embedded_restore import Target  # noqa: PLC0415

    if not isinstance(settings.log, EmbeddedLog) or settings.store.kind == "qdrant":
        raise Misconfigured(
            "restore puts a snapshot into an embedded engram: leave out the settings of its servers"
        )
    if settings.store.kind == "memory":
        raise Refusal("ENGRAM_STORE__KIND=memory forgets at exit: restore with edge")
    async with contextlib.AsyncExitStack() as stack:
        # The model names itself: for this it has to be there.
        embedder = await backends.open_embedder(settings.embedder, settings.data_dir, Metrics(), stack)
        directory = settings.data_dir
        return Target(
            directory, directory / home.RESTORING, settings.store.collection, embedder.model_id, embedder.dim
        )


def _told(snapshot: Path, manifest: Manifest) -> dict[str, object]:
    return {
        "snapshot": str(snapshot),
        "created": manifest.created,
        "engram": manifest.engram,
        "model_id": manifest.model_id,
        "bytes": manifest.bytes,
    }


async def _verify(snapshot: Path, manifest: Manifest) -> AsyncGenerator[Progress]:
    yield Progress("checking", 0, manifest.bytes, "bytes")
    await files.in_thread(
        lambda stopped: manifests.verify(snapshot, manifest.files, stopped, lambda _bytes: None)
    )
    yield Progress("checking", manifest.bytes, manifest.bytes, "bytes")


def _about_names(settings: Settings, manifest: Manifest) -> str | None:
    if manifest.player_key == "setting" and settings.player_key is None:
        return (
            "the key for player names was a setting when this snapshot was taken: set ENGRAM_PLAYER_KEY to the same"
            " one, or nothing will be found by a player's name"
        )
    if manifest.player_key == "file" and settings.player_key is not None:
        return (
            "this snapshot has a key for player names of its own (player.key), and ENGRAM_PLAYER_KEY counts before"
            " it: leave that out, or put both keys into it"
        )
    return None
