"""A disk that fails at the n-th call: a seam below our own code, SQLite and Qdrant Edge.

Every call that touches a file below `root` is a point: of `os`, `open`, the writes of open files, each statement and
commit of SQLite, each write and flush of Edge. What fails at a point, and how, is chosen by `Fault`.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import qdrant_edge as edge

KILLED = 77
"""The exit code of a process that a fault has killed."""
MODES = ("error", "late", "full", "kill")
_NEEDING_SPACE = ("mkdir", "rename", "replace", "link", "fsync", "fdatasync", "ftruncate")
_OTHERS = ("unlink", "rmdir", "chmod", "listdir", "scandir")
_CODE = tuple(
    str(Path(__file__).parents[1] / name) + os.sep
    for name in ("lorestream", "producers", "stream_workers", "query_service")
)
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass
class Fault:
    """What happens at the point number `at`, counted from 1 while it is armed.

    error: the call fails once with EIO, and nothing was done. late: once with EIO, and it was done. full: this and
    all later calls that need space fail with ENOSPC, until it is disarmed. kill: the process ends before the call.
    """

    root: Path
    mode: str = "count"
    at: int = 0
    armed: bool = False
    points: list[str] = field(default_factory=list)
    hit: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def point(self, name: str, *, writes: bool) -> bool:
        """Called before each call. Returns whether it must fail after it is done. Raises OSError."""
        if not self.armed:
            return False
        site = f"{name} {_site()}"
        with self._lock:
            self.points.append(site)
            number = len(self.points)
        if number == self.at:
            self.hit = site
        if self.mode == "full" and writes and 0 < self.at <= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if number != self.at or self.mode in {"count", "full"}:
            return False
        if self.mode == "kill":
            os._exit(KILLED)
        if self.mode == "late":
            return True
        raise failure()

    def concerns(self, *args: object, **kwargs: object) -> bool:
        """Whether one of the arguments is a path below the root, or a descriptor of one."""
        return any(self._below(one) for one in (*args[:2], kwargs.get("dir_fd")))

    def _below(self, one: object) -> bool:
        if isinstance(one, int) and not isinstance(one, bool):
            try:
                one = Path(f"/proc/self/fd/{one}").readlink()
            except OSError:
                return False
        if not isinstance(one, str | bytes | os.PathLike):
            return False
        path = os.path.abspath(os.fsdecode(one))  # noqa: PTH100 (without a look at the disk)
        return path.startswith(f"{self.root}{os.sep}")

    def install(self) -> None:
        """Put the seam in place, for the rest of this process."""
        for name in (*_NEEDING_SPACE, *_OTHERS):
            setattr(os, name, self._wrapped(name, getattr(os, name), writes=name in _NEEDING_SPACE))
        self._install_opens()
        _install_sqlite(self)
        _install_edge(self)

    def _wrapped(self, name: str, real: Callable[..., Any], *, writes: bool) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.concerns(*args, **kwargs):
                return real(*args, **kwargs)
            late = self.point(name, writes=writes)
            result = real(*args, **kwargs)
            if late:
                if hasattr(result, "close"):
                    result.close()
                raise failure()
            return result

        return call

    def _install_opens(self) -> None:
        real_open, real_os_open = builtins.open, os.open

        def os_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if not self.concerns(path, **kwargs):
                return real_os_open(path, flags, *args, **kwargs)
            late = self.point("os.open", writes=bool(flags & _WRITE_FLAGS))
            descriptor = real_os_open(path, flags, *args, **kwargs)
            if late:
                os.close(descriptor)
                raise failure()
            return descriptor

        def open_(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not self.concerns(file):
                return real_open(file, mode, *args, **kwargs)
            writes = not mode.startswith("r") or "+" in mode
            late = self.point("open", writes=writes)
            opened = real_open(file, mode, *args, **kwargs)
            if late:
                opened.close()
                raise failure()
            return _File(opened, self) if writes else opened

        os.open = os_open
        builtins.open = io.open = open_


class _File:
    """A file opened for writing: each write is a point."""

    def __init__(self, real: Any, fault: Fault) -> None:
        self._real = real
        self._fault = fault

    def write(self, data: Any) -> int:
        late = self._fault.point("write", writes=True)
        written = self._real.write(data)
        if late:
            raise failure()
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._real.close()


def _site() -> str:
    """Where our own code makes the call: file and line of each of its frames, the innermost first."""
    frame, lines = sys._getframe(2), list[str]()
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_CODE):
            lines.append(f"{path.rpartition('/')[2]}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(lines)


def failure() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def _sqlite_error(error: OSError) -> sqlite3.OperationalError:
    full = error.errno == errno.ENOSPC
    raised = sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
    raised.sqlite_errorcode = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR
    return raised


def _install_sqlite(fault: Fault) -> None:
    class Connection(sqlite3.Connection):
        def _call(self, sql: str, real: Callable[..., Any], *args: Any) -> Any:
            try:
                late = fault.point(f"sqlite {sql.split(maxsplit=1)[0]}", writes=not sql.startswith("SELECT"))
            except OSError as error:
                raise _sqlite_error(error) from None
            result = real(sql, *args)
            if late:
                raise _sqlite_error(failure())
            return result

        def execute(self, sql: str, *args: Any) -> Any:
            return self._call(sql, super().execute, *args)

        def executemany(self, sql: str, *args: Any) -> Any:
            return self._call(sql, super().executemany, *args)

        def executescript(self, sql: str) -> Any:
            return self._call(sql, super().executescript)

        def __exit__(self, *why: object) -> None:
            if why[0] is not None:
                super().__exit__(*why)
                return
            try:
                late = fault.point("sqlite COMMIT", writes=True)
            except OSError as refused:
                raised = _sqlite_error(refused)
                super().__exit__(type(raised), raised, None)
                raise raised from None
            super().__exit__(None, None, None)
            if late:
                raise _sqlite_error(failure())

    real = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: real(*args, **{"factory": Connection} | kwargs)


def _install_edge(fault: Fault) -> None:
    real = edge.EdgeShard

    def call(name: str, run: Callable[..., Any], *args: Any) -> Any:
        try:
            late = fault.point(f"edge {name}", writes=True)
        except OSError as error:
            raise Exception(f"Service runtime error: {error}") from None  # noqa: TRY002 (as Edge raises)
        result = run(*args)
        if late:
            if hasattr(result, "close"):
                result.close()
            raise Exception("Service runtime error: late")  # noqa: TRY002
        return result

    class Shard:
        def __init__(self, opened: Any) -> None:
            self._opened = opened

        @staticmethod
        def create(*args: Any) -> Shard:
            return Shard(call("create", real.create, *args))

        @staticmethod
        def load(*args: Any) -> Shard:
            return Shard(call("load", real.load, *args))

        def update(self, *args: Any) -> Any:
            return call("update", self._opened.update, *args)

        def flush(self) -> Any:
            return call("flush", self._opened.flush)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._opened, name)

    edge.EdgeShard = Shard
