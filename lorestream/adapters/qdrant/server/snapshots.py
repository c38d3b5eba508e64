"""Snapshots of a collection on a Qdrant server: created through gRPC, downloaded and uploaded through REST.

    collection.snapshot     one file in Qdrant's own format

The file is removed from the server after the download: beside the collection it would be lost together with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from lorestream import os_support
from lorestream.adapters.qdrant.server.collection import (
    CollectionMetadata,
    deletion_marker,
    find_collection,
    marker_name,
    resolve_alias,
    update_aliases,
)
from lorestream.adapters.qdrant.server.connection import Connection
from lorestream.adapters.qdrant.server.protocol import wire
from lorestream.admin.snapshots import CopyInfo
from lorestream.collections.catalogue import CREATION_TIMEOUT_S
from lorestream.errors import LorestreamError, Misconfigured, ModelMismatch, OperationRefused, Unavailable

if TYPE_CHECKING:
    from lorestream.admin.snapshot_manifest import Manifest
    from lorestream.ports import EventLog

FILE = "collection.snapshot"
SNAPSHOT_TIMEOUT_S = 3600.0
"""Deadline for creating, downloading or uploading a snapshot."""

_ACCESS_DENIED = (401, 403)
_MAX_DETAILS_CHARS = 300


@dataclass(frozen=True, slots=True)
class SnapshotApi:
    """The snapshot files of a server, through its REST API at `url`."""

    url: str
    api_key: str | None

    async def fetch(self, collection: str, name: str, to: Path) -> str:
        """Download a snapshot to the new file `to`; return its SHA-256. Raises Unavailable, Misconfigured, OSError."""
        digest = hashlib.sha256()
        path = f"/collections/{collection}/snapshots/{name}"
        async with self._client() as client, _translated(self.url), client.stream("GET", path) as response:
            await _check_response(response, self.url)
            with os_support.create(to, 0o600) as file:
                async for chunk in response.aiter_bytes():
                    digest.update(chunk)
                    file.write(chunk)
        return digest.hexdigest()

    async def recover(self, path: Path, collection: str) -> None:
        """Upload a snapshot as a new collection of that name. Raises Unavailable, Misconfigured."""
        async with self._client() as client, _translated(self.url):
            with path.open("rb") as file:
                response = await client.post(
                    f"/collections/{collection}/snapshots/upload",
                    params={"priority": "snapshot", "wait": "true"},
                    files={"snapshot": (FILE, file)},
                )
            await _check_response(response, self.url)

    def _client(self) -> httpx2.AsyncClient:
        headers = {} if self.api_key is None else {"api-key": self.api_key}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=SNAPSHOT_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class ServerSnapshotSource:
    """A snapshot source: the active collection, and the offsets that its consumer group has committed.

    The offsets are read before the server creates the snapshot, so every record below them is in it. Later records
    may be in it too; they are read again after a restore, which changes nothing.
    """

    connect: Callable[[], AbstractAsyncContextManager[Connection]]
    api: SnapshotApi
    active: Callable[[], tuple[str, str]]
    """Returns the name of the active collection, and of the consumer group that indexes it."""
    log: EventLog

    async def copy(self, into: Path) -> CopyInfo:
        """Create a snapshot on the server and download it into the directory `into`."""
        collection, group = self.active()
        offsets = await self.log.committed(group)
        async with self.connect() as connection:
            metadata = await collection_metadata(connection, collection)
            request = wire.CreateSnapshotRequest(collection_name=collection)
            response: Any = await connection.call(
                connection.snapshots.Create, request, timeout_s=SNAPSHOT_TIMEOUT_S
            )
            description = response.snapshot_description
            try:
                digest = await self.api.fetch(collection, description.name, into / FILE)
            finally:
                removal = wire.DeleteSnapshotRequest(
                    collection_name=collection, snapshot_name=description.name
                )
                await connection.call(connection.snapshots.Delete, removal)
        if description.checksum and description.checksum != digest:
            raise Unavailable(
                f"the snapshot of {collection} was damaged in transfer (its checksum differs): try again"
            )
        return CopyInfo(
            collection=collection,
            model_id=metadata.model_id,
            dim=metadata.dim,
            log="kafka",
            offsets=offsets,
            player_key="setting",
            store="qdrant",
        )


def check_manifest(manifest: Manifest, *, model_id: str, dim: int) -> None:
    """Check that a server can restore the snapshot. Raises OperationRefused for another kind of store, and ModelMismatch."""
    if manifest.store != "qdrant" or FILE not in manifest.files:
        raise OperationRefused(
            "this is a snapshot of the embedded shape: unset LORESTREAM_STORE__URL and LORESTREAM_LOG__BOOTSTRAP, and"
            " restore it into a data directory"
        )
    if (manifest.model_id, manifest.dim) != (model_id, dim):
        raise ModelMismatch(
            f"the snapshot was filled by {manifest.model_id} ({manifest.dim} dimensions), not by {model_id} ({dim}):"
            " restore it with that model (LORESTREAM_EMBEDDER__MODEL)"
        )


async def collection_metadata(connection: Connection, collection: str) -> CollectionMetadata:
    """The metadata of a collection. Raises Unavailable, and Misconfigured when lorestream did not create it."""
    return (await find_collection(connection, collection, collection)).metadata


async def mark_unregistered(connection: Connection, alias: str, collection: str) -> str:
    """Have a restored collection deleted later, unless `register_collection` follows. Returns the marker.

    Raises Unavailable.
    """
    marker = deletion_marker(alias, collection, time.time() + CREATION_TIMEOUT_S)
    await update_aliases(connection, set_={marker: collection})
    return marker


async def register_collection(
    connection: Connection, alias: str, collection: str, unregistered: str
) -> str | None:
    """Add a restored collection to the catalogue; make it the active one if there is none. Raises Unavailable.

    `unregistered`: the marker of `mark_unregistered`. Returns the collection that was active before, or None. The
    aliases are described in `catalogue`.
    """
    active = await resolve_alias(connection, alias)
    aliases = {
        marker_name(alias, "fed", collection): collection,
        marker_name(alias, "complete", collection): collection,
    }
    if active is None:
        aliases[alias] = collection
    await update_aliases(connection, remove=[unregistered], set_=aliases)
    return active


async def _check_response(response: httpx2.Response, url: str) -> None:
    if response.is_success:
        return
    text = (await response.aread()).decode(errors="replace")[:_MAX_DETAILS_CHARS]
    if response.status_code in _ACCESS_DENIED:
        raise Misconfigured(f"{url} denies access ({text}): check LORESTREAM_STORE__API_KEY")
    raise Unavailable(f"{url} responds with status {response.status_code}: {text}")


@contextlib.asynccontextmanager
async def _translated(url: str) -> AsyncGenerator[None]:
    try:
        yield
    except LorestreamError:
        raise
    except httpx2.HTTPError as error:
        raise Unavailable(f"{url} cannot be reached: {error!r}") from error
