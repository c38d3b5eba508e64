"""Which memories are superseded: the store keeps it with each of them, so that reads need no second look.

`superseded_by` of a memory are all memories of its agent that name it in `supersedes` and are stored, or were until they
expired or were trimmed. A tombstone and an erasure of that one end it, and so does another content of its id that took
its place after a rewind. Which of them count is computed from the memory alone (`Memory.replaced_by`). The result does not
depend on the order in which memories, tombstones and erasures arrive: an insert looks for both sides, and whoever writes
second sees what the first has written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from lorestream.adapters.qdrant.conditions import Clause, Empty, Group, Match, linked_clause
from lorestream.adapters.qdrant.payload import decode_memory, encode_memory, point_id, point_of, rewound_group
from lorestream.turns import Turns

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.engine import Engine
    from lorestream.memories import Correction, Memory
    from lorestream.ports import Tombstone

_IDS_AT_ONCE = 256
"""Ids of one condition."""


NO_TOMBSTONE = Group(must_not=(Empty("t"),))
"""All memories: a tombstone has no time `t`."""


def still(tenant: str, *, rewound: bool) -> Clause:
    """The memories of the tenant that are rewound, or those that are not. Never a tombstone, which has no time `t`."""
    aside = Match("group", (rewound_group(tenant),))
    return Group(must=(aside,)) if rewound else Group(must_not=(aside, Empty("t")))


class Corrections:
    """Keeps `Memory.superseded_by` of the stored memories right, over an engine."""

    def __init__(self, engine: Engine[Any]) -> None:
        self._engine = engine

    async def inserted(
        self, memories: Sequence[Memory], replaces: Callable[[Memory, Memory], bool] | None = None
    ) -> None:
        """Note which of these memories, and of those that they supersede, are superseded. They are stored already.

        `replaces`: whether a memory took the place of another one of its id, as in `MemoryWriter.insert`.
        """
        wanted = {one.id for one in memories} | {one.supersedes for one in memories if one.supersedes}
        others = [point_of(one) for one in memories if one.superseded_by]
        if replaces is not None:
            # What another content of these ids superseded.
            linked = await self._linked("superseded_by", {one.id for one in memories})
            others += [point_of(one) for one in linked]
        await self.complete(wanted, others, replaces)

    async def complete(
        self,
        ids: set[str],
        points: Sequence[str],
        replaces: Callable[[Memory, Memory], bool] | None = None,
    ) -> None:
        """Note what supersedes the memories with these ids, and drop what no longer supersedes these points.

        Also to be called after points were written again as they had been read: another writer may have changed what
        supersedes them in between.
        """
        found: defaultdict[str, list[Correction]] = defaultdict(list)
        # What is stored counts: under the id of an inserted memory there may be a tombstone, or another content.
        for newer in await self._linked("supersedes", ids):
            if newer.supersedes is not None:
                agent = newer.lasting_agent or newer.agent_id
                found[point_id(newer.tenant, agent, newer.supersedes)].append(newer.correction())
        if not found and not points:
            return

        def corrected(one: Memory) -> Memory:
            return one.with_corrections([*one.superseded_by, *found[point_of(one)]])

        stored = await self._read([*found, *points])
        changed = {point: corrected(stored[point]) for point in found if point in stored}
        await self.rewrite([point for point, one in changed.items() if one is not stored[point]], corrected)
        # A memory that supersedes may have been deleted or replaced before this was written, or before it was inserted.
        await self._drop_ended(list({**stored, **changed}.values()), replaces)

    async def deleted(self, tombstones: Sequence[Tombstone]) -> None:
        """What these tombstones' memories superseded is no longer superseded by them. They are stored already."""
        deleted = {(one.tenant, one.agent_id, one.memory_id) for one in tombstones}
        superseded = await self._linked("superseded_by", {one.memory_id for one in tombstones})

        def without_deleted(one: Memory) -> Memory:
            agent = one.lasting_agent or one.agent_id
            return one.with_corrections(
                by for by in one.superseded_by if (one.tenant, agent, by.id) not in deleted
            )

        await self.rewrite(map(point_of, superseded), without_deleted)

    async def rewrite(self, points: Iterable[str], change: Callable[[Memory], Memory]) -> None:
        """Replace the payloads of these memories by what `change` makes of them; their vectors stay.

        Each is read directly before that, so that what others have changed meanwhile stays.
        """
        turns = Turns()
        for point in points:
            for one in (await self._read([point])).values():
                if (changed := change(one)) is not one:
                    # A tombstone stays one, and a memory that was rewound or came back meanwhile is left alone.
                    which = still(one.tenant, rewound=one.rewound)
                    await self._engine.overwrite(point, encode_memory(changed), which)
            await turns.next()

    async def _drop_ended(
        self, memories: Sequence[Memory], replaces: Callable[[Memory, Memory], bool] | None
    ) -> None:
        """Remove the corrections whose memory was deleted, or has given its place to another content of its id."""
        points = {
            point_id(one.tenant, one.lasting_agent or one.agent_id, by.id)
            for one in memories
            for by in one.superseded_by
        }
        payloads = await self._payloads(points)
        graves = {point for point, payload in payloads.items() if "grave" in payload}
        contents = {
            point: decode_memory(payload)
            for point, payload in payloads.items()
            if replaces is not None and "body" in payload
        }

        def has_ended(one: Memory, by: Correction) -> bool:
            point = point_id(one.tenant, one.lasting_agent or one.agent_id, by.id)
            stored = contents.get(point)
            return point in graves or (
                stored is not None and replaces is not None and replaces(one.by(by), stored)
            )

        def without_ended(one: Memory) -> Memory:
            return one.with_corrections(by for by in one.superseded_by if not has_ended(one, by))

        if graves or contents:
            ended = [point_of(one) for one in memories if without_ended(one) is not one]
            await self.rewrite(ended, without_ended)

    async def _linked(self, link: str, ids: set[str]) -> list[Memory]:
        """The stored memories with one of these ids as a `link`."""
        found: list[Memory] = []
        ordered = sorted(ids)
        for start in range(0, len(ordered), _IDS_AT_ONCE):
            clause = linked_clause(link, ordered[start : start + _IDS_AT_ONCE])
            async with aclosing(self._engine.scan((clause,))) as records:
                found += [decode_memory(payload) async for _, payload in records]
        return found

    async def _read(self, points: Iterable[str]) -> dict[str, Memory]:
        """The stored memories among these points."""
        found = await self._payloads(points)
        return {point: decode_memory(payload) for point, payload in found.items() if "body" in payload}

    async def _payloads(self, points: Iterable[str]) -> dict[str, Any]:
        distinct = list(dict.fromkeys(points))
        return {**await self._engine.retrieve(distinct)} if distinct else {}
