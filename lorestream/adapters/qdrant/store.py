"""Memories as points of one Qdrant collection: a VectorStore, whatever engine keeps the points."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Generic

import numpy as np

from lorestream.adapters.qdrant import bm25, retention
from lorestream.adapters.qdrant.conditions import Clause, Group, Match, Range, expired, in_scope
from lorestream.adapters.qdrant.engine import Engine, P, Payload
from lorestream.adapters.qdrant.payload import memory, payload, point_id, ticks, tombstone
from lorestream.adapters.qdrant.reader import QdrantReader
from lorestream.errors import InvalidEvent, ModelMismatch
from lorestream.memories import AgentKey, Scope, SubjectKind, VectorQuery
from lorestream.ports import Reclaimable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lorestream.memories import Erasure, Hit, KeywordQuery, Memory, PageQuery
    from lorestream.ports import Tombstone

_MADE_AT_ONCE = 64  # points made before others get their turn: about 3 ms


class QdrantStore(Generic[P]):
    """A VectorStore over an engine."""

    def __init__(self, engine: Engine[P], *, dim: int) -> None:
        self._engine = engine
        self._reader = QdrantReader(engine)
        self._dim = dim

    # --- writing -------------------------------------------------------------------------------------------

    async def insert(self, memories: Sequence[Memory], vectors: NDArray[np.float32]) -> None:
        """Add memories that are not there. One that cannot be kept raises InvalidEvent, and none is added."""
        self._check_vectors(memories, vectors)
        rows: dict[str, int] = {}
        for row, one in enumerate(memories):
            rows.setdefault(point_id(one.tenant, one.lasting_agent or one.agent_id, one.id), row)
        # Every point is made before the first is written, so that a refusal leaves nothing behind.
        points: list[P] = []
        for number, (point, row) in enumerate(rows.items(), start=1):
            points.append(self._point(point, memories[row], vectors[row]))
            if number % _MADE_AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._engine.upsert(points, insert_only=True)

    async def put_tombstones(self, tombstones: Sequence[Tombstone]) -> None:
        """Put a tombstone, without text and vector, in the place of each."""
        last = {point_id(one.tenant, one.agent_id, one.memory_id): one for one in tombstones}
        points = [self._engine.point(point, tombstone(one), None, None) for point, one in last.items()]
        await self._engine.upsert(points, insert_only=False)

    async def erase(self, erasure: Erasure) -> Collection[AgentKey]:
        """Remove what the erasure covers, in steps; interrupted, it is simply called again."""
        lost: set[AgentKey] = set()
        doomed: list[str] = []
        async for point, found in self._reader.scroll(*_subjects(erasure)):
            if not erasure.covers(found):
                continue
            doomed.append(point)
            lost.add(AgentKey(found.tenant, found.agent_id))
            if len(doomed) == self._engine.traits.step:
                await self._delete(doomed)
                doomed = []
        await self._delete(doomed)
        return lost

    async def sweep(self, *, expired_before: float, tombstones_before: float, limit: int) -> int:
        """Remove expired memories first, then tombstones made before the given time."""
        removed = 0
        for clause in (expired(expired_before), Range("deleted", lt=ticks(tombstones_before))):
            while removed < limit:
                step = min(self._engine.traits.step, limit - removed)
                records, _ = await self._engine.scroll([clause], limit=step, after=None, with_payload=False)
                await self._delete([point for point, _ in records])
                removed += len(records)
                if len(records) < step:
                    break
                await asyncio.sleep(0)
        return removed

    async def agents_above(self, *, keep: int) -> Sequence[AgentKey]:
        """The agents of all tenants that may have more than `keep` memories, the largest first."""
        return await retention.agents_above(self._engine, keep=keep)

    async def trim(self, agent: AgentKey, *, keep: int, limit: int, now: float) -> int:
        """Remove at most `limit` of the agent's oldest memories beyond its newest `keep`; return how many went."""
        return await retention.trim(self._engine, self._reader, agent, keep=keep, limit=limit, now=now)

    async def reclaimable(self) -> Reclaimable:
        """Nothing: the engine gives space back itself."""
        return Reclaimable()

    async def size(self, *, now: float) -> int:
        """How many memories of all tenants there are that have not expired."""
        return await self._engine.count([Group(must_not=(expired(now), Range("deleted", gte=0)))])

    async def reusable_vectors(
        self, memories: Sequence[Memory]
    ) -> Sequence[tuple[NDArray[np.float32], bool] | None]:
        """The vector of each memory that lies there with the same text, and whether it was truncated for it."""
        ids = [point_id(one.tenant, one.lasting_agent or one.agent_id, one.id) for one in memories]
        found = await self._engine.vectors(ids)
        return [
            _same(one, *found[id_]) if id_ in found else None for id_, one in zip(ids, memories, strict=True)
        ]

    async def flush(self) -> None:
        """Make everything so far survive a power cut."""
        await self._engine.flush()

    # --- reading -------------------------------------------------------------------------------------------

    async def search(self, query: VectorQuery | KeywordQuery) -> Sequence[Hit]:
        """The k best by cosine, blend or BM25, exactly; ties by newer."""
        if isinstance(query, VectorQuery) and len(query.vector) != self._dim:
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
        return await self._reader.get(point_id(tenant, agent_id, memory_id), now=now)

    async def agents(self, scope: Scope, *, limit: int, now: float) -> Sequence[tuple[str, int]]:
        """(agent_id, number of memories), the largest first, equal ones by id."""
        return await self._reader.agents(scope, limit=limit, now=now)

    async def scan(self, after: str | None, limit: int) -> tuple[Sequence[Memory | Tombstone], str | None]:
        """All that lies in the store, in the order of its points; the cursor is the id of the next."""
        return await self._reader.scan(after, limit)

    async def lookup(self, memories: Sequence[Memory]) -> Sequence[Memory | Tombstone | None]:
        """What lies in the place of each memory."""
        return await self._reader.lookup(
            [point_id(one.tenant, one.lasting_agent or one.agent_id, one.id) for one in memories]
        )

    # --- points --------------------------------------------------------------------------------------------

    def _point(self, point: str, one: Memory, vector: NDArray[np.float32]) -> P:
        try:
            return self._engine.point(point, payload(one), vector, bm25.document(one.text))
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InvalidEvent(f"memory {one.id} cannot be stored: {reason}") from error

    async def _delete(self, points: Sequence[str]) -> None:
        if points:
            await self._engine.delete(points)

    def _check_vectors(self, memories: Sequence[Memory], vectors: NDArray[np.float32]) -> None:
        if vectors.shape != (len(memories), self._dim):
            message = (
                f"vectors of shape {vectors.shape} for {len(memories)} memories of {self._dim} dimensions"
            )
            raise ModelMismatch(message)
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if broken.size:
            raise InvalidEvent(f"memory {memories[int(broken[0])].id}: its vector holds what is no number")


def _same(
    wanted: Memory, payload: Payload, vector: Sequence[float]
) -> tuple[NDArray[np.float32], bool] | None:
    found = memory(payload) if "body" in payload else None
    if found is None or found.text != wanted.text:
        return None
    return np.asarray(vector, np.float32), found.truncated


def _subjects(erasure: Erasure) -> tuple[Clause, ...]:
    if erasure.kind is SubjectKind.AGENT:
        return (in_scope(Scope(erasure.tenant, erasure.subjects)),)
    if not erasure.subjects:
        return (in_scope(Scope(erasure.tenant, ())),)
    players = (Match("player", erasure.subjects), Match("agent_player", erasure.subjects))
    return (in_scope(Scope(erasure.tenant)), Group(should=players))
