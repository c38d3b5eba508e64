"""Checks of this machine for `lorestream doctor`: Python, disk, limits, ports, model, processor."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import socket
import stat
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from lorestream import os_support
from lorestream.errors import Misconfigured
from lorestream.free_space import default_floor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lorestream.settings import EmbedderSettings
    from lorestream.wiring.stores import WordLayout

MIN_PYTHON = (3, 11)
ENOUGH_FREE_BYTES = 2 * 2**30
SLOW_FSYNC_S = 0.05
MIN_OPEN_FILES = 1024

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LISTENING = "0A"


class Verdict(StrEnum):
    """The result of a check. Only `failed` makes the whole report unhealthy."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: what was found (`evidence`), and what to do about it (`fix`)."""

    name: str
    verdict: Verdict
    evidence: str
    fix: str | None = None


def python() -> Check:
    """Check that this Python is new enough."""
    evidence = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < MIN_PYTHON:
        return Check("python", Verdict.FAILED, evidence, "install Python 3.11 or newer")
    return Check("python", Verdict.OK, evidence)


def data_directory(directory: Path, min_free_bytes: int | None) -> Check:
    """Check that the directory is writable, its free space, and the duration of fsync. Leaves no file behind.

    `min_free_bytes`: the floor below which nothing is written; None = the default for that disk.
    """
    name = "data directory"
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    fix = f"make {existing} writable for this user, or choose another with --data or LORESTREAM_DATA_DIR"
    try:
        free = shutil.disk_usage(existing).free
        floor = default_floor(existing) if min_free_bytes is None else min_free_bytes
        fsync_s = _fsync_s(existing)
    except OSError as error:
        return Check(name, Verdict.FAILED, f"{directory}: {error.strerror or error}", fix)
    evidence = f"{directory}{'' if existing == directory else ' (does not exist yet)'}, {free / 2**30:.1f} GiB free, fsync {fsync_s * 1000:.1f} ms"
    if free < floor:
        return Check(
            name,
            Verdict.FAILED,
            f"{evidence}: below {floor / 2**20:.0f} MiB nothing is written",
            "free some disk space, or choose another disk with --data",
        )
    if free < ENOUGH_FREE_BYTES:
        return Check(name, Verdict.WARNING, evidence, "little space is left: free some disk space")
    if fsync_s > SLOW_FSYNC_S:
        return Check(
            name, Verdict.WARNING, evidence, "the disk is slow, and every write waits for it: use a local SSD"
        )
    return Check(name, Verdict.OK, evidence)


def permissions(directory: Path) -> Check:
    """Check that other users cannot read the texts, the log and the keys in the data directory."""
    name = "permissions"
    if stat.S_IMODE(directory.stat().st_mode) & _OTHERS == 0:
        return Check(name, Verdict.OK, f"{directory} is open to its owner alone")
    open_files = list(_open_to_others(directory))
    if not open_files:
        return Check(name, Verdict.OK, f"the files in {directory} are readable by their owner alone")
    return Check(
        name,
        Verdict.WARNING,
        f"files that other users of this machine may read or write: {len(open_files)}, such as {open_files[0]}",
        f"chmod -R go= {directory}",
    )


def _open_to_others(directory: Path) -> Iterator[Path]:
    """The files below a directory that other users may read or write. Files may vanish meanwhile."""
    for parent, _, names in os.walk(directory):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(OSError):
                mode = path.stat().st_mode
                if stat.S_ISREG(mode) and mode & _OTHERS:
                    yield path


def _fsync_s(directory: Path) -> float:
    """Median duration of writing 4 KiB durably, in seconds."""
    durations: list[float] = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(5):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            durations.append(time.perf_counter() - started)
    return statistics.median(durations)


def open_files() -> Check:
    """Check that enough files and connections may be open at once."""
    limit = os_support.file_limit()
    if limit is None:
        return Check("open files", Verdict.OK, "no limit")
    soft, hard = limit
    evidence = f"limit {soft} (maximum {hard})"
    if soft < MIN_OPEN_FILES:
        return Check(
            "open files",
            Verdict.WARNING,
            evidence,
            f"run `ulimit -n {MIN_OPEN_FILES}` before `lorestream up`",
        )
    return Check("open files", Verdict.OK, evidence)


def port(name: str, number: int) -> Check:
    """Check that a port of this machine is free."""
    title = f"{name} port"
    with socket.socket() as probe:
        os_support.reuse_address(probe)
        try:
            probe.bind(("127.0.0.1", number))
        except PermissionError:
            return Check(title, Verdict.FAILED, f"{number} is reserved for root", "choose a port above 1023")
        except OSError as error:
            owner = port_owner(number) or "a process of another user"
            fix = f"stop it, or choose another port with --{'port' if name == 'http' else name + '-port'}"
            return Check(title, Verdict.FAILED, f"{number} is in use by {owner} ({error.strerror})", fix)
    return Check(title, Verdict.OK, f"{number} is free")


def port_owner(number: int) -> str | None:
    """The process that listens on a TCP port, as "name (process 123)"; None if this user cannot see it."""
    sockets = {f"socket:[{inode}]" for inode in _listening(number)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in sockets for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue  # the process has ended, or belongs to another user
    return None


def _listening(number: int) -> Iterator[str]:
    """The inodes of the sockets that listen on the port; see proc(5), /proc/net/tcp."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == number:
                yield fields[9]


def words(layout: WordLayout | None) -> Check:
    """Check that the words of the searched collection are stored as the settings say."""
    if layout is None:
        return Check("words", Verdict.SKIPPED, "no collection yet")
    if layout.found == layout.wanted:
        return Check("words", Verdict.OK, f"searches for words know {layout.found}")
    return Check(
        "words",
        Verdict.WARNING,
        f"searches for words know {layout.found}, LORESTREAM_KEYWORD__LANGUAGE says {layout.wanted}",
        layout.remedy,
    )


def model(chosen: EmbedderSettings, models_dir: Path) -> Check:
    """Check that the embedding model is ready to use."""
    if chosen.kind == "hash":
        return Check(
            "model",
            Verdict.WARNING,
            "the hash embedder is for tests only: it does not find by meaning",
            "unset LORESTREAM_EMBEDDER__KIND",
        )
    if chosen.kind == "torch":
        if importlib.util.find_spec("sentence_transformers") is None:
            return Check(
                "model",
                Verdict.FAILED,
                "sentence-transformers is not installed",
                "pip install '.[server,torch]'",
            )
        return Check("model", Verdict.OK, f"{chosen.model}, by sentence-transformers")
    from lorestream.adapters.embedders import model_files  # noqa: PLC0415

    try:
        files = model_files.find(chosen.model, models_dir)
        model_files.verify(files)
    except Misconfigured as error:
        return Check("model", Verdict.FAILED, str(error), "lorestream model prepare")
    size = os_support.used_bytes(files.directory)
    return Check("model", Verdict.OK, f"{files.model_id}, {size / 2**20:.0f} MiB in {files.directory}")


def reranker(model: str, models_dir: Path) -> Check:
    """Check that the cross-encoder of the settings is ready to use."""
    from lorestream.adapters.embedders import model_files  # noqa: PLC0415

    try:
        files = model_files.find(model, models_dir)
        model_files.verify(files)
    except Misconfigured as error:
        return Check("reranker", Verdict.FAILED, str(error), f"lorestream model prepare {model}")
    return Check("reranker", Verdict.OK, f"{files.model_id} in {files.directory}")


def processor() -> Check:
    """Report the vector units of the processor, and the precision of the model that follows. Never fails."""
    from lorestream.adapters.embedders.openvino_network import cpu_flags, precision  # noqa: PLC0415

    flags = cpu_flags()
    known = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd") if flag in flags]
    evidence = f"{os.cpu_count()} cores, {', '.join(known) or 'no known vector units'}: {precision(flags)}"
    return Check("processor", Verdict.OK, evidence)
