"""The files of a snapshot: sparse copies, SHA-256 digests, and fsync.

All functions that take `cancelled` block, and belong in a thread (see `run_in_thread`). They check it after every
4 MiB, and raise CopyCancelled once it is set.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec

from lorestream import durable, os_support

_CHUNK_BYTES = 2**22

T = TypeVar("T")

Cancelled: TypeAlias = threading.Event
"""Set when the task that waits for the thread was cancelled."""


class CopyCancelled(Exception):
    """The task that waited for the result was cancelled."""


class FileDigest(msgspec.Struct, frozen=True):
    """The size of a file in bytes, and its SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


async def run_in_thread(work: Callable[[Cancelled], T]) -> T:
    """Run `work` in a thread. When the caller is cancelled, `cancelled` is set, and the end of `work` is awaited."""
    cancelled = threading.Event()
    running = asyncio.get_running_loop().run_in_executor(None, work, cancelled)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancelled.set()
        running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody waits for it
        await asyncio.wait({running})
        raise


async def ticks(task: asyncio.Task[T], interval_s: float = 1.0) -> AsyncGenerator[None]:
    """Yields once per interval until the task is done."""
    while not (await asyncio.wait({task}, timeout=interval_s))[0]:
        yield


def copy_tree(source: Path, target: Path, cancelled: Cancelled, *, exclude: Collection[str] = ()) -> None:
    """Copy a directory to the new directory `target`. `exclude`: names directly below `source`.

    Raises OSError, CopyCancelled.
    """
    target.mkdir(mode=0o700)
    for path in sorted(source.iterdir()):
        if path.name in exclude:
            continue
        if path.is_dir():
            copy_tree(path, target / path.name, cancelled)
        else:
            copy(path, target / path.name, cancelled)


def copy(source: Path, target: Path, cancelled: Cancelled) -> None:
    """Copy a file, with its holes, to the new file `target` of mode 0600. Raises OSError, CopyCancelled."""
    with source.open("rb") as reader, os_support.create(target, durable.PRIVATE) as writer:
        size = os.fstat(reader.fileno()).st_size
        for start, end in _extents(reader.fileno(), size):
            reader.seek(start)
            writer.seek(start)
            while chunk := reader.read(min(_CHUNK_BYTES, end - reader.tell())):
                if cancelled.is_set():
                    raise CopyCancelled
                writer.write(chunk)
        writer.flush()
        os.ftruncate(writer.fileno(), size)


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The ranges of a file that hold data. The whole file where the file system does not report holes."""
    if not hasattr(os, "SEEK_DATA"):  # Windows
        yield 0, size
        return
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            yield end, size
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def digest_tree(
    directory: Path, cancelled: Cancelled, on_bytes: Callable[[int], None]
) -> dict[str, FileDigest]:
    """Write every file of a directory to the disk, and return the digest of each by its relative path.

    `on_bytes` is called with the size of each chunk that was read. Raises OSError, CopyCancelled.
    """
    digests: dict[str, FileDigest] = {}
    for path in sorted(directory.rglob("*")):
        if not path.is_dir():
            digests[path.relative_to(directory).as_posix()] = digest(path, cancelled, on_bytes)
    durable.sync_tree(directory)
    return digests


def digest(path: Path, cancelled: Cancelled, on_bytes: Callable[[int], None]) -> FileDigest:
    """The digest of a file. `on_bytes`: as in `digest_tree`. Raises OSError, CopyCancelled."""
    sha256, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if cancelled.is_set():
                raise CopyCancelled
            sha256.update(chunk)
            size += len(chunk)
            on_bytes(len(chunk))
    return FileDigest(size, sha256.hexdigest())
