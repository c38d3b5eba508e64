"""The gRPC service Snapshots, and the REST calls that download and upload a snapshot file.

A snapshot is a tar of the collection's directory. It contains no aliases, like a server's. It is compressed, because almost
all of its 230 MB are zeros, which would be hashed and sent several times.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from urllib.parse import quote

import zstandard
from qdrant_client import grpc as wire

from tests.qdrant_stand_in.catalogue import Catalogue
from tests.qdrant_stand_in.refusals import allow_fields, not_found


class SnapshotsService(wire.SnapshotsServicer):
    """Every method is called as `method(request)` by `serving._with_handlers`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def Create(self, request: wire.CreateSnapshotRequest) -> wire.CreateSnapshotResponse:  # noqa: N802
        allow_fields(request, "collection_name")
        found = self._catalogue.get(request.collection_name)
        found.shard.flush()
        folder = self._folder(found.name)
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        path = folder / f"{found.name}-{number}.snapshot"
        with zstandard.open(path, "wb") as file, tarfile.open(fileobj=file, mode="w|") as tar:
            tar.add(self._catalogue.directory_of(found.name), ".")
        return wire.CreateSnapshotResponse(snapshot_description=_described(path))

    def List(self, request: wire.ListSnapshotsRequest) -> wire.ListSnapshotsResponse:  # noqa: N802
        allow_fields(request, "collection_name")
        name = self._catalogue.get(request.collection_name).name
        return wire.ListSnapshotsResponse(
            snapshot_descriptions=[_described(path) for path in sorted(self._folder(name).glob("*"))]
        )

    def Delete(self, request: wire.DeleteSnapshotRequest) -> wire.DeleteSnapshotResponse:  # noqa: N802
        allow_fields(request, "collection_name", "snapshot_name")
        path = self._folder(request.collection_name) / request.snapshot_name
        if not path.is_file():
            raise not_found(request.snapshot_name)
        path.unlink()
        return wire.DeleteSnapshotResponse()

    # --- REST ------------------------------------------------------------------------------------------------

    def file(self, collection: str, name: str) -> bytes | None:
        """GET /collections/COLLECTION/snapshots/NAME."""
        path = self._folder(collection) / name
        return path.read_bytes() if path.is_file() else None

    def upload(self, collection: str, content: bytes) -> None:
        """POST /collections/COLLECTION/snapshots/upload, for a collection that does not exist."""
        with zstandard.open(io.BytesIO(content)) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            self._catalogue.adopt(collection, lambda directory: tar.extractall(directory, filter="data"))

    def _folder(self, collection: str) -> Path:
        return self._catalogue.snapshots / quote(collection, safe="")


def _described(path: Path) -> wire.SnapshotDescription:
    content = path.read_bytes()
    return wire.SnapshotDescription(
        name=path.name, size=len(content), checksum=hashlib.sha256(content).hexdigest()
    )
