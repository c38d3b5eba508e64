"""The collection of a Qdrant server as a file: the server makes it, REST hands it out and takes it back.

    collection.snapshot     Qdrant's own format

The file leaves the server at once: one that lies beside the collection is lost with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
from qdrant_client import grpc as wire

from lorestream.adapters.qdrant.server.collection import About, behind, change, find_collection
from lorestream.adapters.qdrant.server.connection import Connection
from lorestream.admin.snapshots import Copied
from lorestream.errors import LorestreamError, Misconfigured, ModelMismatch, OperationRefused, Unavailable

if TYPE_CHECKING:
    from lorestream.admin.snapshot_manifest import Manifest
    from lorestream.ports import EventLog

FILE = "collection.snapshot"
MAKING_S = 3600.0
"""How long a server may take to make a snapshot, to hand it out, or to take it in."""

_FORBIDDEN = (401, 403)


@dataclass(frozen=True, slots=True)
class Rest:
    """The REST interface of a server."""

    url: str
    api_key: str | None

    async def fetch(self, collection: str, name: str, to: Path) -> str:
        """Write the file of a snapshot; return its SHA-256. Raises Unavailable, Misconfigured, OSError."""
        digest = hashlib.sha256()
        place = f"/collections/{collection}/snapshots/{name}"
        async with self._client() as client, _translated(self.url), client.stream("GET", place) as answer:
            await _check(answer, self.url)
            handle = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                async for piece in answer.aiter_bytes():
                    digest.update(piece)
                    file.write(piece)
        return digest.hexdigest()

    async def recover(self, path: Path, collection: str) -> None:
        """Make that file a collection which is not there yet. Raises Unavailable, Misconfigured."""
        async with self._client() as client, _translated(self.url):
            with path.open("rb") as file:
                answer = await client.post(
                    f"/collections/{collection}/snapshots/upload",
                    params={"priority": "snapshot", "wait": "true"},
                    files={"snapshot": (FILE, file)},
                )
            await _check(answer, self.url)

    def _client(self) -> httpx2.AsyncClient:
        headers = {} if self.api_key is None else {"api-key": self.api_key}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=MAKING_S)


@dataclass(frozen=True, slots=True)
class ServerCopy:
    """A Source: the collection that is searched at present, and how far its group has come in the log.

    The offsets are noted before the server begins: what is below them lies in the collection. What came later and
    is in the file all the same is read once more, which changes nothing.
    """

    connect: Callable[[], AbstractAsyncContextManager[Connection]]
    rest: Rest
    active: Callable[[], tuple[str, str]]
    """The collection's own name, and the group that feeds it."""
    log: EventLog

    async def copy(self, into: Path) -> Copied:
        """Have the server make a file, and fetch it."""
        collection, group = self.active()
        offsets = await self.log.committed(group)
        async with self.connect() as connection:
            filled = await about(connection, collection)
            request = wire.CreateSnapshotRequest(collection_name=collection)
            made: Any = await connection.call(connection.snapshots.Create, request, timeout_s=MAKING_S)
            told = made.snapshot_description
            try:
                digest = await self.rest.fetch(collection, told.name, into / FILE)
            finally:
                removal = wire.DeleteSnapshotRequest(collection_name=collection, snapshot_name=told.name)
                await connection.call(connection.snapshots.Delete, removal)
        if told.checksum and told.checksum != digest:
            raise Unavailable(f"the snapshot of {collection} came over damaged: try again")
        return Copied(
            collection=collection,
            model_id=filled.model_id,
            dim=filled.dim,
            log="kafka",
            offsets=offsets,
            player_key="setting",
            store="qdrant",
        )


def check(manifest: Manifest, *, model_id: str, dim: int) -> None:
    """Refuse what no server can make a collection of. Raises OperationRefused, ModelMismatch."""
    if manifest.store != "qdrant" or FILE not in manifest.files:
        raise OperationRefused(
            "this is the snapshot of an embedded lorestream: restore it without the settings of servers"
        )
    if (manifest.model_id, manifest.dim) != (model_id, dim):
        raise ModelMismatch(
            f"the snapshot was filled by {manifest.model_id} ({manifest.dim} dimensions), not by {model_id} ({dim}):"
            " restore it with that model (LORESTREAM_EMBEDDER__MODEL)"
        )


async def about(connection: Connection, collection: str) -> About:
    """Who fills a collection. Raises Unavailable, and Misconfigured when lorestream has not made it."""
    return (await find_collection(connection, collection, collection)).about


async def introduce(connection: Connection, alias: str, collection: str) -> str | None:
    """Have a recovered collection fed, and searched if nothing else is; return what is. Raises Unavailable.

    See `server_catalogue` for the aliases.
    """
    active = await behind(connection, alias)
    marks = {f"{alias}.fed.{collection}": collection, f"{alias}.complete.{collection}": collection}
    if active is None:
        marks[alias] = collection
    await change(connection, set_=marks)
    return active


async def _check(answer: httpx2.Response, url: str) -> None:
    if answer.is_success:
        return
    text = (await answer.aread()).decode(errors="replace")[:300]
    if answer.status_code in _FORBIDDEN:
        raise Misconfigured(f"{url} refuses us ({text}): check LORESTREAM_STORE__API_KEY")
    raise Unavailable(f"{url} answers {answer.status_code}: {text}")


@contextlib.asynccontextmanager
async def _translated(url: str) -> AsyncGenerator[None]:
    try:
        yield
    except LorestreamError:
        raise
    except httpx2.HTTPError as error:
        raise Unavailable(f"{url} cannot be reached: {error!r}") from error
