"""Files of a snapshot: copied with their holes, known by their SHA-256, and durable before anybody relies on them.

All functions block, and belong in a thread. `stopped` breaks them off between two pieces, with `BrokenOff`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec

from lorestream import durable

_PIECE = 2**22

T = TypeVar("T")

Stopped: TypeAlias = threading.Event
"""Set when nobody waits for it any more."""


class BrokenOff(Exception):
    """Whoever wanted it has gone."""


class Seal(msgspec.Struct, frozen=True):
    """What a file has to be like."""

    size: int
    sha256: str


async def in_thread(work: Callable[[Stopped], T]) -> T:
    """Run `work` in a thread; whoever is cancelled meanwhile waits until it has noticed that."""
    stopped = threading.Event()
    running = asyncio.get_running_loop().run_in_executor(None, work, stopped)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait({running})
        raise


async def beats(task: asyncio.Task[T], every_s: float = 1.0) -> AsyncGenerator[None]:
    """A beat whenever so much time has passed, until the task is done. It is cancelled with whoever listens."""
    try:
        while not (await asyncio.wait({task}, timeout=every_s))[0]:
            yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def taken_by(directory: Path) -> int:
    """The space that what lies in a directory takes, in bytes, without holes."""
    taken = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a journal that has done its work
            taken += path.stat().st_blocks * 512
    return taken


def copy_tree(source: Path, target: Path, stopped: Stopped, *, without: Collection[str] = ()) -> None:
    """Copy a directory into a new one. Raises OSError, BrokenOff."""
    target.mkdir(mode=0o700)
    for path in sorted(source.iterdir()):
        if path.name in without:
            continue
        if path.is_dir():
            copy_tree(path, target / path.name, stopped)
        else:
            copy(path, target / path.name, stopped)


def copy(source: Path, target: Path, stopped: Stopped) -> None:
    """Copy a file into a new one of this user alone; where it has holes, so has the copy. Raises OSError, BrokenOff."""
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source.open("rb") as reader, os.fdopen(handle, "wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        for start, end in _extents(reader.fileno(), size):
            reader.seek(start)
            writer.seek(start)
            while piece := reader.read(min(_PIECE, end - reader.tell())):
                if stopped.is_set():
                    raise BrokenOff
                writer.write(piece)
        writer.flush()
        os.ftruncate(writer.fileno(), size)


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data. Where the file system cannot tell, everywhere."""
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


def seals(directory: Path, stopped: Stopped, done: Callable[[int], None]) -> dict[str, Seal]:
    """Make every file of a directory durable, and seal it; `done` is told the bytes. Raises OSError, BrokenOff."""
    sealed: dict[str, Seal] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_dir():
            durable.sync(path)
            continue
        sealed[path.relative_to(directory).as_posix()] = seal(path, stopped, done)
        durable.sync(path)
    durable.sync(directory)
    return sealed


def seal(path: Path, stopped: Stopped, done: Callable[[int], None]) -> Seal:
    """The seal of a file as it is. Raises OSError, BrokenOff."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if stopped.is_set():
                raise BrokenOff
            digest.update(piece)
            size += len(piece)
            done(len(piece))
    return Seal(size, digest.hexdigest())


def remove(directory: Path) -> None:
    """Remove a directory, there or not."""
    shutil.rmtree(directory, ignore_errors=True)
