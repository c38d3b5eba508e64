"""Neighbours: the memories before and behind a relevant one lift each other's scores.

An answer often stands next to its question and shares no word with it. The first SEEDS hits of a search are looked
at with the SPAN memories before and behind each of them, of the same agent and occasion; the store says which those
are. Of every memory looked at, the best score next to it counts:

    score = own + strength * best score next to it * (1 - own)

so that a score stays in 0 to 1, a perfect one stays perfect, and a memory without neighbours keeps its own. BM25
scores are divided by that of the first hit for this, and multiplied by it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from lorestream.memories import AroundQuery, Hit, KeywordQuery
from query_service.ranking import Ranked

if TYPE_CHECKING:
    from lorestream.memories import Around, Filter, HybridQuery, Memory, VectorQuery
    from lorestream.ports import MemoryReader

SEEDS = 10
"""Hits whose neighbours are looked at. With 20 or 400 the answers of 10 memories are the same (docs/retrieval.md)."""
SPAN = 2
"""Memories on each side. The second one is as good as the first: in a dialogue it has the same speaker."""

_Key: TypeAlias = "tuple[str, str]"
Pairs: TypeAlias = "Sequence[tuple[_Key, _Key]]"
"""Memories next to each other, by agent and id."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """How neighbours are found. `gap_s`: see AroundQuery."""

    gap_s: float
    now: float
    filter: Filter
    admits: Callable[[Memory], bool]
    """False for memories that the answer may not show: they lift no others either."""
    superseded: bool = False
    """Whether superseded memories are next to others, too."""


async def with_neighbours(
    store: MemoryReader,
    query: VectorQuery | KeywordQuery | HybridQuery,
    hits: Sequence[Hit],
    neighbours: Neighbours,
) -> tuple[list[Hit], Pairs]:
    """The hits of a query, the best first, and the neighbours of the first SEEDS, and which stand next to each other.

    `hits`: at least one.
    """
    anchors = [hit.memory for hit in hits[:SEEDS]]
    around = await store.around(
        AroundQuery(anchors, SPAN, neighbours.gap_s, neighbours.now, neighbours.filter, neighbours.superseded)
    )
    known = {_key(hit.memory): hit for hit in hits[:SEEDS]}
    pairs: list[tuple[_Key, _Key]] = []
    others: dict[_Key, Memory] = {}
    for anchor, beside in zip(anchors, around, strict=True):
        for memory in (*beside.before, *beside.behind):
            key = _key(memory)
            if key not in known and not neighbours.admits(memory):
                continue
            pairs.append((_key(anchor), key))
            if key not in known:
                others[key] = memory
    # The scores of neighbours are read anew although some are hits: which ones are depends on k.
    scored = {_key(hit.memory): hit for hit in await store.relevance(query, list(others.values()), hits[0])}
    for key, memory in others.items():
        if key in scored:
            known[key] = scored[key]
        elif isinstance(query, KeywordQuery):
            known[key] = Hit(memory, 0.0)
    return [*known.values(), *(hit for hit in hits[SEEDS:] if _key(hit.memory) not in known)], pairs


def lift_neighbours(
    pool: Sequence[Ranked], pairs: Pairs, strength: float, *, best: float = 1.0
) -> list[Ranked]:
    """The pool in its order, with lifted scores. `best`: the score that counts as 1, above 0.

    Only memories that are in `pairs` lift each other, and only their scores may not be above `best`.
    """
    beside = {key for pair in pairs for key in pair}
    scores = {_key(one.memory): one.score / best for one in pool if _key(one.memory) in beside}
    lifts = lift(scores, pairs, strength)
    lifted: list[Ranked] = []
    for one in pool:
        by = best * lifts.get(_key(one.memory), 0.0)
        lifted.append(Ranked(one.memory, one.score + by, {**one.details, "neighbours": by}))
    return lifted


def lift(scores: Mapping[_Key, float], pairs: Pairs, strength: float) -> dict[_Key, float]:
    """What is added to each score, all of which are at most 1; `pairs` are next to each other.

    The sum is at most 1 too.
    """
    beside = dict.fromkeys(scores, 0.0)
    for one, other in pairs:
        if one in scores and other in scores:
            beside[one] = max(beside[one], scores[other])
            beside[other] = max(beside[other], scores[one])
    return {key: strength * beside[key] * (1 - max(0.0, own)) for key, own in scores.items()}


def nearest_first(around: Around) -> Sequence[Memory]:
    """What a context shows around a relevant memory: two behind it and one before it."""
    return (*around.behind[:1], *around.before[:1], *around.behind[1:2])


def _key(memory: Memory) -> _Key:
    return (memory.agent_id, memory.id)
