"""The embedded store: a shard of Qdrant's engine in a directory of this process."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
import qdrant_edge as edge

from lorestream import durable, os_support
from lorestream.adapters.qdrant.edge.engine import EdgeEngine
from lorestream.adapters.qdrant.edge.messages import translate_errors
from lorestream.adapters.qdrant.edge.shard import RECLAIMABLE, VectorType, open_shard
from lorestream.adapters.qdrant.store import QdrantStore
from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT, Words
from lorestream.durable import ProcessLock
from lorestream.errors import Unavailable
from lorestream.ports import Reclaimable

if TYPE_CHECKING:
    from types import TracebackType


class EdgeStore(QdrantStore[edge.Point]):
    """A VectorStore in a directory, or in a temporary one that is deleted when the store is closed.

    What a call has written survives a crash of the process at once, and a power cut after `flush`.
    """

    def __init__(
        self,
        shard: edge.EdgeShard,
        lock: ProcessLock,
        directory: Path,
        *,
        dim: int,
        words: Words,
        temporary: bool,
        require_space: Callable[[], None],
    ) -> None:
        """Use `open`."""
        engine = EdgeEngine(shard, require_space=require_space)
        super().__init__(engine, dim=dim, words=words)
        self._edge = engine
        self._shard = shard
        self._lock = lock
        self._directory = directory
        self._temporary = temporary
        self._closed = False
        self._copying = asyncio.Lock()
        self._at_open = self._stored = _read_reclaimable(directory / RECLAIMABLE)
        self._erased = self._at_open.erased

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        model_id: str,
        dim: int,
        words: str = DEFAULT_LAYOUT,
        vectors: VectorType = "float32",
        require_space: Callable[[], None] = lambda: None,
    ) -> Self:
        """Open the store in `path`, created where it is missing; None: in a temporary directory.

        `words`, `vectors`: how a store that is created stores words and vectors; one that exists keeps its own way.
        `require_space` is called before each write; it raises Unavailable when the disk is nearly full.
        Blocks for about 10 microseconds per memory. Raises ModelMismatch when another model filled it, and
        Misconfigured when another process has it open, or when it cannot be read or written.
        """
        directory = Path(tempfile.mkdtemp(prefix="lorestream-store-")) if path is None else path
        shard, lock, layout = open_shard(directory, model_id=model_id, dim=dim, words=words, vectors=vectors)
        return cls(
            shard,
            lock,
            directory,
            dim=dim,
            words=layout,
            temporary=path is None,
            require_space=require_space,
        )

    @property
    def paused(self) -> bool:
        """Whether writes wait for the end of `without_writes`."""
        return self._edge.paused

    @contextlib.asynccontextmanager
    async def without_writes(self) -> AsyncGenerator[Path]:
        """Flush, and hold all writes until the context ends. Yields the directory, in which no file changes.

        Reads continue. A second caller waits for the first. Raises Unavailable.
        """
        async with self._copying:
            self._edge.pause_writes()
            try:
                with translate_errors():
                    self._shard.flush()
                yield self._directory
                if self._closed:
                    raise Unavailable(f"{self._directory} was closed while it was copied: try again")
            finally:
                self._edge.resume_writes()

    async def _before_erasing(self) -> None:
        """The bytes of what is erased stay in the files until a compaction (see `reclaimable`)."""
        if not self._stored.erased:
            # Before the first point goes: after a crash the erasure finds nothing to remove, and its bytes stay.
            self._erased = True
            await self._store_reclaimable()

    async def reclaimable(self) -> Reclaimable:
        """How much was removed and still takes space, and whether an erasure removed something."""
        return Reclaimable(self._at_open.points + self._edge.removed, self._erased)

    async def disk_bytes(self) -> int | None:
        """The bytes that the files of the store take on the disk."""
        return await asyncio.to_thread(os_support.used_bytes, self._directory)

    async def live_share(self) -> float:
        """The share of the points' space that a compaction would keep, 0 to 1. Raises Unavailable."""
        points, removed = await self._edge.most_points(()), (await self.reclaimable()).points
        return points / (points + removed) if removed else 1.0

    async def flush(self) -> None:
        """Make every write so far survive a power cut. Raises Unavailable."""
        if not self._temporary:
            # Edge's flush stops every thread, so most of the data is written to the disk before it. It also writes the
            # files that could not be opened here.
            with durable.translated(self._directory):
                await durable.in_thread(lambda: durable.sync_contents(self._directory))
        await super().flush()
        await self._store_reclaimable()

    async def _store_reclaimable(self) -> None:
        """Write `reclaimable` to its file, if it has changed. Raises Unavailable."""
        path = self._directory / RECLAIMABLE
        async with self._copying:  # no file changes while a snapshot copies them
            reclaimable = await self.reclaimable()
            if reclaimable == self._stored or self._temporary:
                return
            with durable.translated(path):
                await durable.in_thread(lambda: durable.write_file(path, msgspec.json.encode(reclaimable)))
            self._stored = reclaimable

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Flush, release the lock, and delete a temporary directory. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            try:
                if not self._temporary:
                    with translate_errors():
                        self._shard.flush()
            finally:  # an open shard could not be loaded again by this process
                with translate_errors():
                    self._shard.close()
        finally:
            self._lock.release()
            if self._temporary:
                shutil.rmtree(self._directory)


def _read_reclaimable(path: Path) -> Reclaimable:
    with contextlib.suppress(OSError, msgspec.DecodeError, RecursionError):
        return msgspec.json.decode(path.read_bytes(), type=Reclaimable)
    return Reclaimable()
