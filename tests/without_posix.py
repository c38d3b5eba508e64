"""Runs a command of Lorestream as on Windows: its own code sees nothing that only POSIX systems have.

    python -m tests.without_posix up --data DIR --port 8080

Imports every module of the package first. Other packages keep what they need; they have releases for Windows.
"""

from __future__ import annotations

import asyncio
import builtins
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Any

OWN = ("lorestream", "producers", "stream_workers", "query_service")
MODULES = {"fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty", "uvloop"}
# What the documentation of these modules calls "Unix" or "POSIX" only, as far as anybody would use it.
NAMES = {
    "os": {
        *(
            "O_CLOEXEC",
            "O_DIRECTORY",
            "O_NOFOLLOW",
            "SEEK_DATA",
            "SEEK_HOLE",
            "chown",
            "fchmod",
            "fchown",
            "fdatasync",
        ),
        *(
            "fork",
            "geteuid",
            "getgid",
            "getloadavg",
            "getpgid",
            "getpriority",
            "getuid",
            "killpg",
            "lchown",
            "mkfifo",
        ),
        *(
            "nice",
            "posix_fadvise",
            "pread",
            "pwrite",
            "register_at_fork",
            "sched_getaffinity",
            "sendfile",
            "setpriority",
        ),
        *("setsid", "statvfs", "sync", "uname", "wait4", "waitid"),
    },
    "signal": {
        *(
            "SIGALRM",
            "SIGCHLD",
            "SIGHUP",
            "SIGKILL",
            "SIGPIPE",
            "SIGQUIT",
            "SIGUSR1",
            "SIGUSR2",
            "alarm",
            "pthread_kill",
        ),
        *("pthread_sigmask", "setitimer", "sigwait"),
    },
    "socket": {"AF_UNIX", "SO_REUSEPORT"},
    "time": {"CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "clock_gettime", "pthread_getcpuclockid"},
}


class _Hidden:
    """A module, or another object, without some of its names, and with other values of some."""

    def __init__(self, module: object, hidden: set[str], values: dict[str, Any]) -> None:
        vars(self).update(_module=module, _hidden=hidden, **values)

    def __getattr__(self, name: str) -> Any:
        if name in self._hidden:
            raise AttributeError(f"{self._module!r} has no attribute {name!r} on Windows")
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)


def hide() -> None:
    """Hide POSIX from all modules of OWN that are imported from now on, and from event loops."""
    real = builtins.__import__
    hidden = {name: _Hidden(importlib.import_module(name), names, {}) for name, names in NAMES.items()}
    hidden["sys"] = _Hidden(sys, set(), {"platform": "win32"})

    def imported(name: str, scope: Any = None, *more: Any, **named: Any) -> Any:
        if scope and str(scope.get("__name__", "")).partition(".")[0] in OWN:
            if name.partition(".")[0] in MODULES:
                raise ImportError(f"{name} does not exist on Windows")
            if name in hidden:
                return hidden[name]
        return real(name, scope, *more, **named)

    def refuse(*_: object) -> None:
        raise NotImplementedError

    stat, lstat = Path.stat, Path.lstat
    Path.stat = lambda path, **how: _Hidden(stat(path, **how), {"st_blocks"}, {})  # type: ignore[assignment,method-assign]
    Path.lstat = lambda path: _Hidden(lstat(path), {"st_blocks"}, {})  # type: ignore[assignment,method-assign]
    builtins.__import__ = imported
    asyncio.SelectorEventLoop.add_signal_handler = refuse  # type: ignore[assignment,method-assign]
    asyncio.SelectorEventLoop.remove_signal_handler = refuse  # type: ignore[assignment,method-assign]


def import_all() -> None:
    """Import every module of OWN, but those that need a package of an extra that is not installed."""
    for package in OWN:
        for found in pkgutil.walk_packages([package], f"{package}."):
            if found.name.rpartition(".")[2] == "__main__":
                continue
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if str(error.name).partition(".")[0] in OWN:
                    raise


if __name__ == "__main__":
    hide()
    import_all()
    sys.argv[0] = "lorestream"
    importlib.import_module("lorestream.cli").main()
