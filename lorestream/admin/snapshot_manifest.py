"""What a snapshot says of itself: `manifest.json`, written last, and held against the files before a restore."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from lorestream import durable
from lorestream.admin import snapshot_files
from lorestream.admin.snapshot_files import Seal
from lorestream.errors import OperationRefused

NAME = "manifest.json"
FORMAT = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot: all that a restore has to know."""

    format: int = FORMAT
    lorestream: str
    """The version that took it."""
    created: float
    """Unix seconds."""
    collection: str
    model_id: str
    dim: int
    log: Literal["embedded", "kafka"]
    offsets: dict[int, int]
    """The next offset to read of each partition: what is below lies in the store's copy."""
    player_key: Literal["file", "setting"]
    """Where the key for player names was: in the data directory, so that it is here too, or in the settings."""
    store: Literal["edge", "qdrant"]
    """What the files of the store are for: a data directory, or a Qdrant server."""
    files: dict[str, Seal]

    @property
    def bytes(self) -> int:
        """How much it takes, in bytes, holes included."""
        return sum(seal.size for seal in self.files.values())


class _Version(msgspec.Struct):
    format: int


def write(directory: Path, manifest: Manifest) -> None:
    """The last step of a snapshot. Raises OSError."""
    durable.write_file(directory / NAME, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def read(directory: Path) -> Manifest:
    """The manifest of a snapshot. Raises OperationRefused for what is none, or of another format."""
    path = directory / NAME
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise OperationRefused(
            f"{directory} is no snapshot: {NAME} cannot be read ({error.strerror})"
        ) from error
    try:
        version = msgspec.json.decode(raw, type=_Version).format
        if version != FORMAT:
            raise OperationRefused(
                f"{directory} has format {version}, this lorestream reads {FORMAT}: restore it with the version that took it"
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise OperationRefused(f"{path} is damaged: {error}") from error
    for name in manifest.files:
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or not place.parts:
            raise OperationRefused(f"{path} is damaged: it names a file {name!r} outside of the snapshot")
    return manifest


def verify(
    directory: Path, sealed: Mapping[str, Seal], stopped: snapshot_files.Stopped, done: Callable[[int], None]
) -> None:
    """Hold the files against their seals; `done` is told the bytes. Raises OperationRefused for the first that differs."""
    for name, seal in sealed.items():
        path = directory / name
        try:
            found = snapshot_files.seal(path, stopped, done)
        except OSError as error:
            raise OperationRefused(
                f"the snapshot is damaged: {path} cannot be read ({error.strerror})"
            ) from error
        if found != seal:
            what = "is not what was written" if found.size == seal.size else "has another size"
            raise OperationRefused(f"the snapshot is damaged: {path} {what}")


def taken(directory: Path) -> Sequence[tuple[Path, Manifest]]:
    """The snapshots in a directory, the newest first. What is none is left out."""
    found: list[tuple[Path, Manifest]] = []
    if directory.is_dir():
        for path in directory.iterdir():
            if not path.name.startswith(".") and (path / NAME).is_file():
                try:
                    found.append((path, read(path)))
                except OperationRefused:
                    continue
    return sorted(found, key=lambda each: (each[1].created, each[0].name), reverse=True)
