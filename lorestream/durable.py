"""Files and directories that survive a power cut, and locks between processes.

A new file is durable when two things are on the disk: its content, and the directory entry that names it. So every
function here that creates, replaces, renames or removes something calls fsync on the parent directory as well. A
file or directory that is written here appears under its name only when it is complete: after a crash at any moment a
reader finds the old state or the new one.

    durable.write_file(path, content, mode=0o600)       # write a temporary file, fsync, rename, fsync the directory
    durable.rename(directory_in_the_making, directory)  # after durable.sync_tree(directory_in_the_making)
    with durable.ProcessLock(path): ...                 # raises LockHeld at once when another process holds it

All functions but `in_thread` block, and raise OSError. A crash may leave a temporary file `.NAME.XXXXXXXX.tmp`, which may be deleted.

Code that uses the disk while requests are served translates OSError where it is raised, as adapters translate the
errors of a vendor's library:

    with durable.translated(path):      # Unavailable instead of OSError: callers get 503, the indexer tries again
        durable.write_file(path, content)
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Self, TypeVar

import filelock

from lorestream import os_support
from lorestream.errors import Unavailable

T = TypeVar("T")

PRIVATE = 0o600
"""The mode of files that hold secrets or memories: readable and writable by their owner alone."""
PRIVATE_DIRECTORY = 0o700
"""The mode of directories that hold such files: nobody else can list or enter them."""
PRIVATE_UMASK = 0o077
"""The umask of a process that writes such files through libraries with modes of their own."""

MAKE_ROOM = "free some space on its disk"
"""What to do about a full disk: the end of a message."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_LOCK_POLL_INTERVAL_S = 0.01


def is_full(error: BaseException) -> bool:
    """Whether the disk, or this user's share of it, is full. Libraries in other languages say it in a text only."""
    return getattr(error, "errno", None) in _FULL or any(os.strerror(one) in str(error) for one in _FULL)


def remedy(error: OSError) -> str:
    """What to do about an error of the disk: the end of a message."""
    if is_full(error):
        return MAKE_ROOM
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "give this user the right to write it"
        case errno.EMFILE | errno.ENFILE:
            return "raise the limit of open files (ulimit -n)"
        case errno.EFBIG:
            return "raise the limit of the size of a file (ulimit -f)"
        case _:
            return "check its disk"


def unavailable(path: Path, error: OSError) -> Unavailable:
    """The outage that an error of the disk means for callers: the same call may succeed later."""
    return Unavailable(f"{path} cannot be used ({error.strerror or error}): {remedy(error)}")


@contextlib.contextmanager
def translated(path: Path) -> Generator[None]:
    """Raises Unavailable, with the name of `path` and what to do, for an OSError inside the context."""
    try:
        yield
    except OSError as error:
        raise unavailable(path, error) from error


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread and return its result.

    A caller that is cancelled waits for the end of the work: nobody undoes or repeats it while it goes on.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody waits for it
        await asyncio.wait({running})
        raise


def private_directory(path: Path) -> None:
    """Create a directory that only this user can enter, or take the rights of others from one that exists."""
    path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(PRIVATE_DIRECTORY)


def write_file(path: Path, content: bytes, *, mode: int = PRIVATE) -> None:
    """Create or replace a file."""
    with replacing(path, mode=mode) as file:
        file.write(content)


def create_file(path: Path, content: bytes) -> None:
    """Create a file that only this user can read. Raises FileExistsError, and changes nothing, when there is one of that name."""
    temporary = _temporary(path)
    try:
        with _created(temporary, PRIVATE) as file:
            file.write(content)
        # Unlike a rename, a link fails when the name is taken: of two processes one wins.
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = PRIVATE) -> Generator[IO[bytes]]:
    """A file to write to, which gets the name `path` when the context ends, and is removed when it raises."""
    temporary = _temporary(path)
    try:
        with _created(temporary, mode) as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def rename(source: Path, target: Path) -> None:
    """Give a file or directory, whose content is durable, another name on the same file system."""
    source.rename(target)
    sync(target.parent)
    if source.parent != target.parent:
        sync(source.parent)


def remove_file(path: Path) -> None:
    """Remove a file. Does nothing when there is none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync(path.parent)


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that it holds. Does nothing when there is none.

    A crash may leave a part of it. Where a partial directory must not be found under its name, rename it first.
    """
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    sync(directory.parent)


def remove_temporaries(directory: Path) -> None:
    """Remove the temporary files that killed processes left in a directory, which no other process writes to."""
    for path in directory.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Write a file's content, or a directory's entries, to the disk."""
    os_support.sync(path)


def sync_contents(directory: Path) -> None:
    """Write the content of every file below it to the disk. Raises OSError when the disk refuses the data.

    A file that cannot be opened is skipped.
    """
    for parent, _, names in os.walk(directory):
        for name in names:
            os_support.sync_content(Path(parent, name))


def sync_tree(directory: Path) -> None:
    """Write every file and every directory below `directory`, and itself, to the disk."""
    for parent, _, names in os.walk(directory, topdown=False):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


class LockHeld(Exception):
    """Another process, or another ProcessLock of this one, holds the lock. `holder`: its process id, if known."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"the lock is held by process {holder}")
        self.holder = holder


class ProcessLock:
    """An exclusive lock on a file, held until `release`, or until the process ends in any way.

    The lock file holds the id of the process, and stays when the lock is released: removing it would let two
    processes lock two files of the same name.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        """Take the lock, whose file is created where it is missing; with `wait`, wait for it as long as it takes.

        Raises LockHeld at once when it is held and `wait` is false, and OSError.
        """
        if not path.parent.is_dir():  # filelock would create it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
        # flock alone: filelock's substitute for file systems without it does not end with the process.
        self._lock = filelock.FileLock(path, mode=PRIVATE, thread_local=False, fallback_to_soft=False)
        try:
            self._lock.acquire(timeout=-1 if wait else 0, poll_interval=_LOCK_POLL_INTERVAL_S)
        except filelock.Timeout:
            raise LockHeld(_read_holder(path)) from None
        with contextlib.suppress(OSError):  # the lock holds on a full disk, too
            path.write_text(str(os.getpid()), encoding="ascii")

    def release(self) -> None:
        """Let others take the lock. A second call does nothing."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()


def _read_holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return path.read_text(encoding="ascii").strip() or "unknown"
    return "unknown"


def _temporary(path: Path) -> Path:
    """A name beside `path`: a rename is atomic only within one directory of one file system."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def _created(path: Path, mode: int) -> Generator[IO[bytes]]:
    """A new file; when the context ends without an error, its content is on the disk."""
    with os_support.create(path, mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
