"""The embedded store: a shard of Qdrant's engine in a directory of this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
import qdrant_edge as edge

from lorestream import durable
from lorestream.adapters.qdrant.edge.engine import EdgeEngine
from lorestream.adapters.qdrant.edge.shard import open_shard, translated
from lorestream.adapters.qdrant.store import QdrantStore
from lorestream.durable import ProcessLock
from lorestream.errors import Unavailable
from lorestream.ports import Reclaimable

if TYPE_CHECKING:
    from types import TracebackType

    from lorestream.memories import AgentKey, Erasure


_DEAD = "dead.json"


class EdgeStore(QdrantStore[edge.Point]):
    """A VectorStore in a directory, or in a temporary one that goes when the store is closed.

    What a call has written survives the death of the process; a power cut, only after `flush`.
    """

    def __init__(
        self, shard: edge.EdgeShard, lock: ProcessLock, directory: Path, *, dim: int, temporary: bool
    ) -> None:
        """Use `open`."""
        engine = EdgeEngine(shard)
        super().__init__(engine, dim=dim)
        self._edge = engine
        self._shard = shard
        self._lock = lock
        self._directory = directory
        self._temporary = temporary
        self._closed = False
        self._copying = asyncio.Lock()
        self._before = self._noted = _read_dead(directory / _DEAD)
        self._erased = self._before.erased

    @classmethod
    def open(cls, path: Path | None, *, model_id: str, dim: int) -> Self:
        """Open the store in `path`, making it where there is none; None = in a temporary place.

        Blocks: about 10 microseconds a memory. Raises ModelMismatch when another model filled it,
        Misconfigured when another process has it open or it cannot be written or read.
        """
        directory = Path(tempfile.mkdtemp(prefix="lorestream-store-")) if path is None else path
        shard, lock = open_shard(directory, model_id=model_id, dim=dim)
        return cls(shard, lock, directory, dim=dim, temporary=path is None)

    @contextlib.asynccontextmanager
    async def still(self) -> AsyncGenerator[Path]:
        """The directory, flushed, in which no file changes until the context ends. Writes wait, reads go on.

        One at a time. Raises Unavailable.
        """
        async with self._copying:
            self._edge.hold()
            try:
                with translated():
                    self._shard.flush()
                yield self._directory
                if self._closed:
                    raise Unavailable(f"{self._directory} was given up while it was copied: try again")
            finally:
                self._edge.go_on()

    async def erase(self, erasure: Erasure) -> Collection[AgentKey]:
        """Remove what the erasure covers. Its bytes stay in the files until they are copied (see `dead`)."""
        lost = await super().erase(erasure)
        self._erased = self._erased or bool(lost)
        return lost

    async def reclaimable(self) -> Reclaimable:
        """What was removed and still takes space."""
        return Reclaimable(self._before.points + self._edge.removed, self._erased)

    async def flush(self) -> None:
        """Make everything so far survive a power cut."""
        if not self._temporary:
            # The engine's own flush stops every thread: most of what the disk has to do is done before it.
            await asyncio.to_thread(_write_out, self._directory)
        await super().flush()
        if (dead := await self.reclaimable()) != self._noted and not self._temporary:
            durable.write_file(self._directory / _DEAD, msgspec.json.encode(dead))
            self._noted = dead

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Flush, give the directory back, and remove it if it is temporary. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            with translated():
                if not self._temporary:
                    self._shard.flush()
                self._shard.close()
        finally:
            self._lock.release()
            if self._temporary:
                shutil.rmtree(self._directory)


def _write_out(directory: Path) -> None:
    """Have the disk take what the system holds of these files; one that cannot be opened is left to the engine."""
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                handle = os.open(os.path.join(parent, name), os.O_RDONLY)  # noqa: PTH118 (as the walk gives them)
                try:
                    os.fdatasync(handle)
                finally:
                    os.close(handle)


def _read_dead(path: Path) -> Reclaimable:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=Reclaimable)
    return Reclaimable()
