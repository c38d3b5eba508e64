"""Creates the empty shards of Qdrant Edge in the tests' own process by writing the files of the first one once more.

Edge takes 55 ms of CPU time to create one with its indexes, and a test needs one or more; this takes 10 ms. Almost all of
its 230 MB are holes: a file is written as its length and the blocks that are not zero. Shards of further collections, which
a process of its own creates in 250 ms, are created in this way too; tests/unit/test_edge_shard.py tests that process.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from lorestream.adapters.qdrant.edge import shard
from lorestream.adapters.qdrant.edge.shard import StoreMetadata, VectorType
from lorestream.errors import LorestreamError, Unavailable

_BLOCK_BYTES, _PIECE_BYTES = 4096, 2**20
_ZEROS = bytes(_PIECE_BYTES)
_File = tuple[int, list[tuple[int, bytes]]]
"""The length of a file, and (offset, content) of its blocks that are not zero."""


def written_from_first(
    create: Callable[[Path, StoreMetadata], None],
) -> Callable[[Path, StoreMetadata], None]:
    """`create(path, metadata)`, which runs once for each kind of vectors."""

    @functools.cache
    def first(metadata: StoreMetadata) -> dict[Path, _File | None]:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "shard"
            create(made, metadata)
            found = sorted(made.rglob("*"))
            return {path.relative_to(made): None if path.is_dir() else _read(path) for path in found}

    @functools.wraps(create)
    def write(path: Path, metadata: StoreMetadata) -> None:
        path.mkdir()
        # The files of a shard do not depend on the names.
        alike = StoreMetadata("", metadata.dim, metadata.schema, vectors=metadata.vectors)
        for name, file in first(alike).items():
            if file is None:
                (path / name).mkdir()
            else:
                _write(path / name, *file)

    return write


async def create_in_this_process(
    directory: Path, *, model_id: str, dim: int, words: str, vectors: VectorType = "float32"
) -> None:
    """In place of `shard.create_in_subprocess`; its errors are those."""
    try:
        opened, lock, _ = shard.open_shard(
            directory, model_id=model_id, dim=dim, words=words, vectors=vectors
        )
    except LorestreamError as error:
        raise Unavailable(str(error)) from error
    opened.close()
    lock.release()


def _read(path: Path) -> _File:
    blocks: list[tuple[int, bytes]] = []
    with path.open("rb") as file:
        length = 0
        while piece := file.read(_PIECE_BYTES):
            if piece != _ZEROS[: len(piece)]:
                inner = range(0, len(piece), _BLOCK_BYTES)
                found = ((length + at, piece[at : at + _BLOCK_BYTES]) for at in inner)
                blocks += ((at, block) for at, block in found if block.strip(b"\0"))
            length += len(piece)
    return length, blocks


def _write(path: Path, length: int, blocks: list[tuple[int, bytes]]) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.ftruncate(file, length)
        for at, block in blocks:
            os.pwrite(file, block, at)
    finally:
        os.close(file)
