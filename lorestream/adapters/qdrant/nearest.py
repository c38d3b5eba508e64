"""Exact searches: which memories a query selects, and the k most relevant of them by one similarity."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lorestream.adapters.qdrant.agents import agents_of
from lorestream.adapters.qdrant.exact_filter import matches
from lorestream.adapters.qdrant.ordering import OrderedSource, read_in_order
from lorestream.adapters.qdrant.payload import decode_memory
from lorestream.memories import EVERYTHING, Hit
from lorestream.turns import Turns

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.conditions import Clause
    from lorestream.adapters.qdrant.engine import Engine, Payload
    from lorestream.adapters.qdrant.scoring import Similarity
    from lorestream.memories import Filter, Memory

_NO_LIMIT = sys.maxsize
_LIMIT_GROWTH = 4
_MANY = 500
"""In process, of so many memories the ids are read first. Reading one more id takes as long as comparing 12 vectors, so with
one for each _COMPARED memories a search takes a quarter longer, and most often all that are equally relevant are among them."""
_COMPARED = 50
_MOST_IDS = 512
_DECODED_AT_ONCE = 16
"""Memories decoded before the time is looked at, which takes as long as decoding a short one: most often 0.05 ms."""
_COUNTED = (512, 8192)
"""Memories with the same relevance are counted by a search up to these numbers: most often there are fewer."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which memories a query selects: conditions for the engine, and a filter to be checked on what it returns.

    `unchecked` is EVERYTHING where the conditions are exact.
    """

    clauses: tuple[Clause, ...]
    unchecked: Filter = EVERYTHING

    def matches(self, memory: Memory) -> bool:
        """Check a memory that the engine returned."""
        return self.unchecked is EVERYTHING or matches(self.unchecked, memory)


async def decode_all(payloads: Sequence[Payload]) -> list[Memory]:
    """The memories in these payloads, decoded with turns for other tasks."""
    memories: list[Memory] = []
    turns = Turns()
    for start in range(0, len(payloads), _DECODED_AT_ONCE):
        memories += map(decode_memory, payloads[start : start + _DECODED_AT_ONCE])
        await turns.next()
    return memories


async def read_memories(
    engine: Engine[Any], keys: Sequence[str], must: Sequence[Clause]
) -> dict[str, Memory]:
    """The memories of these points that exist, by point id. `must`: clauses that all of them meet."""
    payloads = await engine.retrieve(keys, agents=agents_of(must))
    stored = {key: payload for key, payload in payloads.items() if "body" in payload}
    return dict(zip(stored, await decode_all(list(stored.values())), strict=True))


async def most_similar(engine: Engine[Any], must: Sequence[Clause], similarity: Similarity) -> int:
    """How many points meet the clauses and are relevant enough; above 8,192, at most so many."""
    for limit in _COUNTED:
        found = await engine.ranked_ids(must, similarity.nearest(limit))
        if len(found) < limit:
            return len(found)
    return await engine.count(must)


@dataclass(frozen=True, slots=True)
class NearestSearch:
    """The search for the memories of a selection that are most similar to a query."""

    engine: Engine[Any]
    selection: Selection
    similarity: Similarity

    async def first(self, k: int) -> Sequence[Hit]:
        """The k most relevant, the most relevant first; among equal ones the newer come first."""
        hits, complete = await self._nearest(k)
        if complete or hits[-1].relevance < hits[k - 1].relevance:
            return hits[:k]
        # More memories than were read have the relevance of the k-th: find the newest of them.
        relevance = hits[k - 1].relevance
        above = [hit for hit in hits if hit.relevance > relevance]
        tied = await self._newest_tied(relevance, k - len(above), above)
        if (
            len(above) + len(tied) < k
        ):  # a write has changed the scores since they were read: each changes BM25
            return hits[:k]
        return [*above, *(Hit(memory, relevance) for memory in tied)]

    async def _nearest(self, k: int) -> tuple[list[Hit], bool]:
        """(hits, complete): more than k hits, sorted; `complete` if the engine has no more hits."""
        if self.engine.traits.in_process and self.selection.unchecked is EVERYTHING:
            points = await self.engine.most_points(self.selection.clauses)
            if points >= _MANY:
                first = await self._nearest_of_many(k, min(points // _COMPARED, _MOST_IDS))
                if first is not None:
                    return first, True
        limit = k + self.engine.traits.tie_margin
        turns = Turns()
        while True:
            points = await self.engine.nearest(self.selection.clauses, self.similarity.nearest(limit))
            scored = [(payload, self.similarity.relevance(score)) for payload, score in points]
            if self.selection.unchecked is EVERYTHING and len(scored) > k:
                # Hits behind the first that is less relevant than the k-th cannot be returned: do not decode them.
                least = scored[k - 1][1]
                end = next((n for n, (_, relevance) in enumerate(scored) if relevance < least), len(scored))
                del scored[end + 1 :]
            hits: list[Hit] = []
            for payload, relevance in scored:
                if relevance >= self.similarity.min_relevance:
                    memory = decode_memory(payload)
                    if self.selection.matches(memory):
                        hits.append(Hit(memory, relevance))
                    await turns.next()
            complete = len(points) < limit
            if complete or len(hits) > k:
                hits.sort(key=lambda hit: (hit.relevance, hit.memory.position), reverse=True)
                return hits, complete
            limit *= _LIMIT_GROWTH

    async def _nearest_of_many(self, k: int, more: int) -> list[Hit] | None:
        """The first k hits and those as relevant as the last of them, sorted; None if k + `more` ids do not show all."""
        limit = k + more
        ranked = await self.engine.ranked_ids(self.selection.clauses, self.similarity.nearest(limit))
        scored = [(key, self.similarity.relevance(score)) for key, score in ranked]
        kept = [one for one in scored if one[1] >= self.similarity.min_relevance]
        complete = len(scored) < limit or len(kept) < len(scored)
        if len(kept) > k:
            end = next((n for n in range(k, len(kept)) if kept[n][1] < kept[k - 1][1]), None)
            if end is None and not complete:
                return None
            kept = kept[:end]
        found = await read_memories(self.engine, [key for key, _ in kept], self.selection.clauses)
        hits = [Hit(found[key], relevance) for key, relevance in kept if key in found]
        if len(hits) < len(kept):  # one was deleted meanwhile
            return None
        hits.sort(key=lambda hit: (hit.relevance, hit.memory.position), reverse=True)
        return hits

    async def _newest_tied(self, relevance: float, limit: int, above: Collection[Hit]) -> Sequence[Memory]:
        """The newest `limit` memories with exactly this relevance; `above` are all more relevant hits."""
        excluded = {(hit.memory.agent_id, hit.memory.id) for hit in above}

        async def read_by_tick(wanted: int, *clauses: Clause) -> Sequence[Memory]:
            must = (*self.selection.clauses, *clauses)
            similarity = replace(self.similarity, min_relevance=relevance)
            candidates = await most_similar(self.engine, must, similarity)
            if not candidates:
                return []
            near = similarity.nearest(candidates)
            limit = min(wanted, candidates)
            found = await self.engine.ordered_by_time(must, limit=limit, oldest_first=False, near=near)
            return await decode_all(found)

        async def read_all(clause: Clause) -> AsyncIterator[Memory]:
            for memory in await read_by_tick(_NO_LIMIT, clause):
                yield memory

        source = OrderedSource(read_by_tick, read_all, self.selection.matches, self.engine.traits.batch_size)
        newest = await read_in_order(source, limit + len(above), None, oldest_first=False)
        return [one for one in newest if (one.agent_id, one.id) not in excluded][:limit]
