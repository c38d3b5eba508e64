"""The data directory of the embedded shape: created, checked, locked; its free space, its own key for player names."""

from __future__ import annotations

import contextlib
import re
import secrets
import tempfile
from collections.abc import Generator
from pathlib import Path

from lorestream import durable
from lorestream.errors import Misconfigured
from lorestream.free_space import FreeSpace
from lorestream.settings import Settings

RESTORING = "restoring"
"""The directory in which a restore collects its files. While it exists, the data directory is incomplete."""

MEMORY_FLOOR_BYTES = 16 * 2**20
"""A step writes at most a request of 1 MiB with its vectors, into files that grow by some MiB."""

_LOCK = "lock"
_PLAYER_KEY = "player.key"
_PLAYER_KEY_FORM = re.compile(r"[A-Za-z0-9_-]{1,32}:[0-9a-f]{64}(,[A-Za-z0-9_-]{1,32}:[0-9a-f]{64})*\s*")
_PSEUDONYMS = ("log.sqlite3", "store")
"""The entries that may hold pseudonyms made with the player key."""
_PLAYER_KEY_REMEDY = (
    "put it back from a copy or a snapshot, or set LORESTREAM_PLAYER_KEY if it was a setting before. If the key is lost,"
    " set LORESTREAM_PLAYER_KEY=k2:$(openssl rand -hex 32) for good: what was stored about players before is then no"
    " longer found or erased by their names"
)
_FORMER_MODEL_MANIFESTS = "models/*/engram-model.json"
"""Files that only the versions before the renaming wrote: today's manifests have another name."""


def ensure_writable(directory: Path) -> Path:
    """The directory, created where it is missing.

    Raises Misconfigured when no file can be written in it, or when a version with the project's former name made it.
    """
    try:
        directory.mkdir(mode=durable.PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        durable.remove_temporaries(directory)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise Misconfigured(
            f"the data directory {directory} cannot be written ({error.strerror}): {durable.remedy(error)}, or"
            " choose another with --data or LORESTREAM_DATA_DIR"
        ) from error
    if any(directory.glob(_FORMER_MODEL_MANIFESTS)):
        raise Misconfigured(
            f"the data directory {directory} was made by Engram, as Lorestream was called before, and is not read:"
            " choose another with --data or LORESTREAM_DATA_DIR, or move it away"
        )
    return directory


@contextlib.contextmanager
def exclusive_use(directory: Path, *, restoring: bool = False) -> Generator[None]:
    """Lock the data directory for this process.

    Raises Misconfigured when another process holds it, and, unless `restoring`, when a restore into it did not end.
    """
    try:
        lock = durable.ProcessLock(directory / _LOCK)
    except durable.LockHeld as error:
        raise Misconfigured(
            f"the data directory {directory} is in use by process {error.holder}:"
            " stop that one, or choose another with --data"
        ) from error
    except OSError as error:
        raise Misconfigured(
            f"the data directory {directory} cannot be locked ({error.strerror}): choose another with --data"
        ) from error
    with lock:
        if (directory / RESTORING).exists() and not restoring:
            raise Misconfigured(
                f"a restore into {directory} was interrupted: run `lorestream restore` again, which starts it from the"
                " beginning"
            )
        yield


def free_space(settings: Settings, state: Path) -> FreeSpace:
    """The free space on the disk of `state`, the directory of the embedded log and store.

    The store of kind `memory` lies in temporary files, often on a small file system in memory: unless the setting says
    otherwise, its floor is only what one step of a write may need.
    """
    floor = settings.min_free_bytes
    if floor is None and settings.store.kind == "memory":
        floor = MEMORY_FLOOR_BYTES
    return FreeSpace(state, floor)


def own_player_key(directory: Path) -> str:
    """The data directory's own key for player names, `k1:` and 64 hexadecimal digits.

    Created at the first start, and durable before it is returned: without it no pseudonym can be matched again. So it
    is never created beside a log or a store. Raises Misconfigured when it is missing or damaged, and OSError.
    """
    path = directory / _PLAYER_KEY
    if not path.exists():
        if any((directory / name).exists() for name in _PSEUDONYMS):
            raise Misconfigured(f"{path} is missing: {_PLAYER_KEY_REMEDY}")
        with contextlib.suppress(FileExistsError):  # another process was first, and its key counts
            durable.create_file(path, f"k1:{secrets.token_hex(32)}\n".encode("ascii"))
    key = path.read_bytes().decode("ascii", errors="replace")
    if not _PLAYER_KEY_FORM.fullmatch(key):
        raise Misconfigured(f"{path} is damaged, it does not hold a whole key: {_PLAYER_KEY_REMEDY}")
    return key.strip()
