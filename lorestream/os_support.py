"""What differs between Linux, macOS and Windows on the way of `lorestream up`: event loop, signals, files, limits.

Modules and calls that only POSIX systems, or only Linux, have are named here and nowhere else in the package.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")

_ENOUGH_FILES = 65_536
_BINARY: int = getattr(os, "O_BINARY", 0)
"""Windows writes line ends of its own to a descriptor that was opened without it."""


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a new event loop: uvloop's, or asyncio's where uvloop does not exist (Windows)."""
    try:
        import uvloop  # noqa: PLC0415 (not on Windows)
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    return run(main)


def on_signal(signum: int, callback: Callable[[], object]) -> None:
    """Call `callback` in the running loop at each such signal, instead of what was called before."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signum, callback)
    except NotImplementedError:  # Windows

        def handle(_signum: int, _frame: object) -> None:
            loop.call_soon_threadsafe(callback)

        signal.signal(signum, handle)


def off_signal(signum: int) -> None:
    """Undo `on_signal`: the signal has its default effect again."""
    try:
        asyncio.get_running_loop().remove_signal_handler(signum)
    except NotImplementedError:
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)


def lower_priority(nice: int) -> None:
    """Add to the niceness of this process, where processes have one."""
    if hasattr(os, "nice"):
        os.nice(nice)


def reuse_address(listener: socket.socket) -> None:
    """Let the socket take a port whose last connections are still closing.

    Windows does so anyway, and the option would let two processes there listen on one port.
    """
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def create(path: Path, mode: int) -> IO[bytes]:
    """A new file, open for writing. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, mode)
    return open(descriptor, "wb")  # noqa: PTH123 (a descriptor)


def touch(path: Path, mode: int) -> None:
    """Create an empty file of that mode, where there is none. Raises OSError if it cannot be written."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, mode))


def sync(path: Path) -> None:
    """Write a file's content, or a directory's entries, to the disk. Raises OSError.

    On Windows a directory cannot be opened, and NTFS writes its entries by its own journal; a file must be writable.
    """
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_content(path: Path) -> None:
    """Write a file's content to the disk, without its times where the system can. Does nothing if it cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    except OSError:
        return
    try:
        (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(descriptor)
    finally:
        os.close(descriptor)


def used_bytes(directory: Path) -> int:
    """The disk space of all files below a directory. Holes of sparse files do not count, where the system knows them.

    What is deleted meanwhile, such as a journal of SQLite, or cannot be read, does not count.
    """
    used = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                found = Path(parent, name).stat()
                blocks: int | None = getattr(found, "st_blocks", None)  # not on Windows
                used += found.st_size if blocks is None else blocks * 512
    return used


def disk_bytes(directory: Path) -> tuple[int, int]:
    """Bytes of the directory's disk: all, and those that a user who is not root may still write. Raises OSError."""
    usage = shutil.disk_usage(directory)
    return usage.total, usage.free


def file_limit() -> tuple[int, int] | None:
    """How many files and connections this process may have open, and up to what it may raise that.

    None: as many as it wants. Windows has no such limit.
    """
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    return None if soft == unlimited else (soft, _ENOUGH_FILES if hard == unlimited else hard)


def free_files() -> int:
    """How many more files and connections the process may open. Raises its limit first, to what is enough."""
    limit = file_limit()
    if limit is None:
        return _ENOUGH_FILES
    soft, hard = limit
    wanted = min(hard, _ENOUGH_FILES)
    if soft < wanted:
        import resource  # noqa: PLC0415 (not on Windows)

        with contextlib.suppress(OSError, ValueError):  # macOS lists a maximum that it does not allow
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
            )
            soft = wanted
    return max(0, soft - sum(1 for _ in Path("/dev/fd").iterdir()))
