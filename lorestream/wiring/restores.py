"""Where snapshots are put back, by the settings of a process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lorestream.admin import Outcome, Progress, Remark, Report, snapshot_files, snapshot_manifest
from lorestream.errors import OperationRefused, Unavailable
from lorestream.settings.backends import QdrantStore
from lorestream.telemetry import Metrics
from lorestream.wiring import data_directory, openers
from lorestream.wiring.parts import SystemClock
from lorestream.wiring.snapshots import connected, rest

if TYPE_CHECKING:
    from lorestream.adapters.embedded.restore import Target
    from lorestream.admin.snapshot_manifest import Manifest
    from lorestream.ports import EventLog
    from lorestream.settings import Settings

_RESTORED = "__restored_"
"""What the name of a restored collection has behind the old one, before the time."""
_JOIN_S = 120.0
"""How long a group without members may take to let one in."""


async def check(settings: Settings, snapshot: Path) -> AsyncGenerator[Report]:
    """Look whether a snapshot can be restored with these settings. Raises OperationRefused, Misconfigured, Unavailable."""
    manifest = snapshot_manifest.read(snapshot)
    if isinstance(settings.store, QdrantStore):
        await _check_for_server(settings, manifest)
    else:
        await _checked_target(settings, snapshot, manifest)
    async for progress in _verify(snapshot, manifest):
        yield progress
    yield Outcome(_told(snapshot, manifest))


async def restore(settings: Settings, snapshot: Path, *, ledger_from: Path | None) -> AsyncGenerator[Report]:
    """Put a snapshot back: into an empty data directory, or on a server as a collection beside what is there.

    Raises OperationRefused and Misconfigured with nothing changed, and Unavailable.
    """
    manifest = snapshot_manifest.read(snapshot)
    if isinstance(settings.store, QdrantStore):
        reports = _on_server(settings, settings.store, snapshot, manifest, ledger_from)
    else:
        reports = _embedded(settings, snapshot, manifest, ledger_from)
    async with contextlib.aclosing(reports):
        async for report in reports:
            yield report


async def _embedded(
    settings: Settings, snapshot: Path, manifest: Manifest, ledger_from: Path | None
) -> AsyncGenerator[Report]:
    from lorestream.adapters.embedded import restore  # noqa: PLC0415

    target = await _checked_target(settings, snapshot, manifest)
    async for progress in _verify(snapshot, manifest):
        yield progress
    merged = 0
    # From here on something is written, if only the lock.
    with data_directory.exclusive_use(data_directory.ensure_writable(target.home), restoring=True):
        restore.check(snapshot, manifest, target)
        old = None if ledger_from is None else ledger_from / restore.LOG
        async for report in restore.restore(snapshot, manifest, target, old, SystemClock()):
            merged = report.done if report.doing == "forgetting" else merged
            yield report
    if warning := _about_names(settings, manifest):
        yield Remark(warning)
    yield Outcome(_told(snapshot, manifest) | {"data": str(target.home.resolve()), "forgotten": merged})


async def _on_server(
    settings: Settings, store: QdrantStore, snapshot: Path, manifest: Manifest, ledger_from: Path | None
) -> AsyncGenerator[Report]:
    """The services hold the present ledger, and read the log on from where the snapshot was."""
    from lorestream.adapters.qdrant.server import snapshots  # noqa: PLC0415

    if not settings.distributed or ledger_from is not None:
        raise OperationRefused(
            "the ledger of services is lorestream.erasures in Kafka, which they read anyway: restore with"
            " LORESTREAM_LOG__BOOTSTRAP, and without --ledger-from"
        )
    await _check_for_server(settings, manifest)
    async for progress in _verify(snapshot, manifest):
        yield progress
    name = (
        manifest.collection.partition(_RESTORED)[0] + _RESTORED + time.strftime("%Y%m%d%H%M%S", time.gmtime())
    )
    async with contextlib.AsyncExitStack() as stack:
        log = await openers.open_log(settings, settings.data_dir, SystemClock(), stack)
        connection = await stack.enter_async_context(connected(store))
        await connection.version()
        yield Progress("restoring", 0, manifest.bytes, "bytes")
        await rest(store).recover(snapshot / snapshots.FILE, name)
        yield Progress("restoring", manifest.bytes, manifest.bytes, "bytes")
        metadata = await snapshots.collection_metadata(connection, name)
        await begin_at(log.events, openers.group_of(settings.log, name, metadata.run), manifest.offsets)
        # Only now: whoever finds it begins to feed it.
        active = await snapshots.register_collection(connection, store.collection, name)
    if active is not None:
        yield Remark(
            f"{store.collection} still stands for {active}: once {name} has caught up, `lorestream alias swap {name}` turns to it"
        )
    searched = active is None
    yield Outcome(
        _told(snapshot, manifest) | {"collection": name, "searched": searched, "forgotten": 0, "data": name}
    )


async def _check_for_server(settings: Settings, manifest: Manifest) -> None:
    from lorestream.adapters.qdrant.server import snapshots  # noqa: PLC0415

    model_id, dim = await _model(settings)
    snapshots.check_manifest(manifest, model_id=model_id, dim=dim)


async def _checked_target(settings: Settings, snapshot: Path, manifest: Manifest) -> Target:
    from lorestream.adapters.embedded import restore  # noqa: PLC0415

    if settings.store.kind == "memory":
        raise OperationRefused("LORESTREAM_STORE__KIND=memory forgets at exit: restore with edge")
    model_id, dim = await _model(settings)
    directory = settings.data_dir
    target = restore.Target(
        directory, directory / data_directory.RESTORING, settings.store.collection, model_id, dim
    )
    restore.check(snapshot, manifest, target)
    return target


async def _model(settings: Settings) -> tuple[str, int]:
    """The configured one. It names itself: for this it has to be there."""
    async with contextlib.AsyncExitStack() as stack:
        embedder = await openers.open_embedder(settings.embedder, settings.models_dir, Metrics(), stack)
        return embedder.model_id, embedder.dim


@dataclass(slots=True)
class _Listener:
    """Knows what it was given."""

    partitions: set[int] = field(default_factory=set[int])
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def assigned(self, positions: Mapping[int, int]) -> None:
        self.partitions |= set(positions)
        self.changed.set()

    async def revoked(self, partitions: Collection[int]) -> None:
        self.partitions -= set(partitions)


async def begin_at(log: EventLog, group: str, offsets: Mapping[int, int]) -> None:
    """Have a group without members go on at these offsets. Raises Unavailable."""
    listener = _Listener()
    async with log.subscribe(group, listener) as member:
        try:
            async with asyncio.timeout(_JOIN_S):
                while not set(offsets) <= listener.partitions:
                    listener.changed.clear()
                    await listener.changed.wait()
        except TimeoutError:
            raise Unavailable(
                f"the group {group} has other members: stop the services that are in it"
            ) from None
        if offsets:
            await member.commit(offsets)


def _told(snapshot: Path, manifest: Manifest) -> dict[str, object]:
    return {
        "snapshot": str(snapshot),
        "created": manifest.created,
        "lorestream": manifest.lorestream,
        "model_id": manifest.model_id,
        "bytes": snapshot_files.taken_by(snapshot),
    }


async def _verify(snapshot: Path, manifest: Manifest) -> AsyncGenerator[Progress]:
    seen = 0

    def count(more: int) -> None:
        nonlocal seen
        seen += more

    verifying = asyncio.create_task(
        snapshot_files.in_thread(
            lambda stopped: snapshot_manifest.verify(snapshot, manifest.files, stopped, count)
        )
    )
    async with contextlib.aclosing(snapshot_files.beats(verifying)) as beats:
        async for _ in beats:
            yield Progress("checking", seen, manifest.bytes, "bytes")
    verifying.result()
    yield Progress("checking", manifest.bytes, manifest.bytes, "bytes")


def _about_names(settings: Settings, manifest: Manifest) -> str | None:
    if manifest.player_key == "setting" and settings.player_key is None:
        return (
            "the key for player names was a setting when this snapshot was taken: set LORESTREAM_PLAYER_KEY to the same"
            " one, or nothing will be found by a player's name"
        )
    if manifest.player_key == "file" and settings.player_key is not None:
        return (
            "this snapshot has a key for player names of its own (player.key), and LORESTREAM_PLAYER_KEY counts before"
            " it: leave that out, or put both keys into it"
        )
    return None
