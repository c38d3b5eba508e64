"""What `lorestream doctor` looks at on this machine. Each check returns what it saw and how to mend it."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import shutil
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lorestream.settings import EmbedderSettings

OLDEST_PYTHON = (3, 11)
FREE_BYTES_NEEDED = 200 * 2**20
FREE_BYTES_WANTED = 2 * 2**30
SLOW_FSYNC_S = 0.05
OPEN_FILES_WANTED = 1024

_LISTENING = "0A"


class Verdict(StrEnum):
    """How a check went; only `failed` makes the whole unhealthy."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was seen, and what to do about it."""

    name: str
    verdict: Verdict
    evidence: str
    fix: str | None = None


def python() -> Check:
    """Whether this Python is new enough."""
    evidence = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("python", Verdict.FAILED, evidence, "install Python 3.11 or newer")
    return Check("python", Verdict.OK, evidence)


def data_directory(directory: Path) -> Check:
    """Whether it can be written, how much fits, and how long durable takes. Leaves nothing behind."""
    name = "data directory"
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    mend = f"make {there} writable for this user, or choose another with --data or LORESTREAM_DATA_DIR"
    try:
        free = shutil.disk_usage(there).free
        fsync_s = _fsync_s(there)
    except OSError as error:
        return Check(name, Verdict.FAILED, f"{directory}: {error.strerror or error}", mend)
    evidence = f"{directory}{'' if there == directory else ' (not made yet)'}, {free / 2**30:.1f} GiB free, fsync {fsync_s * 1000:.1f} ms"
    if free < FREE_BYTES_NEEDED:
        return Check(name, Verdict.FAILED, evidence, "free some space, or choose another disk with --data")
    if free < FREE_BYTES_WANTED:
        return Check(name, Verdict.WARNING, evidence, "room for little more: free some space")
    if fsync_s > SLOW_FSYNC_S:
        return Check(name, Verdict.WARNING, evidence, "every write waits for the disk: a local SSD is faster")
    return Check(name, Verdict.OK, evidence)


def _fsync_s(directory: Path) -> float:
    """Median seconds to make 4 KiB durable."""
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(5):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def open_files() -> Check:
    """Whether enough files and connections may be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    evidence = f"{soft} (at most {hard})"
    if 0 <= soft < OPEN_FILES_WANTED:
        return Check("open files", Verdict.WARNING, evidence, f"ulimit -n {OPEN_FILES_WANTED}")
    return Check("open files", Verdict.OK, evidence)


def port(name: str, number: int) -> Check:
    """Whether a port of this machine is free."""
    title = f"{name} port"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except PermissionError:
            return Check(title, Verdict.FAILED, f"{number} is kept for root", "choose one above 1023")
        except OSError as error:
            owner = port_owner(number) or "a process that this user may not see"
            mend = f"stop it, or choose another with --{'port' if name == 'http' else name + '-port'}"
            return Check(title, Verdict.FAILED, f"{number} is held by {owner} ({error.strerror})", mend)
    return Check(title, Verdict.OK, f"{number} is free")


def port_owner(number: int) -> str | None:
    """Who listens on a TCP port, as `name (process 123)`; None where that cannot be seen."""
    sockets = {f"socket:[{inode}]" for inode in _listening(number)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in sockets for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue  # gone meanwhile, or another user's
    return None


def _listening(number: int) -> Iterator[str]:
    """The inodes of the sockets that listen on the port; see proc(5), net/tcp."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == number:
                yield fields[9]


def model(chosen: EmbedderSettings, models_dir: Path) -> Check:
    """Whether the embedding model can be served."""
    if chosen.kind == "hash":
        return Check(
            "model", Verdict.WARNING, "the hash embedder knows no meaning", "unset LORESTREAM_EMBEDDER__KIND"
        )
    if chosen.kind == "torch":
        if importlib.util.find_spec("sentence_transformers") is None:
            return Check(
                "model",
                Verdict.FAILED,
                "sentence-transformers is not installed",
                "pip install '.[server,torch]'",
            )
        return Check("model", Verdict.OK, f"{chosen.model} through sentence-transformers")
    from lorestream.adapters.embedders import model_files  # noqa: PLC0415

    try:
        files = model_files.find(chosen.model, models_dir)
    except Misconfigured as error:
        return Check("model", Verdict.FAILED, str(error), "lorestream model prepare")
    size = sum(path.stat().st_size for path in files.directory.iterdir())
    return Check("model", Verdict.OK, f"{files.model_id}, {size / 2**20:.0f} MiB in {files.directory}")


def processor() -> Check:
    """What the processor can do for the model."""
    from lorestream.adapters.embedders.openvino import cpu_flags, precision  # noqa: PLC0415

    flags = cpu_flags()
    known = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd") if flag in flags]
    evidence = f"{os.cpu_count()} cores, {', '.join(known) or 'no vector units known'}: {precision(flags)}"
    return Check("processor", Verdict.OK, evidence)
