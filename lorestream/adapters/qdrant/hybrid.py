"""The candidates of a hybrid search: the first of two lists, by cosine and by BM25, with both scores of each.

Ids and scores are read first, and payloads only of the memories that are returned: reading and decoding a payload
takes as long as comparing 40 vectors.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lorestream import supervision
from lorestream.adapters.qdrant.agents import agents_of
from lorestream.adapters.qdrant.conditions import Ids
from lorestream.adapters.qdrant.nearest import (
    NearestSearch,
    Selection,
    decode_all,
    most_similar,
    read_memories,
)
from lorestream.adapters.qdrant.ordering import OrderedSource, read_in_order
from lorestream.adapters.qdrant.payload import agent_keyword, point_of
from lorestream.fusion import Fused, best_words, fuse
from lorestream.memories import EVERYTHING, Hit
from lorestream.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lorestream.adapters.qdrant.conditions import Clause
    from lorestream.adapters.qdrant.engine import Engine
    from lorestream.adapters.qdrant.few import FewMemories
    from lorestream.adapters.qdrant.scoring import Similarity
    from lorestream.memories import Memory

_LIST_DEPTH = 200
"""Candidates of each list. It does not depend on k, so that a short answer is the beginning of a longer one."""
_LEAST_DEPTH = 100
"""A list may end earlier, but not before this many, where equally relevant memories do not all fit: the largest k."""
_SHORT_DEPTH = 50
"""Candidates of each list that are read first. They decide most answers, in half of the time."""
_SHORT_K = 20
"""Longer answers are read from the long lists at once: the short ones rarely decide them."""
_SHORT_POINTS = 10_000
"""In process, the long lists of more memories are read at once: comparing these takes longer than the long lists do, and
where the short ones do not decide they are compared twice."""
_ALL = 4
"""Of so many candidates for each place of the answer all memories are read, if they are few: what follows needs them, too."""
_ROUNDING = 1e-6
"""A fused score that is higher by less may be equal: cosines have 32 bits, BM25 scores five digits."""


@dataclass(frozen=True, slots=True)
class HybridSearch:
    """One hybrid search over an engine. `words`: None if the query has no words."""

    engine: Engine[Any]
    few: FewMemories
    selection: Selection
    dense: Similarity
    words: Similarity | None

    async def first(self, k: int) -> list[Hit]:
        """The first k by fused score; among equal ones the newer come first."""
        fused, best = await self.fused(k)
        return await self._read(fused, best, k)

    async def of(self, memories: Sequence[Memory], best: float | None) -> list[Hit]:
        """These memories with their fused scores. `best`: the BM25 score that counts as 1.

        Those that were deleted meanwhile are missing, unless their scores were read before, for the same request.
        """
        keyed = {point_of(memory): memory for memory in memories}
        agents = frozenset(agent_keyword(memory.tenant, memory.agent_id) for memory in memories)
        dense, words = await self._scores(keyed, () if self.words is None else keyed, agents)
        found = fuse(dense, None if self.words is None else words, best)
        return [_hit(keyed[one.key], one, best) for one in found]

    async def fused(self, k: int) -> tuple[list[Fused], float | None]:
        """All candidates by falling score, at least k if as many memories are selected. Their keys are point ids.

        Also the BM25 score that counts as 1, None for a query without words.
        """
        if k <= _SHORT_K and self.selection.unchecked is EVERYTHING and not await self._are_many():
            settled = await self._settled(k)
            if settled is not None:
                return settled
        agents = agents_of(self.selection.clauses)
        if self.words is None:
            dense, tied = await self._list(self.dense, k)
            return fuse(dense | (await self._scores(tied, (), agents))[0], None), None
        (dense, tied), (keyword, other) = await supervision.run_all(
            self._list(self.dense, k), self._list(self.words, k)
        )
        every = {*dense, *tied, *keyword, *other}
        # The look-up is by id alone: a memory that was deleted in between has no cosine, or no payload, and is left out.
        rest, shared = await self._scores(every - dense.keys(), every - keyword.keys(), agents)
        dense, keyword = dense | rest, keyword | shared
        best = best_words(dense, keyword)
        return fuse(dense, keyword, best), best

    async def _are_many(self) -> bool:
        engine = self.engine
        return engine.traits.in_process and await engine.most_points(self.selection.clauses) > _SHORT_POINTS

    async def _settled(self, k: int) -> tuple[list[Fused], float | None] | None:
        """What `fused` returns, from short lists; None if a memory that is in neither of them could be among the first k.

        Such a memory has at most the last cosine of one list and the last BM25 score of the other, 0 if that list has
        all memories with a word of the query. So the first k are the same as with longer lists.
        """
        if self.words is None:
            near = await self._ranked(self.dense, _SHORT_DEPTH)
            fused, best, least = fuse(dict(near), None), None, None
        else:
            both = [(self.dense, _SHORT_DEPTH), (self.words, _SHORT_DEPTH)]
            near, worded = await self._ranked_by([(self.selection.clauses, *one) for one in both])
            dense, keyword = dict(near), dict(worded)
            # A list that ends early has every memory that has a score.
            unread = keyword.keys() - dense.keys() if len(near) == _SHORT_DEPTH else ()
            wordless = dense.keys() - keyword.keys() if len(worded) == _SHORT_DEPTH else ()
            agents = agents_of(self.selection.clauses)
            rest, shared = await self._scores(unread, wordless, agents)
            dense, keyword = dense | rest, keyword | shared
            best = best_words(dense, keyword)
            fused = fuse(dense, keyword, best)
            least = worded[-1][1] if len(worded) == _SHORT_DEPTH else 0.0
        if len(near) < _SHORT_DEPTH:
            return fused, best  # these are all memories that are selected
        most = fuse({"": near[-1][1]}, None if least is None else {"": least}, best)[0].score
        return (fused, best) if len(fused) >= k and fused[k - 1].score > most + _ROUNDING else None

    async def _list(self, similarity: Similarity, k: int) -> tuple[dict[str, float], Sequence[str]]:
        """The most relevant memories by point id: scores, and further ids whose score is that of the last place."""
        depth, least = max(k, _LIST_DEPTH), max(k, _LEAST_DEPTH)
        if self.selection.unchecked is not EVERYTHING:  # each memory has to be read to be checked
            hits = await NearestSearch(self.engine, self.selection, similarity).first(depth)
            return {point_of(hit.memory): hit.relevance for hit in hits}, ()
        found = await self._ranked(similarity, depth + 1)
        if len(found) <= depth:
            return dict(found), ()
        border = found[depth - 1][1]
        above = [one for one in found if one[1] > border]
        if found[depth][1] < border:
            return dict(found[:depth]), ()
        # More memories than fit have the same score at the end of the list.
        if len(above) >= least:
            return dict(above), ()
        wanted = depth - len(above)
        tied = await self._first_tied(similarity, border, {key for key, _ in above}, wanted)
        if len(tied) < wanted:  # a write has changed the scores since they were read
            return dict(found[:depth]), ()
        return dict(above), tied

    async def _ranked(self, similarity: Similarity, limit: int) -> list[tuple[str, float]]:
        [found] = await self._ranked_by([(self.selection.clauses, similarity, limit)])
        return found

    async def _ranked_by(
        self, searches: Sequence[tuple[Sequence[Clause], Similarity, int]]
    ) -> list[list[tuple[str, float]]]:
        """(point id, score) by falling score: the first of each search (clauses, similarity, limit)."""
        if not searches:
            return []
        found = await self.engine.ranked_ids_of(
            [(must, similarity.nearest(limit)) for must, similarity, limit in searches]
        )
        return [
            [(key, similarity.relevance(score)) for key, score in some]
            for some, (_, similarity, _) in zip(found, searches, strict=True)
        ]

    async def _scores(
        self, near: Collection[str], worded: Collection[str], agents: frozenset[str] | None
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The cosines of the points `near`, and the BM25 scores of those of `worded` that share a word with the query.

        `agents`: as in `Ids`, of all these points.
        """
        asked = ((near, self.dense), (worded, self.words))
        searches = [
            ((Ids(frozenset(keys), agents),), similarity, len(keys)) if keys and similarity else None
            for keys, similarity in asked
        ]
        found = iter(await self._ranked_by([one for one in searches if one is not None]))
        dense, words = [{} if one is None else dict(next(found)) for one in searches]
        return dense, words

    async def _first_tied(
        self, similarity: Similarity, border: float, above: Collection[str], limit: int
    ) -> Sequence[str]:
        """The first `limit` of the memories with the score `border`: by cosine, then the newest.

        `above`: the memories with a higher score. Fewer if they have other scores by now: each write changes BM25.
        """
        least = replace(similarity, min_relevance=border)
        total = await most_similar(self.engine, self.selection.clauses, least)
        if not total:
            return ()
        tied = least.nearest(total)
        if similarity is self.dense:
            group = await self.engine.ranked_ids(self.selection.clauses, tied)
            return await self._newest({key for key, _ in group if key not in above}, limit)
        wanted = len(above) + limit
        found = await self.engine.ranked_ids(
            self.selection.clauses, self.dense.nearest(wanted + 1), among=tied
        )
        chosen = [(key, score) for key, score in found if key not in above]
        if len(chosen) <= limit or chosen[limit][1] < chosen[limit - 1][1]:
            return [key for key, _ in chosen[:limit]]
        cosine = chosen[limit - 1][1]
        nearer = [key for key, score in chosen if score > cosine]
        same = replace(self.dense, min_relevance=self.dense.relevance(cosine)).nearest(total)
        group = await self.engine.ranked_ids(self.selection.clauses, same, among=tied)
        rest = {key for key, _ in group}.difference(above, nearer)
        return [*nearer, *await self._newest(rest, limit - len(nearer))]

    async def _newest(self, keys: Collection[str], limit: int) -> Sequence[str]:
        """The newest `limit` of these points."""
        if not keys:
            return []
        within = Ids(frozenset(keys), agents_of(self.selection.clauses))

        async def read_by_tick(wanted: int, *clauses: Clause) -> Sequence[Memory]:
            limit = min(wanted, len(keys))
            return await decode_all(
                await self.engine.ordered_by_time((within, *clauses), limit=limit, oldest_first=False)
            )

        async def read_all(clause: Clause) -> AsyncIterator[Memory]:
            for memory in await read_by_tick(len(keys), clause):
                yield memory

        source = OrderedSource(read_by_tick, read_all, self.selection.matches, self.engine.traits.batch_size)
        newest = await read_in_order(source, limit, None, oldest_first=False)
        return [point_of(memory) for memory in newest]

    async def _read(self, fused: Sequence[Fused], best: float | None, k: int) -> list[Hit]:
        """The first k of these candidates that still exist."""
        hits: list[Hit] = []
        turns = Turns()
        start = 0
        few = await self.few.of(self.selection.clauses) if len(fused) <= _ALL * k else None
        while start < len(fused) and len(hits) < k:
            end = min(start + k - len(hits), len(fused))
            while end < len(fused) and fused[end].score == fused[end - 1].score:
                end += 1  # of equal ones the newest are returned
            some = fused[start:end]
            start = end
            if few is None:
                found = await read_memories(self.engine, [one.key for one in some], self.selection.clauses)
            else:
                found = few.by_point
            for one in some:
                if one.key in found:
                    hits.append(_hit(found[one.key], one, best))
                await turns.next()
        hits.sort(key=lambda hit: (hit.relevance, hit.memory.position), reverse=True)
        return hits[:k]


def _hit(memory: Memory, fused: Fused, best: float | None) -> Hit:
    return Hit(memory, fused.score, {"dense": fused.dense, "keyword": fused.keyword}, best)
