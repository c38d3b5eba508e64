"""The free space on the disk of the data directory, and a floor below which nothing more is written.

On a full disk SQLite refuses a write, but Qdrant Edge writes through mapped files: the kernel then ends the process
with SIGBUS, and reads end with it. So writes stop while there is still room for what is in progress.

    space = FreeSpace(settings.data_dir, settings.min_free_bytes)
    space.require()  # before each write; raises Unavailable: callers get 503, the indexer waits and tries again
"""

from __future__ import annotations

from pathlib import Path

from lorestream import os_support
from lorestream.errors import Misconfigured, Unavailable

DEFAULT_FLOOR_BYTES = 200 * 2**20
"""The floor where none is set: room for what is in progress, and for some minutes of what other programs write."""
DEFAULT_FLOOR_SHARE = 0.1
"""The default floor is at most this share of the disk: on a small volume or tmpfs nothing could be written otherwise."""

RETRY_AFTER_MS = 10_000
"""Space is freed by people or by a compaction, not within a second."""

_MIB = 2**20


def free_bytes(directory: Path) -> int:
    """How many bytes a user who is not root may still write on the disk of the directory. Raises OSError."""
    _, free = os_support.disk_bytes(directory)
    return free


def default_floor(directory: Path) -> int:
    """The floor for the disk of the directory where none is set, in bytes. Raises OSError."""
    total, _ = os_support.disk_bytes(directory)
    return min(DEFAULT_FLOOR_BYTES, int(total * DEFAULT_FLOOR_SHARE))


class FreeSpace:
    """Compares the free space with a floor. Each call asks the kernel, which takes a few microseconds."""

    def __init__(self, directory: Path, floor_bytes: int | None) -> None:
        """`floor_bytes`: 0 = no floor, None = the default for that disk."""
        self._directory = directory
        self._floor_bytes = floor_bytes

    def _floor(self) -> int:
        return default_floor(self._directory) if self._floor_bytes is None else self._floor_bytes

    def problem(self, needed_bytes: int = 0) -> str | None:
        """Why nothing more is written, in one line that says what to do; None while there is enough space.

        `needed_bytes`: how much one step is about to write, such as a copy of the store.
        """
        try:
            free, floor = free_bytes(self._directory), self._floor()
        except OSError:
            return None  # the write that follows says what is wrong with the directory
        if free >= floor + needed_bytes:
            return None
        if free >= floor:
            return (
                f"a copy of {needed_bytes // _MIB} MiB would leave less than {floor // _MIB} MiB"
                f" (LORESTREAM_MIN_FREE_BYTES) of the {free // _MIB} MiB free on the disk of {self._directory}: free some"
                " space on it"
            )
        return (
            f"only {free // _MIB} MiB are free on the disk of {self._directory}, and below"
            f" {floor // _MIB} MiB (LORESTREAM_MIN_FREE_BYTES) nothing is written: free some space on it"
        )

    def check_start(self) -> str | None:
        """The problem at a start; None while there is enough space.

        Raises Misconfigured below half of the floor: a start maps and repairs files, which ends in SIGBUS on a disk
        without any space.
        """
        problem = self.problem()
        if problem is not None and free_bytes(self._directory) < (needed := self._floor() // 2):
            raise Misconfigured(f"{problem}, at least {needed // _MIB} MiB for a start")
        return problem

    def require(self, needed_bytes: int = 0) -> None:
        """Raises Unavailable when there is less free space than the floor and `needed_bytes`."""
        if (problem := self.problem(needed_bytes)) is not None:
            raise Unavailable(problem, retry_after_ms=RETRY_AFTER_MS)
