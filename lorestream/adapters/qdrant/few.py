"""All memories of agents and conversations that have only a few, read at once and kept until the next write.

A search, its neighbours and a context read the same memories of an agent one after the other. In process, reading and
decoding a payload takes as long as comparing a hundred vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorestream.adapters.qdrant.payload import decode_memory
from lorestream.turns import Turns

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.conditions import Clause
    from lorestream.adapters.qdrant.engine import Engine
    from lorestream.memories import Memory, Position

FEW = 64
_KEPT = 128


@dataclass(frozen=True, slots=True)
class Few:
    """Memories, the oldest first, with the position of each; and the same by point id."""

    memories: Sequence[Memory]
    positions: Sequence[Position]
    by_point: Mapping[str, Memory]


class FewMemories:
    """Reads all memories that meet some clauses, where they are few."""

    def __init__(self, engine: Engine[Any]) -> None:
        self._engine = engine
        self._kept: dict[tuple[Clause, ...], Few | None] = {}
        self._writes = engine.writes

    async def of(self, must: Sequence[Clause]) -> Few | None:
        """The memories that meet the clauses; None if they are or may be more than FEW, and for a server."""
        engine, asked = self._engine, tuple(must)
        if not engine.traits.in_process:
            return None
        if self._writes != engine.writes or len(self._kept) > _KEPT:
            self._kept, self._writes = {}, engine.writes
        kept = self._kept
        if asked not in kept:
            found = await self._read(asked)
            kept[asked] = found  # nobody looks into this dictionary any more if a write came in between
            return found
        return kept[asked]

    async def _read(self, must: Sequence[Clause]) -> Few | None:
        engine = self._engine
        if await engine.most_points(must) > FEW:
            return None
        points, following = await engine.scroll(must, limit=FEW, after=None)
        if following is not None:
            return None
        turns = Turns()
        by_point: dict[str, Memory] = {}
        for point, payload in points:
            by_point[point] = decode_memory(payload)
            await turns.next()
        memories = sorted(by_point.values(), key=lambda one: one.position)
        return Few(memories, [one.position for one in memories], by_point)
