"""Whether a new collection may take the place of the present one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorestream.memories import Memory, Scope, VectorQuery
from lorestream.ports import Priority
from lorestream.wiring import OpenCollection, WorkerParts

GOLDEN = 50
"""Memories whose own texts are asked as questions."""
K = 10
LEVEL_S = 30.0
COUNTS = 10
COUNT_PAUSE_S = 0.5
SAME_MODEL = 0.98
"""Of the ten nearest of each question; vectors made at another time differ in their last bits."""
OTHER_MODEL = 0.9
"""Of the questions, that find the memory they were made of."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """What was looked at, and what came of it."""

    behind: int
    """Records of the log that it does not have yet."""
    memories: int
    before: int
    """As many memories has the collection that is searched; both counted at one time."""
    recall: float
    """Of the ten nearest in the searched collection, on average, so many are among those of the new one."""
    found_itself: float
    """So many questions found the memory they were made of, or one of the same text."""
    reasons: tuple[str, ...]
    """What speaks against it."""

    @property
    def passed(self) -> bool:
        """Nothing does."""
        return not self.reasons

    def figures(self) -> dict[str, Any]:
        """For an outcome."""
        return {
            "gate": "passed" if self.passed else "failed",
            "reasons": list(self.reasons),
            "behind": self.behind,
            "memories": {"new": self.memories, "searched": self.before},
            "recall_at_10": round(self.recall, 4),
            "found_itself": round(self.found_itself, 4),
        }


async def behind(parts: WorkerParts, target: OpenCollection, timeout_s: float) -> int:
    """Records that are in the log now and not in the collection when the time is over. Raises Unavailable."""
    end = await parts.log.end()
    beginning = {number: offset for number, (offset, _) in (await parts.log.offsets_for_time(0)).items()}
    last = {number: offset - 1 for number, offset in end.items() if number in beginning}
    if await target.watermarks.reached(last, timeout_s):
        return 0
    committed = await parts.log.committed(target.group)
    missing = sum(end[number] - max(committed.get(number, 0), beginning[number]) for number in last)
    return max(1, missing)


async def evaluate(parts: WorkerParts, target: OpenCollection, *, complete: bool) -> GateResult:
    """Compare it with the collection that is searched. `complete`: it should hold all that the other one holds."""
    reasons: list[str] = []
    missing = await behind(parts, target, LEVEL_S)
    if missing:
        reasons.append(f"it is {missing:,} records behind the log")
    memories, before = await _counted(parts, target)
    if complete and memories < before:
        reasons.append(f"it has {memories:,} memories, the searched one {before:,}")
    recall, found = await _compared(parts, target)
    same = target.embedder.model_id == parts.collections.current.embedder.model_id
    if complete and same and recall < SAME_MODEL:
        reasons.append(f"only {recall:.3f} of the nearest are the same")
    if complete and not same and found < OTHER_MODEL:
        reasons.append(f"only {found:.2f} of the questions find the memory they were made of")
    return GateResult(missing, memories, before, recall, found, tuple(reasons))


async def _counted(parts: WorkerParts, target: OpenCollection) -> tuple[int, int]:
    """Both counts, where events still come in again and again until the new collection is level."""
    memories = before = 0
    for _ in range(COUNTS):
        before = await parts.collections.current.store.size(now=parts.clock.now())
        await behind(parts, target, LEVEL_S)
        memories = await target.store.size(now=parts.clock.now())
        if memories >= before:
            break
        await asyncio.sleep(COUNT_PAUSE_S)
    return memories, before


async def _compared(parts: WorkerParts, target: OpenCollection) -> tuple[float, float]:
    """(share of the nearest that are the same, share of questions that find their own memory); 1 without memories."""
    golden = await _sample(parts)
    if not golden:
        return 1.0, 1.0
    texts = [memory.text for memory in golden]
    there, here = await asyncio.gather(
        _nearest(parts, parts.collections.current, golden, texts), _nearest(parts, target, golden, texts)
    )
    shares = [len(a.keys() & b.keys()) / len(a) for a, b in zip(there, here, strict=True) if a]
    # Games tell the same thing again and again: which of the many is found says nothing.
    own = [text in found.values() for text, found in zip(texts, here, strict=True)]
    return sum(shares) / max(1, len(shares)), sum(own) / len(own)


async def _sample(parts: WorkerParts) -> list[Memory]:
    """Memories of many agents, as the order of the store has them: that is by hash."""
    now, ledger = parts.clock.now(), parts.ledger
    golden: list[Memory] = []
    after: str | None = None
    while len(golden) < GOLDEN:
        page, after = await parts.collections.current.store.scan(after, 4 * GOLDEN)
        golden += [
            one
            for one in page
            if isinstance(one, Memory)
            and (one.expires_at is None or one.expires_at > now)
            and not ledger.covers(one)
        ]
        if after is None:
            break
    return golden[:GOLDEN]


async def _nearest(
    parts: WorkerParts, target: OpenCollection, golden: Sequence[Memory], texts: Sequence[str]
) -> list[dict[str, str]]:
    """For each the nearest of its agent: their texts, by their ids."""
    vectors = (await target.embedder.embed(texts, Priority.INGEST)).vectors
    found: list[dict[str, str]] = []
    for memory, vector in zip(golden, vectors, strict=True):
        scope = Scope(memory.tenant, (memory.agent_id,))
        hits = await target.store.search(VectorQuery(scope, vector.tolist(), K, parts.clock.now()))
        found.append({hit.memory.id: hit.memory.text for hit in hits})
        await asyncio.sleep(0)  # an embedded store makes everybody wait for each
    return found
