"""Snapshots of a running Lorestream, taken on request or every few hours.

A snapshot is a directory that gets its name when it is complete and durable. Of the snapshots in the directory of the
settings the newest are kept.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import structlog

from lorestream import __version__, durable, os_support, supervision
from lorestream.access.authentication import Principal
from lorestream.admin import (
    AdminTask,
    Outcome,
    Progress,
    Remark,
    Report,
    ReportStream,
    snapshot_files,
    snapshot_manifest,
)
from lorestream.admin.snapshot_manifest import Manifest
from lorestream.errors import InvalidRequest, LorestreamError, OperationRefused
from lorestream.ports import Clock

_log = structlog.get_logger("lorestream.snapshots")

POLL_INTERVAL_S = 60.0
"""How often the schedule checks whether a snapshot is due, and how long it waits after a failure."""

_TEMPORARY_PREFIX = ".making-"
_ABANDONED_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True)
class CopyInfo:
    """What was copied; the fields are those of Manifest."""

    collection: str
    model_id: str
    dim: int
    log: Literal["embedded", "kafka"]
    offsets: Mapping[int, int]
    player_key: Literal["file", "setting"]
    store: Literal["edge", "qdrant"]


class SnapshotSource(Protocol):
    """The store and the log that a snapshot copies."""

    async def copy(self, into: Path) -> CopyInfo:
        """Copy into the empty directory `into`, while events are accepted and reads go on.

        Writes to the store may wait meanwhile. The copied store holds every record below the returned offsets, and the
        log every record from them on. Raises Unavailable, and OSError when the copy cannot be written.
        """
        ...


class SnapshotArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`to`: the directory to create, as an absolute path. None: one in the directory of the scheduled snapshots."""

    to: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Takes snapshots. `every_s`: the interval of the schedule, 0 = none. `keep`: how many are kept, 0 = all."""

    source: SnapshotSource
    directory: Path
    clock: Clock
    every_s: float = 0.0
    keep: int = 0

    def task(self) -> AdminTask:
        """The admin task of `lorestream snapshot`."""
        return AdminTask("snapshot", SnapshotArguments, self._run_task, restrict=self._restrict)

    def is_due(self) -> bool:
        """Whether no snapshot was taken within the interval of the schedule. Blocks.

        One from further in the future was taken by a clock that was wrong, and does not count.
        """
        now = self.clock.now()
        found = snapshot_manifest.list_snapshots(self.directory)
        return all(abs(now - manifest.created) >= self.every_s for _, manifest in found)

    def _restrict(self, arguments: SnapshotArguments, caller: Principal) -> SnapshotArguments:
        """Refuse a directory outside that of the snapshots to whom has a key: keys are used from other machines.

        A caller without a key is on this machine, where no other one is served.
        """
        if arguments.to is not None and caller.key:
            # Compared without symbolic links: one below the directory could lead anywhere.
            to, directory = os.path.realpath(_checked(arguments.to)), os.path.realpath(self.directory)
            if Path(directory) not in Path(to).parents:
                raise OperationRefused(
                    f"over the network, snapshots are taken below {directory} only: leave --to out, or set"
                    " LORESTREAM_SNAPSHOT__DIR of the server to another directory"
                )
        return arguments

    async def _run_task(self, arguments: SnapshotArguments) -> ReportStream:
        to = None if arguments.to is None else _checked(arguments.to)
        async for report in self.take(to):
            yield report

    async def take(self, to: Path | None) -> AsyncGenerator[Report]:
        """Take a snapshot, and delete the oldest beyond `keep`. `to`: as in SnapshotArguments.

        Raises OperationRefused when it cannot be written, and Unavailable; then nothing of it is left.
        """
        started = time.monotonic()
        final, temporary = await durable.in_thread(lambda: self._begin(to))
        try:
            yield Progress("copying", 0, unit="bytes")
            async with supervision.alongside(self._fill(temporary), "snapshot") as filling:
                async for _ in snapshot_files.ticks(filling):
                    size = await durable.in_thread(lambda: os_support.used_bytes(temporary))
                    yield Progress("copying", size, unit="bytes")
                manifest = filling.result()
            await durable.in_thread(lambda: durable.rename(temporary, final))
        except OSError as error:
            raise _unwritable(final, error) from error
        finally:
            await durable.in_thread(lambda: shutil.rmtree(temporary, ignore_errors=True))
        took = await durable.in_thread(lambda: os_support.used_bytes(final))
        yield Progress("copying", took, took, "bytes")
        removed, remarks = await self._prune() if to is None else (0, [])
        for remark in remarks:
            yield Remark(remark)
        yield Outcome(
            _describe(final, manifest)
            | {"bytes": took, "removed": removed, "took_s": time.monotonic() - started}
        )

    def _begin(self, to: Path | None) -> tuple[Path, Path]:
        """Create the directory to copy into. Returns the place of the snapshot, and that directory. Blocks.

        Raises OperationRefused.
        """
        final = to or self.directory
        try:
            final = to or self._new_name()
            if final.exists():
                raise OperationRefused(f"{final} exists already: choose another place for the snapshot")
            temporary = final.with_name(f"{_TEMPORARY_PREFIX}{final.name}-{secrets.token_hex(4)}")
            final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_abandoned()
            temporary.mkdir(mode=0o700)
        except OSError as error:
            raise _unwritable(final, error) from error
        return final, temporary

    async def _fill(self, temporary: Path) -> Manifest:
        created = self.clock.now()
        copied = await self.source.copy(temporary)
        files = await snapshot_files.run_in_thread(
            lambda cancelled: snapshot_files.digest_tree(temporary, cancelled, lambda _bytes: None)
        )
        manifest = Manifest(
            lorestream=__version__,
            created=created,
            collection=copied.collection,
            model_id=copied.model_id,
            dim=copied.dim,
            log=copied.log,
            offsets=dict(copied.offsets),
            player_key=copied.player_key,
            files=files,
            store=copied.store,
        )
        await durable.in_thread(lambda: snapshot_manifest.write(temporary, manifest))
        return manifest

    async def _prune(self) -> tuple[int, list[str]]:
        """Delete all snapshots but the newest `keep`. Returns how many, and a message for each one that stays."""
        removed, remarks = 0, list[str]()
        try:
            found = (
                await durable.in_thread(lambda: snapshot_manifest.list_snapshots(self.directory))
                if self.keep
                else ()
            )
        except OSError as error:
            return 0, [
                f"old snapshots in {self.directory} cannot be listed ({error.strerror}): none was deleted"
            ]
        # Those from the future were taken by a wrong clock, before the one that was taken now.
        now = self.clock.now()
        found = sorted(found, key=lambda one: one[1].created > now)
        for path, _ in found[self.keep :]:
            try:
                await durable.in_thread(lambda path=path: _remove(path))
                removed += 1
            except OSError as error:
                remarks.append(
                    f"the old snapshot {path} cannot be deleted ({error.strerror}): delete it by hand"
                )
        return removed, remarks

    def _remove_abandoned(self) -> None:
        """Delete the temporary directories that killed processes left more than a day ago."""
        now = time.time()  # the clock of the file system
        for abandoned in self.directory.glob(f"{_TEMPORARY_PREFIX}*"):
            # Another worker may just have removed it, or completed a snapshot and renamed it.
            with suppress(FileNotFoundError):
                # One from the future was made while the clock was wrong.
                if abs(now - abandoned.stat().st_mtime) > _ABANDONED_AFTER_S:
                    shutil.rmtree(abandoned, ignore_errors=True)

    def _new_name(self) -> Path:
        name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.clock.now()))
        path, number = self.directory / name, 1
        while path.exists():
            number += 1
            path = self.directory / f"{name}-{number}"
        return path


class SnapshotSchedule:
    """Takes a snapshot whenever one is due. Does nothing when the snapshots have no interval."""

    def __init__(self, snapshots: Snapshots, wanted: Callable[[], bool] = lambda: True) -> None:
        """`wanted`: whether this process takes the snapshots; of several processes, only one does."""
        self._snapshots = snapshots
        self._wanted = wanted
        self._poll_interval_s = min(POLL_INTERVAL_S, snapshots.every_s)
        self._stopping = asyncio.Event()
        self.problem: str | None = None
        """Why the last attempt failed; None when it has succeeded, and before the first one."""

    @property
    def enabled(self) -> bool:
        """Whether the snapshots have an interval."""
        return self._snapshots.every_s > 0

    def work(self) -> dict[str, Coroutine[None, None, None]]:
        """The coroutine that runs until `stop`, by its name; empty when there is no interval."""
        return {"snapshots": self._run()} if self.enabled else {}

    def stop(self) -> None:
        """End the coroutine, and cancel a snapshot that is being taken."""
        self._stopping.set()

    async def _run(self) -> None:
        async with supervision.restarting(self._run_schedule, "snapshots"):
            await self._stopping.wait()

    async def _run_schedule(self) -> None:
        while True:
            await self.take_if_due()
            await asyncio.sleep(self._poll_interval_s)

    async def take_if_due(self) -> None:
        """Take a snapshot if one is due. A failure is logged once for each cause, and stays in `problem`."""
        try:
            if self._wanted() and await durable.in_thread(self._snapshots.is_due):
                await self._take()
        except (LorestreamError, OSError) as error:
            # A directory that cannot be read now (a network drive) may be there again at the next attempt.
            problem = f"no snapshot was taken: {error}"
            if problem != self.problem:
                _log.error(
                    "the scheduled snapshot failed, it is tried again after retry_s seconds",
                    error=str(error),
                    retry_s=self._poll_interval_s,
                )
            self.problem = problem
        else:
            self.problem = None

    async def _take(self) -> None:
        async with aclosing(self._snapshots.take(None)) as reports:
            async for report in reports:
                match report:
                    case Outcome():
                        _log.info("snapshot taken", **report.value)
                    case Remark():
                        _log.warning(report.text)
                    case _:
                        pass


def _remove(snapshot: Path) -> None:
    """Delete a snapshot. The manifest first: a directory without it is no snapshot, even if a crash leaves the rest."""
    durable.remove_file(snapshot / snapshot_manifest.FILE_NAME)
    durable.remove_tree(snapshot)


def _describe(path: Path, manifest: Manifest) -> dict[str, object]:
    return {
        "snapshot": str(path),
        "files": len(manifest.files),
        "collection": manifest.collection,
        "model_id": manifest.model_id,
        "offsets": {str(partition): offset for partition, offset in manifest.offsets.items()},
    }


def _checked(to: str) -> Path:
    """The path of a new snapshot. Raises InvalidRequest if it contains NUL, OperationRefused if it is relative."""
    if "\0" in to:
        raise InvalidRequest("no directory can have a name with NUL", path="to")
    path = Path(to)
    if not path.is_absolute():
        raise OperationRefused(
            f"{to} is a relative path, and the server has another working directory: give an absolute path"
        )
    return path


def _unwritable(path: Path, error: OSError) -> OperationRefused:
    return OperationRefused(
        f"no snapshot was taken, {path} cannot be written ({error.strerror}): {durable.remedy(error)}, or choose"
        " another place with --to"
    )
