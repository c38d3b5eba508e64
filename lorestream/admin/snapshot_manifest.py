"""The manifest of a snapshot, `manifest.json`: written last, and compared with the files before a restore."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from lorestream import durable
from lorestream.admin import snapshot_files
from lorestream.admin.snapshot_files import FileDigest
from lorestream.errors import OperationRefused

FILE_NAME = "manifest.json"
FORMAT = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore needs to know of a snapshot."""

    format: int = FORMAT
    lorestream: str
    """The version of Lorestream that took the snapshot."""
    created: float
    """Unix time in seconds."""
    collection: str
    model_id: str
    dim: int
    log: Literal["embedded", "kafka"]
    offsets: dict[int, int]
    """The next offset to read of each partition. The records below it are in the copy of the store."""
    player_key: Literal["file", "setting"]
    """Where the key for player names was: in a file of the data directory, which is in the snapshot, or in a setting."""
    store: Literal["edge", "qdrant"]
    """The kind of store that the files are for: Edge in a data directory, or a Qdrant server."""
    files: dict[str, FileDigest]

    @property
    def bytes(self) -> int:
        """The size of all files in bytes, holes included."""
        return sum(file.size for file in self.files.values())


class _Version(msgspec.Struct):
    format: int


def write(directory: Path, manifest: Manifest) -> None:
    """Write the manifest durably: the last step of a snapshot. Raises OSError."""
    durable.write_file(directory / FILE_NAME, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def read(directory: Path) -> Manifest:
    """The manifest of the snapshot in `directory`.

    Raises OperationRefused when it is missing, damaged, or of another format.
    """
    path = directory / FILE_NAME
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise OperationRefused(
            f"{directory} is no snapshot: {FILE_NAME} cannot be read ({error.strerror})"
        ) from error
    try:
        version = msgspec.json.decode(raw, type=_Version).format
        if version != FORMAT:
            raise OperationRefused(
                f"{directory} has format {version}, this lorestream reads {FORMAT}: restore it with the version that took it"
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise OperationRefused(f"{path} is damaged: {error}") from error
    for name in manifest.files:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise OperationRefused(f"{path} is damaged: it names a file {name!r} outside of the snapshot")
    return manifest


def verify(
    directory: Path,
    files: Mapping[str, FileDigest],
    cancelled: snapshot_files.Cancelled,
    on_bytes: Callable[[int], None],
) -> None:
    """Compare the files of a snapshot with the digests in its manifest.

    `on_bytes` is called with the size of each chunk that was read. Raises OperationRefused for the first file that
    differs, and CopyCancelled.
    """
    for name, expected in files.items():
        path = directory / name
        try:
            found = snapshot_files.digest(path, cancelled, on_bytes)
        except OSError as error:
            raise OperationRefused(
                f"the snapshot is damaged: {path} cannot be read ({error.strerror})"
            ) from error
        if found != expected:
            what = "is not what was written" if found.size == expected.size else "has another size"
            raise OperationRefused(f"the snapshot is damaged: {path} {what}")


def list_snapshots(directory: Path) -> Sequence[tuple[Path, Manifest]]:
    """The snapshots in a directory, the newest first. Everything else in it is ignored."""
    found: list[tuple[Path, Manifest]] = []
    if directory.is_dir():
        for path in directory.iterdir():
            if not path.name.startswith(".") and (path / FILE_NAME).is_file():
                try:
                    found.append((path, read(path)))
                except OperationRefused:
                    continue
    return sorted(found, key=lambda each: (each[1].created, each[0].name), reverse=True)
