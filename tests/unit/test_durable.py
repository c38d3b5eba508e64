"""Durable files and process locks: what is on the disk after a crash, and who is refused a lock."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from lorestream import durable
from lorestream.admin import snapshot_files
from lorestream.durable import LockHeld, ProcessLock

HOLDER = """
import sys
from pathlib import Path
from typing import Any
from lorestream.durable import ProcessLock

lock = ProcessLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was written to the disk, by the name at that moment, in order."""
    paths: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        paths.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return paths


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_its_name_after(
    tmp_path: Path, synced: list[str]
) -> None:
    path = tmp_path / "key"
    durable.write_file(path, b"first")
    durable.write_file(path, b"second", mode=0o644)
    assert path.read_bytes() == b"second"
    assert names(tmp_path) == ["key"]
    assert [name == tmp_path.name for name in synced] == [False, True, False, True]
    assert all(name.startswith(".key.") for name in synced[::2])


@pytest.mark.parametrize(
    ("error", "full", "advice"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True, "free some space"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), True, "free some space"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), False, "ulimit -f"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), False, "right to write"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), False, "check its disk"),
    ],
)
def test_an_error_of_the_disk_says_what_to_do(error: OSError, full: bool, advice: str) -> None:
    assert durable.is_full(error) is full
    assert advice in durable.remedy(error)
    assert durable.is_full(Exception(f"Service error: {error} (os error {error.errno})")) is full


def test_the_mode_is_that_of_the_writer(tmp_path: Path) -> None:
    durable.write_file(tmp_path / "secret", b"")
    durable.create_file(tmp_path / "created", b"")
    durable.write_file(tmp_path / "public", b"", mode=0o644)
    assert [mode(tmp_path / name) for name in ("secret", "created", "public")] == [0o600, 0o600, 0o644]


def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    durable.write_file(path, b"before")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.write_file(path, b"after")
    with pytest.raises(OSError, match="No space left"):
        durable.create_file(tmp_path / "other", b"after")
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


def test_a_file_that_exists_is_not_created_again(tmp_path: Path, synced: list[str]) -> None:
    path = tmp_path / "player.key"
    durable.create_file(path, b"first")
    assert synced[-1] == tmp_path.name
    with pytest.raises(FileExistsError):
        durable.create_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["player.key"]


def test_a_renamed_directory_is_named_on_the_disk_in_both_places(tmp_path: Path, synced: list[str]) -> None:
    making = tmp_path / "making"
    (making / "a" / "b").mkdir(parents=True)
    (making / "a" / "file").touch()
    (tmp_path / "final").mkdir()
    durable.sync_tree(making)
    assert sorted(synced) == ["a", "b", "file", "making"]
    assert synced.index("file") < synced.index("a") < synced.index("making")
    synced.clear()
    durable.rename(making, tmp_path / "final" / "made")
    assert sorted(synced) == ["final", tmp_path.name]


def test_what_is_removed_twice_is_gone(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    for _ in range(2):
        durable.remove_file(tmp_path / "file")
        durable.remove_tree(tmp_path / "tree")
    assert names(tmp_path) == []
    assert synced == [tmp_path.name] * 2


# --- locks ---------------------------------------------------------------------------------------------------


def test_a_lock_is_refused_at_once_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with ProcessLock(path):
        with pytest.raises(LockHeld) as refused:
            ProcessLock(path)
        assert refused.value.holder == str(os.getpid())
        assert mode(path) == 0o600
    with ProcessLock(path):
        pass


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockHeld) as refused:
            ProcessLock(path)
        assert refused.value.holder == str(holder.pid)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        ProcessLock(path).release()


def test_a_writer_that_waits_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder, taken = ProcessLock(path), threading.Event()

    def take() -> None:
        with ProcessLock(path, wait=True):
            taken.set()

    waiting = threading.Thread(target=take)
    waiting.start()
    assert not taken.wait(0.1)
    holder.release()
    holder.release()
    waiting.join(60)
    assert taken.is_set()


def test_a_lock_makes_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ProcessLock(tmp_path / "nowhere" / "lock")
    assert names(tmp_path) == []


async def test_the_error_of_work_whose_caller_was_cancelled_is_no_fault_of_the_event_loop() -> None:
    complaints = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    begun, cancelled = threading.Event(), threading.Event()

    def fail() -> None:
        begun.set()
        cancelled.wait(60)
        raise OSError("the disk is full")

    for call in (durable.in_thread(fail), snapshot_files.run_in_thread(lambda _: fail())):
        waiting = asyncio.create_task(call)
        await asyncio.to_thread(begun.wait, 60)
        waiting.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        begun.clear()
        cancelled.clear()
    del waiting, call
    gc.collect()
    assert not complaints
