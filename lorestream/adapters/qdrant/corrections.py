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
        found: defaultdict[str, list[Correction]] = defaultdict(list)
        wanted = {one.id for one in memories} | {one.supersedes for one in memories if one.supersedes}
        # What is stored counts: under the id of an inserted memory there may be a tombstone, or another content.
        for newer in await self._linked("supersedes", wanted):
            if newer.supersedes is not None:
                agent = newer.lasting_agent or newer.agent_id
                found[point_id(newer.tenant, agent, newer.supersedes)].append(newer.correction())
        others = [point_of(one) for one in memories if one.superseded_by]
        if replaces is not None:
            # What another content of these ids superseded.
            linked = await self._linked("superseded_by", {one.id for one in memories})
            others += [point_of(one) for one in linked]
        if not found and not others:
            return
        stored = await self._read([*found, *others])
        changed = [
            stored[point].with_corrections([*stored[point].superseded_by, *corrections])
            for point, corrections in found.items()
            if point in stored
        ]
        await self.rewrite([one for one in changed if one is not stored[point_of(one)]])
        # A memory that supersedes may have been deleted or replaced before this was written, or before it was inserted.
        for one in changed:
            stored[point_of(one)] = one
        await self._drop_ended(list(stored.values()), replaces)

    async def deleted(self, tombstones: Sequence[Tombstone]) -> None:
        """What these tombstones' memories superseded is no longer superseded by them. They are stored already."""
        deleted = {(one.tenant, one.agent_id, one.memory_id) for one in tombstones}
        superseded = await self._linked("superseded_by", {one.memory_id for one in tombstones})
        rewritten: list[Memory] = []
        for one in superseded:
            agent = one.lasting_agent or one.agent_id
            kept = [by for by in one.superseded_by if (one.tenant, agent, by.id) not in deleted]
            if (changed := one.with_corrections(kept)) is not one:
                rewritten.append(changed)
        await self.rewrite(rewritten)

    async def rewrite(self, memories: Sequence[Memory]) -> None:
        """Replace the payloads of these memories; their vectors stay."""
        turns = Turns()
        for one in memories:
            # A tombstone stays one, and a memory that was rewound or came back meanwhile is left alone.
            await self._engine.overwrite(
                point_of(one), encode_memory(one), still(one.tenant, rewound=one.rewound)
            )
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

        rewritten: list[Memory] = []
        for one in memories if graves or contents else ():
            kept = [by for by in one.superseded_by if not has_ended(one, by)]
            if (changed := one.with_corrections(kept)) is not one:
                rewritten.append(changed)
        await self.rewrite(rewritten)

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
