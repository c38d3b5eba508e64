"""QdrantStore: a complete VectorStore, with the reads of `QdrantReader`, the rows of `QdrantRows`, writes and maintenance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np

from lorestream.adapters.qdrant.conditions import (
    NEVER,
    Clause,
    Empty,
    Group,
    Match,
    Range,
    expired_clause,
    linked_clause,
    scope_clause,
)
from lorestream.adapters.qdrant.corrections import NO_TOMBSTONE, Corrections, still
from lorestream.adapters.qdrant.engine import P, Payload, TimePage
from lorestream.adapters.qdrant.payload import (
    MAX_TICKS,
    agent_keyword,
    decode_memory,
    decode_point,
    encode_memory,
    encode_tombstone,
    is_group_of_memories,
    parse_agent_keyword,
    point_id,
    point_of,
    record_group,
    rewound_group,
    text_hash,
    ticks,
)
from lorestream.adapters.qdrant.reader import QdrantReader
from lorestream.adapters.qdrant.row_payload import EXPIRES, decode_row, points_of_space
from lorestream.errors import InvalidEvent, ModelMismatch
from lorestream.memories import AgentKey, Memory, PageQuery, Scope, SubjectKind
from lorestream.ports import Reclaimable
from lorestream.turns import Turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lorestream.adapters.qdrant.engine import Engine
    from lorestream.adapters.qdrant.words import Words
    from lorestream.memories import Erasure
    from lorestream.ports import Tombstone
    from lorestream.rewinds import Rewind
    from lorestream.state.rows import Row

_SCAN_PAGE = 128
"""Points of one page of a scan: if all of them are parts of policies, Edge takes 22 ms for it, and they have 45 MiB."""
_MAX_REASON_CHARS = 200


class QdrantStore(QdrantReader[P]):
    """A VectorStore over an engine. The arguments are those of `QdrantReader`."""

    def __init__(self, engine: Engine[P], *, dim: int, words: Words) -> None:
        super().__init__(engine, dim=dim, words=words)
        self._corrections = Corrections(engine)

    # --- MemoryWriter --------------------------------------------------------------------------------------

    async def insert(
        self,
        memories: Sequence[Memory],
        vectors: NDArray[np.float32],
        *,
        replaces: Callable[[Memory, Memory], bool] | None = None,
    ) -> None:
        """Add the memories that do not exist yet, or that replace the stored one.

        InvalidEvent for one of them means that none was added.

        The rows of `vectors` that belong to records are not used.
        """
        self._check_vectors(memories, vectors)
        rows: dict[str, int] = {}
        for row, one in enumerate(memories):
            rows.setdefault(point_of(one), row)
        # All points are built before the first is written, so that a rejected one leaves nothing behind.
        new: list[P] = []
        replacing: list[P] = []
        replaced = {} if replaces is None else await self._replaced(memories, rows, replaces)
        turns = Turns()
        for point, row in rows.items():
            memory = memories[row]
            if (old := replaced.get(point)) is None:
                new.append(self._build_point(point, memory, vectors[row]))
            else:
                memory = memory.with_corrections([*old.superseded_by, *memory.superseded_by])
                replacing.append(self._build_point(point, memory, vectors[row]))
            await turns.next()
        await self._engine.upsert(new, insert_only=True)
        if replacing:
            # With shard keys, the old one may be in the shard of another name of its agent.
            moved = [one for one, old in replaced.items() if old.agent_id != memories[rows[one]].agent_id]
            await self._delete(moved)
            await self._engine.upsert(replacing, replace=NO_TOMBSTONE)
        await self._corrections.inserted(memories, replaces)

    async def _replaced(
        self, memories: Sequence[Memory], rows: Mapping[str, int], replaces: Callable[[Memory, Memory], bool]
    ) -> dict[str, Memory]:
        """The stored memories that are to be replaced, by point id. `rows`: the row of the new one of each point id."""
        stored = await self._engine.retrieve(list(rows))
        found = {point: decode_memory(payload) for point, payload in stored.items() if "body" in payload}
        return {point: old for point, old in found.items() if replaces(old, memories[rows[point]])}

    async def put_tombstones(self, tombstones: Sequence[Tombstone]) -> None:
        """Replace each memory, whether it exists or not, by a tombstone without text and vector."""
        last = {point_id(one.tenant, one.agent_id, one.memory_id): one for one in tombstones}
        points = [self._engine.point(point, encode_tombstone(one), None, None) for point, one in last.items()]
        if points:
            await self._engine.upsert(points, insert_only=False)
            await self._corrections.deleted(tombstones)

    async def erase(self, erasure: Erasure) -> Collection[AgentKey]:
        """Remove what the erasure covers, batch by batch. After an interruption, call it again."""
        affected: set[AgentKey] = set()
        batch: list[str] = []
        stripped: dict[str, Memory] = {}
        turns = Turns()
        async with aclosing(self._engine.scan(_erasure_clauses(erasure))) as records:
            async for point, payload in records:
                match _after(erasure, payload):
                    case AgentKey() as agent:
                        batch.append(point)
                        affected.add(agent)
                    case Memory() as memory:
                        stripped[point] = memory
                        affected.add(AgentKey(memory.tenant, memory.agent_id))
                    case None:
                        pass
                if len(batch) == self._traits.batch_size:
                    await self._delete_erased(batch)
                    batch = []
                await turns.next()
        await self._delete_erased(batch)
        if stripped:
            await self._before_erasing()
            await self._corrections.rewrite(stripped, erasure.strip)
            superseded = [point for point, one in stripped.items() if one.superseded_by]
            await self._corrections.complete({one.id for one in stripped.values()}, superseded)
        return affected

    async def set_aside(self, rewind: Rewind, covered: Callable[[Memory], bool]) -> Collection[AgentKey]:
        """Change what is rewound to what is covered, batch by batch; the other points are only read."""
        tenant, server = rewind.tenant, rewind.server
        affected: set[AgentKey] = set()
        rewound = Match("group", (rewound_group(tenant),))
        changes: dict[bool, dict[str, Memory]] = {True: {}, False: {}}
        own = Group(should=(Match("tenant", (tenant,)), Match("group", (record_group(tenant),)), rewound))
        # Points of earlier versions lack the time of acceptance: of these, all are read.
        span = Range("accepted", gte=ticks(rewind.to), lte=ticks(rewind.accepted_at))
        accepted = Group(should=(span, Empty("accepted")))
        sent = Group(must=(Match("server", (server,)), accepted))
        # Also memories, of other servers too, that one of this server supersedes.
        concerned = Group(should=(sent, linked_clause("servers", (server,))))
        changed: set[str] = set()
        superseded: list[str] = []
        corrected: list[str] = []

        def corrections_marked(memory: Memory) -> Memory:
            marked = memory.marked(covered)
            return marked if marked.rewound == memory.rewound else memory

        def as_found(*, hidden: bool) -> Clause:
            # Not what another worker has stored in its place meanwhile: that was accepted after the rewind.
            return Group(must=(still(tenant, rewound=not hidden), accepted))

        async with aclosing(self._scan(concerned, own)) as found:
            async for point, memory in found:
                marked = memory.marked(covered)
                if marked is memory:
                    continue
                affected.add(AgentKey(tenant, memory.agent_id))
                changed.add(memory.id)
                if memory.superseded_by:
                    superseded.append(point)
                hidden = marked.rewound
                if hidden == memory.rewound:
                    corrected.append(point)
                    continue
                changes[hidden][point] = marked
                if len(changes[hidden]) == self._traits.batch_size:
                    await self._replace_all(changes[hidden], as_found(hidden=hidden))
                    changes[hidden] = {}
        for hidden, rest in changes.items():
            await self._replace_all(rest, as_found(hidden=hidden))
        await self._corrections.rewrite(corrected, corrections_marked)
        await self._corrections.complete(changed, superseded)
        return affected

    async def _replace_all(self, memories: Mapping[str, Memory], which: Clause) -> None:
        """Write memories that exist again, with their vectors, by point id; only those that meet the clause by then."""
        vectors = await self._engine.vectors(list(memories))
        points: list[P] = []
        turns = Turns()
        for point, memory in memories.items():
            if point in vectors or not memory.recall:
                vector = np.asarray(vectors[point][1] if point in vectors else (), np.float32)
                points.append(self._build_point(point, memory, vector))
            await turns.next()
        await self._engine.upsert(points, update_only=True, replace=which)

    async def reusable_vectors(
        self, memories: Sequence[Memory]
    ) -> Sequence[tuple[NDArray[np.float32], bool] | None]:
        """(vector, truncated) of each memory that is stored with the same text; None for the others."""
        points = [point_of(one) for one in memories]
        stored = await self._engine.vectors(points)
        return [
            _reusable_vector(one, *stored[point]) if point in stored else None
            for point, one in zip(points, memories, strict=True)
        ]

    async def text_vectors(self, texts: Sequence[str]) -> Sequence[tuple[NDArray[np.float32], bool] | None]:
        """(vector, truncated) of the oldest memory with each text; None for texts that no memory has."""
        pages = await self._engine.pages_by_time(
            [
                TimePage((Match("facts", (text_hash(text),)),), -MAX_TICKS, 1, oldest_first=True)
                for text in texts
            ]
        )
        found = [decode_memory(page[0]) for page in pages if page and "body" in page[0]]
        by_text = {one.text: one for one in found}
        vectors = dict(zip(by_text, await self.reusable_vectors(list(by_text.values())), strict=True))
        return [vectors.get(text) for text in texts]

    async def lookup(self, memories: Sequence[Memory]) -> Sequence[Memory | Tombstone | None]:
        """What is stored under the id of each memory."""
        points = [point_of(one) for one in memories]
        stored = await self._engine.retrieve(points)
        return [decode_point(stored[point]) if point in stored else None for point in points]

    async def flush(self) -> None:
        """Make all writes so far survive a power cut."""
        await self._engine.flush()

    @property
    def paused(self) -> bool:
        """Always false: a server takes its snapshots by itself."""
        return False

    # --- StoreMaintenance ----------------------------------------------------------------------------------

    async def sweep(self, *, expired_before: float, tombstones_before: float, limit: int) -> int:
        """Remove expired memories first, then rows, then tombstones older than the given time; return how many."""
        removed = 0
        for clause in (
            expired_clause(expired_before),
            Range(EXPIRES, lte=ticks(expired_before)),
            Range("deleted", lt=ticks(tombstones_before)),
        ):
            while removed < limit:
                batch_size = min(self._traits.batch_size, limit - removed)
                records, _ = await self._engine.scroll(
                    [clause], limit=batch_size, after=None, with_payload=False
                )
                # What was changed since it was read stays.
                await self._delete([point for point, _ in records], unless=Group(must_not=(clause,)))
                removed += len(records)
                if len(records) < batch_size:
                    break
                await asyncio.sleep(0)
        return removed

    async def agents_above(self, *, keep: int) -> Sequence[AgentKey]:
        """The agents of all tenants with more than `keep` points, the largest first.

        Expired memories that are not swept yet count too: without a condition the facet reads only the index.
        """
        counts = await self._engine.value_counts("agent", ())
        above = sorted((-count, agent) for agent, count in counts if count > keep)
        return [AgentKey(*parse_agent_keyword(agent)) for _, agent in above]

    async def trim(self, agent: AgentKey, *, keep: int, limit: int, now: float) -> int:
        """Remove at most `limit` of the agent's oldest memories, none of its newest `keep`; return how many."""
        scope = Scope(agent.tenant, (agent.agent_id,), superseded=True)
        unexpired: tuple[Clause, ...] = (scope_clause(scope), Group(must_not=(expired_clause(now),)))
        excess = min(limit, await self._engine.count(unexpired) - keep)
        if excess <= 0:
            return 0
        oldest = await self.page(PageQuery(scope, excess, now, oldest_first=True))
        if not oldest:
            return 0
        last = oldest[-1]
        old = (*unexpired, Range("t", lte=ticks(last.timestamp)))
        points = [point async for point, memory in self._scan(*old) if memory.position <= last.position]
        changed = Group(must_not=(Group(must=old),))
        for start in range(0, len(points), self._traits.batch_size):
            await self._delete(points[start : start + self._traits.batch_size], unless=changed)
            await asyncio.sleep(0)
        return len(points)

    async def scan(
        self, after: str | None, limit: int
    ) -> tuple[Sequence[Memory | Tombstone | Row], str | None]:
        """A page of everything that is stored, by point id; the cursor is the point id of the next page."""
        records, following = await self._engine.scroll((), limit=min(limit, _SCAN_PAGE), after=after)
        rows = await self._rows_by_id([point for point, payload in records if "row" in payload])
        # A row that was removed since the page was read is left out.
        return [
            rows[point] if "row" in payload else decode_point(payload)
            for point, payload in records
            if "row" not in payload or point in rows
        ], following

    async def reclaimable(self) -> Reclaimable:
        """Always zero: a server gives the space of removed points back by itself."""
        return Reclaimable()

    async def disk_bytes(self) -> int | None:
        """None: a server has its own metrics."""
        return None

    async def row_space(self, enough: int) -> int:
        """About how many memories take as much space as all rows; the rows are only weighed if their number is small."""
        rows = (Empty("t"), Group(must_not=(Empty("owner"),)))
        space = await self._engine.count(rows)
        if space >= enough:
            return space
        space = 0
        turns = Turns()
        async with aclosing(self._engine.scan(rows)) as records:
            async for _, payload in records:
                space += points_of_space(payload)
                if space >= enough:
                    break
                await turns.next()
        return space

    async def size(self, *, now: float) -> int:
        """How many memories of all tenants there are that have not expired, records included."""
        if not self._traits.in_process:
            return await self._engine.count([Group(must_not=(expired_clause(now), Empty("t")))])
        # Counting the values of indexes takes milliseconds, among a million memories too; looking at each memory 0.4 s.
        tenants = await self._engine.value_counts("tenant", ())
        groups = await self._engine.value_counts("group", ())
        others = sum(count for group, count in groups if is_group_of_memories(group))
        return sum(count for _, count in tenants) + others - await self._engine.count([expired_clause(now)])

    # --- points --------------------------------------------------------------------------------------------

    def _build_point(self, point: str, memory: Memory, vector: NDArray[np.float32]) -> P:
        try:
            payload = encode_memory(memory)
            if not memory.recall:
                return self._engine.point(point, payload, None, None)
            return self._engine.point(point, payload, vector, self.words.document(memory.text))
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:_MAX_REASON_CHARS]
            raise InvalidEvent(f"memory {memory.id} cannot be stored: {reason}") from error

    async def _delete_erased(self, points: Sequence[str]) -> None:
        """Remove points that an erasure covers."""
        if points:
            await self._before_erasing()
            await self._delete(points)

    async def _before_erasing(self) -> None:
        """Called before what an erasure covers is removed."""

    async def _delete(self, points: Sequence[str], *, unless: Clause | None = None) -> None:
        if points:
            await self._engine.delete(points, unless=unless)

    def _check_vectors(self, memories: Sequence[Memory], vectors: NDArray[np.float32]) -> None:
        expected = (len(memories), self._dim)
        if vectors.shape != expected:
            raise ModelMismatch(f"the vectors have the shape {vectors.shape}, expected is {expected}")
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if broken.size:
            memory = memories[int(broken[0])]
            raise InvalidEvent(f"memory {memory.id}: its vector has components that are not finite")


def _reusable_vector(
    wanted: Memory, payload: Payload, vector: Sequence[float]
) -> tuple[NDArray[np.float32], bool] | None:
    stored = decode_memory(payload) if "body" in payload else None
    if stored is None or stored.text != wanted.text:
        return None
    return np.asarray(vector, np.float32), stored.truncated


def _after(erasure: Erasure, payload: Payload) -> AgentKey | Memory | None:
    """Whose memory or row the erasure covers, or what stays of a memory. None: it changes nothing."""
    if "row" in payload:
        row = decode_row(payload, body="")
        return row.key.agent if row.is_covered_by(erasure) else None
    memory = decode_memory(payload)
    if erasure.covers(memory):
        return AgentKey(memory.tenant, memory.agent_id)
    stripped = erasure.strip(memory)
    return None if stripped is memory else stripped


def _erasure_clauses(erasure: Erasure) -> tuple[Clause, ...]:
    """Conditions for a superset of what the erasure covers: tenant and time of acceptance are checked on each point."""
    if not erasure.subjects:
        return (NEVER,)
    if erasure.kind is SubjectKind.AGENT:
        agents = tuple(agent_keyword(erasure.tenant, agent) for agent in erasure.subjects)
        return (Group(should=(Match("agent", agents), Match("owner", agents))),)
    return (
        Group(
            should=(
                Match("player", erasure.subjects),
                Match("agent_player", erasure.subjects),
                linked_clause("players", erasure.subjects),
            )
        ),
    )
