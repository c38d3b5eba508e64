"""The snapshots of a process: from its settings, the source that they copy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lorestream.admin.snapshots import Snapshots
from lorestream.errors import Misconfigured, OperationRefused
from lorestream.settings.backends import QdrantStore, plain
from lorestream.wiring import logs

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from lorestream.adapters.qdrant.server.connection import Connection
    from lorestream.adapters.qdrant.server.snapshots import SnapshotApi
    from lorestream.admin.snapshots import SnapshotSource
    from lorestream.wiring.parts import WorkerParts

HOUR_S = 3600.0


def snapshots_over(parts: WorkerParts) -> Snapshots:
    """The snapshots of the store and the log of these parts."""
    settings = parts.settings
    return Snapshots(
        _source(parts),
        settings.snapshot_dir.absolute(),
        parts.clock,
        every_s=settings.snapshot.every_hours * HOUR_S,
        keep=settings.snapshot.keep,
    )


def connect_qdrant(chosen: QdrantStore) -> AbstractAsyncContextManager[Connection]:
    """A gRPC connection to the Qdrant server."""
    from lorestream.adapters.qdrant.server.connection import Connection  # noqa: PLC0415

    return Connection.open(
        chosen.url,
        grpc_port=chosen.grpc_port,
        api_key=plain(chosen.api_key),
        timeout_s=chosen.timeout_s,
    )


def snapshot_api(chosen: QdrantStore) -> SnapshotApi:
    """The REST API of the Qdrant server, for snapshot files."""
    from lorestream.adapters.qdrant.server.snapshots import SnapshotApi  # noqa: PLC0415

    return SnapshotApi(chosen.url.rstrip("/"), plain(chosen.api_key))


def _source(parts: WorkerParts) -> SnapshotSource:
    settings = parts.settings
    if isinstance(settings.store, QdrantStore):
        from lorestream.adapters.qdrant.server.snapshots import ServerSnapshotSource  # noqa: PLC0415

        connect = partial(connect_qdrant, settings.store)

        def searched() -> tuple[str, str]:
            if not settings.distributed:
                raise Misconfigured(
                    "no snapshot of the embedded log together with a Qdrant server is possible: stop Lorestream, then copy"
                    " its data directory, and take a snapshot of the collection with Qdrant's own tools"
                )
            return parts.collections.current.name, parts.group

        return ServerSnapshotSource(connect, snapshot_api(settings.store), searched, parts.log)

    from lorestream.adapters.embedded.snapshot import LOG, PLAYER_KEY, EmbeddedSnapshotSource  # noqa: PLC0415
    from lorestream.adapters.qdrant.edge.store import EdgeStore  # noqa: PLC0415

    def active() -> tuple[EdgeStore, str, str]:
        store = parts.store
        if settings.store.kind == "memory" or not isinstance(store, EdgeStore):
            raise OperationRefused(
                "LORESTREAM_STORE__KIND=memory has no files to copy: set it to edge for snapshots"
            )
        return store, parts.collections.current.name, parts.group

    return EmbeddedSnapshotSource(
        active,
        parts.log,
        settings.data_dir / LOG,
        player_key=None if settings.player_key is not None else settings.data_dir / PLAYER_KEY,
        group=logs.INDEXER,
        min_free_bytes=settings.min_free_bytes,
    )
