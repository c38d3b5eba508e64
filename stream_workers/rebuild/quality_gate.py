"""Checks whether a rebuilt collection is good enough to replace the active one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorestream import supervision
from lorestream.memories import KeywordQuery, Memory, Scope, VectorQuery
from lorestream.ports import Priority, Role
from lorestream.wiring import OpenCollection, WorkerParts

SAMPLE_SIZE = 50
"""Memories whose own texts are used as queries."""
TOP_K = 10
CATCH_UP_TIMEOUT_S = 30.0
COUNT_ATTEMPTS = 10
COUNT_PAUSE_S = 0.5
MIN_RECALL = 0.98
"""Least recall of a collection with the same model. Not 1: vectors computed at another time differ in the last bits."""
MIN_SELF_FOUND = 0.9
"""Least share of memories found by their own text, with another model: its nearest memories are different ones.

Also by their own words, of those that the active collection finds so: the words may be stored in another way.
"""
MAX_QUERY_CHARS = 500
"""How much of a text is searched for by its words: the time of such a search grows with their number."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """The measurements, and the reasons why the new collection must not replace the active one."""

    behind: int
    """Records of the log that the new collection does not have yet."""
    memories: int
    """Number of memories in the new collection."""
    active_memories: int
    """Number of memories in the active collection, counted at the same time."""
    recall: float
    """The mean share of the active collection's `TOP_K` nearest that are among those of the new one."""
    found_itself: float
    """The share of sampled texts whose search finds the memory itself, or another one with the same text."""
    found_by_words: float
    """The same for searches by words, of the sampled texts that are found so in the active collection."""
    reasons: tuple[str, ...]
    """One sentence each; empty when the collection is good enough."""

    @property
    def passed(self) -> bool:
        """Whether the new collection may replace the active one."""
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        """The fields of the replay's outcome."""
        return {
            "gate": "passed" if self.passed else "failed",
            "reasons": list(self.reasons),
            "behind": self.behind,
            "memories": {"new": self.memories, "searched": self.active_memories},
            "recall_at_10": round(self.recall, 4),
            "found_itself": round(self.found_itself, 4),
            "found_by_words": round(self.found_by_words, 4),
        }


async def records_behind(parts: WorkerParts, collection: OpenCollection, timeout_s: float) -> int:
    """How many of the records now in the log are missing in the collection after `timeout_s`; 0 as soon as none is.

    Raises Unavailable.
    """
    end = await parts.log.end()
    first = {number: offset for number, (offset, _) in (await parts.log.offsets_for_time(0)).items()}
    last = {number: offset - 1 for number, offset in end.items() if number in first}
    if await collection.watermarks.reached(last, timeout_s):
        return 0
    committed = await parts.log.committed(collection.group)
    missing = sum(end[number] - max(committed.get(number, 0), first[number]) for number in last)
    return max(1, missing)


async def evaluate(parts: WorkerParts, target: OpenCollection, *, complete: bool) -> GateResult:
    """Compare the target with the active collection. Raises Unavailable.

    `complete`: the target should hold all memories of the active one. If not, only the lag can fail the gate, and that
    it has none.
    """
    reasons: list[str] = []
    missing = await records_behind(parts, target, CATCH_UP_TIMEOUT_S)
    if missing:
        reasons.append(f"it is {missing:,} records behind the log")
    memories, active_memories = await _count(parts, target)
    if complete and memories < active_memories:
        reasons.append(f"it has {memories:,} memories, the searched one {active_memories:,}")
    elif active_memories and not memories:
        reasons.append(f"it has no memories, the searched one {active_memories:,}")
    sample = await _sample(parts)
    recall, found_itself = await _compare(parts, target, sample)
    found_by_words = await _compare_words(parts, target, sample)
    same_model = target.embedder.model_id == parts.collections.current.embedder.model_id
    if complete and same_model and recall < MIN_RECALL:
        reasons.append(
            f"only {recall:.3f} of the nearest memories are the same, at least {MIN_RECALL} is needed"
        )
    if complete and not same_model and found_itself < MIN_SELF_FOUND:
        reasons.append(
            f"only {found_itself:.2f} of the sampled memories are found by their own text, at least {MIN_SELF_FOUND} is"
            " needed"
        )
    if complete and found_by_words < MIN_SELF_FOUND:
        reasons.append(
            f"only {found_by_words:.2f} of the sampled memories are found by their own words, at least {MIN_SELF_FOUND}"
            " is needed"
        )
    return GateResult(
        missing, memories, active_memories, recall, found_itself, found_by_words, tuple(reasons)
    )


async def _count(parts: WorkerParts, target: OpenCollection) -> tuple[int, int]:
    """(memories of the target, of the active collection). Counted again while new events make the target lag."""
    memories = active_memories = 0
    for _ in range(COUNT_ATTEMPTS):
        active_memories = await parts.collections.current.store.size(now=parts.clock.now())
        await records_behind(parts, target, CATCH_UP_TIMEOUT_S)
        memories = await target.store.size(now=parts.clock.now())
        if memories >= active_memories:
            break
        await asyncio.sleep(COUNT_PAUSE_S)
    return memories, active_memories


async def _compare(
    parts: WorkerParts, target: OpenCollection, sample: Sequence[Memory]
) -> tuple[float, float]:
    """(recall, found_itself) as in GateResult; 1.0 for both when there are no memories."""
    if not sample:
        return 1.0, 1.0
    texts = [memory.text for memory in sample]
    expected, found = await supervision.run_all(
        _nearest(parts, parts.collections.current, sample, texts), _nearest(parts, target, sample, texts)
    )
    shares = [len(a.keys() & b.keys()) / len(a) for a, b in zip(expected, found, strict=True) if a]
    # By text, not by id: games repeat themselves, and which of many equal memories is found does not matter.
    itself = [text in hits.values() for text, hits in zip(texts, found, strict=True)]
    return sum(shares) / max(1, len(shares)), sum(itself) / len(itself)


async def _compare_words(parts: WorkerParts, target: OpenCollection, sample: Sequence[Memory]) -> float:
    """`found_by_words` as in GateResult; 1.0 when the active collection finds nothing by its words."""
    found = lost = 0
    for memory in sample:
        if await _is_found_by_words(parts, parts.collections.current, memory):
            found += 1
            lost += not await _is_found_by_words(parts, target, memory)
    return 1 - lost / max(1, found)


async def _is_found_by_words(parts: WorkerParts, collection: OpenCollection, memory: Memory) -> bool:
    scope = Scope(memory.tenant, (memory.agent_id,))
    query = KeywordQuery(scope, memory.text[:MAX_QUERY_CHARS], TOP_K, parts.clock.now())
    hits = await collection.store.search(query)
    # A search of the embedded store blocks the event loop: let other tasks run in between.
    await asyncio.sleep(0)
    return any(hit.memory.text == memory.text for hit in hits)


async def _sample(parts: WorkerParts) -> list[Memory]:
    """Up to `SAMPLE_SIZE` memories, in the order of the store: it is by hash, so that they are of many agents."""
    now, ledger = parts.clock.now(), parts.ledger
    sample: list[Memory] = []
    after: str | None = None
    while len(sample) < SAMPLE_SIZE:
        page, after = await parts.collections.current.store.scan(after, 4 * SAMPLE_SIZE)
        sample += [
            one
            for one in page
            if isinstance(one, Memory)
            and one.recall
            and not one.rewound
            and one.superseded_at is None
            and (one.expires_at is None or one.expires_at > now)
            and not ledger.covers(one)
        ]
        if after is None:
            break
    return sample[:SAMPLE_SIZE]


async def _nearest(
    parts: WorkerParts, collection: OpenCollection, sample: Sequence[Memory], texts: Sequence[str]
) -> list[dict[str, str]]:
    """For each text the `TOP_K` nearest memories of the sample memory's agent: id -> text."""
    vectors = (await collection.embedder.embed(texts, Priority.INGEST, Role.QUERY)).vectors
    nearest: list[dict[str, str]] = []
    for memory, vector in zip(sample, vectors, strict=True):
        scope = Scope(memory.tenant, (memory.agent_id,))
        query = VectorQuery(scope, vector.tolist(), TOP_K, parts.clock.now())
        hits = await collection.store.search(query)
        nearest.append({hit.memory.id: hit.memory.text for hit in hits})
        # A search of the embedded store blocks the event loop: let other tasks run in between.
        await asyncio.sleep(0)
    return nearest
