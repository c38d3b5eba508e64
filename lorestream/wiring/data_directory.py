"""The data directory: written by one process at a time, and where the embedded player key lies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import tempfile
from collections.abc import Generator
from pathlib import Path

from lorestream.errors import Misconfigured


def writable(home: Path) -> Path:
    """The directory, made where it is missing. Raises Misconfigured when nothing can be written in it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise Misconfigured(
            f"the data directory {home} cannot be written ({error.strerror}): choose another with --data"
            " or LORESTREAM_DATA_DIR"
        ) from error
    return home


RESTORING = "restoring"
"""What a restore has not yet put into its place. As long as it is there, the data directory is not whole."""


@contextlib.contextmanager
def only_process(home: Path, *, restoring: bool = False) -> Generator[None]:
    """Hold the data directory for this process alone. Raises Misconfigured when another one has it.

    Only who is `restoring` it may have one that is not whole.
    """
    with (home / "lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise Misconfigured(
                f"the data directory {home} is in use by process {lock.read().strip() or 'unknown'}:"
                " stop that one, or choose another with --data"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        if (home / RESTORING).exists() and not restoring:
            raise Misconfigured(
                f"a restore into {home} was broken off: run `lorestream restore` again, it begins anew"
            )
        yield


def own_player_key(home: Path) -> str:
    """The data directory's own key for player names, made at the first start."""
    path = home / "player.key"
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(f"k1:{secrets.token_hex(32)}\n", encoding="ascii")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # the first of two processes wins, and neither sees half a key
        draft.unlink()
    return path.read_text(encoding="ascii").strip()
