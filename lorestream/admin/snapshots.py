"""Snapshots of a running Lorestream: asked for, or taken every few hours, the newest kept.

A snapshot is a directory that gets its name only when it is whole and durable.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import structlog

from lorestream import __version__, durable
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
from lorestream.errors import LorestreamError, OperationRefused
from lorestream.ports import Clock

_log = structlog.get_logger("lorestream.snapshots")

LOOK_S = 60.0
"""How often it is looked at whether the next one is due; so long a failed one waits, too."""

_MAKING = ".making-"
_GIVEN_UP_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy is of."""

    collection: str
    model_id: str
    dim: int
    log: Literal["embedded", "kafka"]
    offsets: Mapping[int, int]
    player_key: Literal["file", "setting"]
    store: Literal["edge", "qdrant"]


class Source(Protocol):
    """What snapshots are taken of."""

    async def copy(self, into: Path) -> Copied:
        """Write a copy into an empty directory, while writes and reads go on.

        Everything below its offsets lies in its store, and everything behind them in its log. Raises
        Unavailable, and OSError for what cannot be written.
        """
        ...


class Take(msgspec.Struct, forbid_unknown_fields=True):
    """Where the snapshot is to lie: a directory that is not there yet. None: among those that are kept."""

    to: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Takes them. `every_s`: 0 = only when asked. `keep`: so many of the newest stay, 0 = all."""

    source: Source
    directory: Path
    clock: Clock
    every_s: float = 0.0
    keep: int = 0

    def task(self) -> AdminTask:
        """`lorestream snapshot`."""
        return AdminTask("snapshot", Take, self._asked)

    def due(self) -> bool:
        """Whether the newest is so old that it is time for another one."""
        there = snapshot_manifest.taken(self.directory)
        return not there or self.clock.now() >= there[0][1].created + self.every_s

    async def _asked(self, arguments: Take) -> ReportStream:
        to = None if arguments.to is None else Path(arguments.to)
        if to is not None and not to.is_absolute():
            raise OperationRefused(f"{to} could be anywhere: give the whole path")
        async for report in self.take(to):
            yield report

    async def take(self, to: Path | None) -> AsyncGenerator[Report]:
        """Take one. Raises OperationRefused, with nothing left behind, when it cannot be written, and Unavailable."""
        started = time.monotonic()
        final = to or self._new_name()
        if final.exists():
            raise OperationRefused(f"{final} is there already: choose another place for the snapshot")
        making = final.with_name(f"{_MAKING}{final.name}-{secrets.token_hex(4)}")
        try:
            final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._clear()
            making.mkdir(mode=0o700)
        except OSError as error:
            raise _unwritable(final, error) from error
        try:
            yield Progress("copying", 0, unit="bytes")
            filling = asyncio.create_task(self._fill(making))
            async with aclosing(snapshot_files.beats(filling)) as beats:
                async for _ in beats:
                    yield Progress("copying", snapshot_files.taken_by(making), unit="bytes")
            manifest = filling.result()
            durable.rename(making, final)
        except OSError as error:
            raise _unwritable(final, error) from error
        finally:
            snapshot_files.remove(making)
        took = snapshot_files.taken_by(final)
        yield Progress("copying", took, took, "bytes")
        removed, remarks = await self._prune() if to is None else (0, [])
        for remark in remarks:
            yield Remark(remark)
        yield Outcome(
            _told(final, manifest) | {"bytes": took, "removed": removed, "took_s": time.monotonic() - started}
        )

    async def _fill(self, making: Path) -> Manifest:
        created = self.clock.now()
        copied = await self.source.copy(making)
        sealed = await snapshot_files.in_thread(
            lambda stopped: snapshot_files.seals(making, stopped, lambda _bytes: None)
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
            files=sealed,
            store=copied.store,
        )
        snapshot_manifest.write(making, manifest)
        return manifest

    async def _prune(self) -> tuple[int, list[str]]:
        """Remove all but the newest; how many have gone, and why others stay."""
        removed, remarks = 0, list[str]()
        for path, _ in snapshot_manifest.taken(self.directory)[self.keep :] if self.keep else ():
            try:
                # Without its manifest it is no snapshot any more, however far the rest gets.
                durable.remove_file(path / snapshot_manifest.NAME)
                await snapshot_files.in_thread(lambda _stopped, path=path: snapshot_files.remove(path))
                removed += 1
            except OSError as error:
                remarks.append(f"{path} stays: {error}")
        return removed, remarks

    def _clear(self) -> None:
        """Remove what those have left that were killed long ago."""
        given_up = self.clock.now() - _GIVEN_UP_S
        for left in self.directory.glob(f"{_MAKING}*"):
            if left.stat().st_mtime < given_up:
                snapshot_files.remove(left)

    def _new_name(self) -> Path:
        name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.clock.now()))
        path, number = self.directory / name, 1
        while path.exists():
            number += 1
            path = self.directory / f"{name}-{number}"
        return path


class Schedule:
    """Takes a snapshot whenever one is due; nothing where none is to be taken unasked."""

    def __init__(self, snapshots: Snapshots, wanted: Callable[[], bool] = lambda: True) -> None:
        """`wanted`: whether it is this process's turn, where there are several."""
        self._snapshots = snapshots
        self._wanted = wanted
        self._running: asyncio.Task[None] | None = None

    def work(self) -> list[Coroutine[None, None, None]]:
        """What runs until `stop`, if there is anything to do."""
        return [self._run()] if self._snapshots.every_s else []

    def stop(self) -> None:
        """End it, and break off the snapshot that is being taken."""
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        self._running = asyncio.create_task(self._regularly())
        await asyncio.wait({self._running})
        if not self._running.cancelled():
            self._running.result()

    async def _regularly(self) -> None:
        while True:
            if self._wanted() and self._snapshots.due():
                await self._take()
            await asyncio.sleep(min(LOOK_S, self._snapshots.every_s))

    async def _take(self) -> None:
        try:
            async with aclosing(self._snapshots.take(None)) as reports:
                async for report in reports:
                    match report:
                        case Outcome():
                            _log.info("snapshot", **report.value)
                        case Remark():
                            _log.warning(report.text)
                        case _:
                            pass
        except LorestreamError as error:
            _log.error("no snapshot could be taken", error=str(error))


def _told(path: Path, manifest: Manifest) -> dict[str, object]:
    return {
        "snapshot": str(path),
        "files": len(manifest.files),
        "collection": manifest.collection,
        "model_id": manifest.model_id,
        "offsets": {str(partition): offset for partition, offset in manifest.offsets.items()},
    }


def _unwritable(path: Path, error: OSError) -> OperationRefused:
    return OperationRefused(
        f"no snapshot was taken, {path} cannot be written ({error.strerror}): make room, or choose another place"
        " with --to"
    )
