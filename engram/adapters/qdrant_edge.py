"""The embedded store: Qdrant's engine in this process, exact search without a graph.

Edge's binding holds the interpreter's lock, so a thread would bring nothing: its calls are made on the
event loop, in steps of a few milliseconds between which others get their turn. `optimize()` stops every
thread for seconds and is never called.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import qdrant_edge as edge

from engram.adapters.edge_filters import edge_filter
from engram.adapters.edge_reader import STEP, EdgeReader
from engram.adapters.edge_shard import VECTOR, Lock, open_shard, translated
from engram.adapters.qdrant_conditions import Clause, Group, Match, Range, expired, in_scope
from engram.adapters.qdrant_payload import payload, point_id, ticks, tombstone
from engram.errors import InvalidEvent, ModelMismatch
from engram.memories import AgentKey, Scope, SubjectKind

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from engram.memories import Erasure, Hit, Memory, PageQuery, VectorQuery
    from engram.ports import Tombstone

_WRITE_STEP = 64  # points written at once: about 3 ms


class EdgeStore:
    """A VectorStore in a directory, or in a temporary one that goes when the store is closed.

    What a call has written survives the death of the process; a power cut, only after `flush`.
    """

    def __init__(
        self, shard: edge.EdgeShard, lock: Lock, directory: Path, *, dim: int, temporary: bool
    ) -> None:
        """Use `open`."""
        self._shard = shard
        self._lock = lock
        self._directory = directory
        self._dim = dim
        self._temporary = temporary
        self._reader = EdgeReader(shard)
        self._closed = False

    @classmethod
    def open(cls, path: Path | None, *, model_id: str, dim: int) -> Self:
        """Open the store in `path`, making it where there is none; None = in a temporary place.

        Blocks: about 10 microseconds a memory. Raises ModelMismatch when another model filled it,
        Misconfigured when another process has it open or it cannot be written or read.
        """
        directory = Path(tempfile.mkdtemp(prefix="engram-store-")) if path is None else path
        shard, lock = open_shard(directory, model_id=model_id, dim=dim)
        return cls(shard, lock, directory, dim=dim, temporary=path is None)

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

    # --- writing -------------------------------------------------------------------------------------------

    async def insert(self, memories: Sequence[Memory], vectors: NDArray[np.float32]) -> None:
        """Add memories that are not there. One that cannot be kept raises InvalidEvent, and none is added."""
        self._check_vectors(memories, vectors)
        rows: dict[str, int] = {}
        for row, one in enumerate(memories):
            rows.setdefault(point_id(one.tenant, one.lasting_agent or one.agent_id, one.id), row)
        # Every payload is made before the first is written, so that a refusal leaves nothing behind.
        points: list[edge.Point] = []
        for number, (point, row) in enumerate(rows.items(), start=1):
            points.append(_point(point, memories[row], vectors[row].tolist()))
            if number % _WRITE_STEP == 0:
                await asyncio.sleep(0)
        await self._upsert(points, edge.UpdateMode.InsertOnly)

    async def bury(self, tombstones: Sequence[Tombstone]) -> None:
        """Put a tombstone, without text and vector, in the place of each."""
        points = [
            edge.Point(point_id(one.tenant, one.agent_id, one.memory_id), {}, tombstone(one.deleted_at))
            for one in tombstones
        ]
        await self._upsert(points, edge.UpdateMode.Upsert)

    async def erase(self, erasure: Erasure) -> Collection[AgentKey]:
        """Remove what the erasure covers, in steps; interrupted, it is simply called again."""
        lost: set[AgentKey] = set()
        doomed: list[str] = []
        async for point, found in self._reader.scroll(edge_filter(*_subjects(erasure))):
            if not erasure.covers(found):
                continue
            doomed.append(point)
            lost.add(AgentKey(found.tenant, found.agent_id))
            if len(doomed) == STEP:
                self._delete(doomed)
                doomed = []
        self._delete(doomed)
        return lost

    async def sweep(self, *, expired_before: float, tombstones_before: float, limit: int) -> int:
        """Remove expired memories first, then tombstones made before the given time."""
        removed = 0
        for clause in (expired(expired_before), Range("deleted", lt=ticks(tombstones_before))):
            while removed < limit:
                step = min(STEP, limit - removed)
                request = edge.ScrollRequest(limit=step, filter=edge_filter(clause), with_payload=False)
                with translated():
                    records, _ = self._shard.scroll(request)
                self._delete([str(record.id) for record in records])
                removed += len(records)
                if len(records) < step:
                    break
                await asyncio.sleep(0)
        return removed

    async def flush(self) -> None:
        """Make everything so far survive a power cut."""
        with translated():
            self._shard.flush()

    # --- reading -------------------------------------------------------------------------------------------

    async def search(self, query: VectorQuery) -> Sequence[Hit]:
        """The k nearest by cosine, exactly; ties by newer."""
        if len(query.vector) != self._dim:
            raise ModelMismatch(f"a query of {len(query.vector)} dimensions in a store of {self._dim}")
        return await self._reader.search(query)

    async def page(self, query: PageQuery) -> Sequence[Memory]:
        """In the order of memories, strictly after `query.after`."""
        return await self._reader.page(query)

    async def count(self, query: PageQuery) -> int:
        """How many memories match, exactly."""
        return await self._reader.count(query)

    async def get(self, tenant: str, agent_id: str, memory_id: str, *, now: float) -> Memory | None:
        """One memory of that agent, or None."""
        return self._reader.get(point_id(tenant, agent_id, memory_id), now=now)

    async def agents(self, scope: Scope, *, limit: int, now: float) -> Sequence[tuple[str, int]]:
        """(agent_id, number of memories), the largest first, equal ones by id."""
        return self._reader.agents(scope, limit=limit, now=now)

    # --- the shard -----------------------------------------------------------------------------------------

    async def _upsert(self, points: Sequence[edge.Point], mode: edge.UpdateMode) -> None:
        for start in range(0, len(points), _WRITE_STEP):
            step = list(points[start : start + _WRITE_STEP])
            with translated():
                self._shard.update(edge.UpdateOperation.upsert_points(step, update_mode=mode))
            await asyncio.sleep(0)

    def _delete(self, points: Sequence[str]) -> None:
        if points:
            with translated():
                self._shard.update(edge.UpdateOperation.delete_points(list(points)))

    def _check_vectors(self, memories: Sequence[Memory], vectors: NDArray[np.float32]) -> None:
        if vectors.shape != (len(memories), self._dim):
            message = (
                f"vectors of shape {vectors.shape} for {len(memories)} memories of {self._dim} dimensions"
            )
            raise ModelMismatch(message)
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if broken.size:
            raise InvalidEvent(f"memory {memories[int(broken[0])].id}: its vector holds what is no number")


def _point(point: str, one: Memory, vector: list[float]) -> edge.Point:
    try:
        return edge.Point(point, {VECTOR: vector}, payload(one))
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidEvent(f"memory {one.id} cannot be stored: {reason}") from error


def _subjects(erasure: Erasure) -> tuple[Clause, ...]:
    if erasure.kind is SubjectKind.AGENT:
        return (in_scope(Scope(erasure.tenant, erasure.subjects)),)
    if not erasure.subjects:
        return (in_scope(Scope(erasure.tenant, ())),)
    players = (Match("player", erasure.subjects), Match("agent_player", erasure.subjects))
    return (in_scope(Scope(erasure.tenant)), Group(should=players))
