"""Searches of Edge among many memories: the shorter ways that are taken there return what the others return."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from lorestream.adapters.qdrant import hybrid, nearest
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.memories import HybridQuery, KeywordQuery, PageQuery, Scope, VectorQuery
from lorestream.ports import Tombstone
from tests.contracts.stored import EAST, NOW, START, memory, vectors

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPE = Scope("default", ("a",))
TEXTS = ("iron in the cave", "iron, iron", "a mill", "the old mill by the river", "snow")
COUNT = 90


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store() -> AsyncIterator[EdgeStore]:
    """90 memories of one agent, among which many have equal texts, vectors and times."""
    chance = np.random.default_rng(1)
    memories = [
        memory(f"m{n}", text=TEXTS[chance.integers(5)], timestamp=START + int(chance.integers(4)))
        for n in range(COUNT)
    ]
    angles = np.radians(10.0 * chance.integers(7, size=COUNT))
    still = np.zeros(COUNT)
    rows = np.stack([np.cos(angles), np.sin(angles), still, still], axis=1).astype(np.float32)
    async with EdgeStore.open(None, model_id="hash", dim=4) as opened:
        await opened.insert(memories, rows)
        yield opened


@pytest.mark.parametrize("more", [1, 4, 500])
@pytest.mark.parametrize("k", [1, 3, 7, 20, 41, 89, 90, 200])
async def test_the_first_among_many_are_those_among_few(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch, k: int, more: int
) -> None:
    queries = [
        VectorQuery(SCOPE, EAST, k, NOW),
        VectorQuery(SCOPE, EAST, k, NOW, min_relevance=0.6),
        KeywordQuery(SCOPE, "iron in the mill", k, NOW),
        HybridQuery(SCOPE, EAST, "iron in the mill", k, NOW),
        HybridQuery(SCOPE, EAST, "?", k, NOW),
    ]
    among_few = [await store.search(query) for query in queries]
    monkeypatch.setattr(nearest, "_MANY", 1)
    monkeypatch.setattr(nearest, "_COMPARED", 1)
    monkeypatch.setattr(nearest, "_MOST_IDS", more)
    monkeypatch.setattr(hybrid, "_SHORT_POINTS", 1)
    assert [await store.search(query) for query in queries] == among_few


async def test_memories_of_a_scope_are_counted_by_its_parts(store: EdgeStore) -> None:
    """An agent that is named twice counts once, and a record beside the memories."""
    scope = Scope("default", ("a", "b", "b", "nobody"), records=True)
    assert await store.count(PageQuery(scope, 1, NOW)) == COUNT
    await store.insert(
        [memory("b", agent_id="b"), memory("record", agent_id="b", recall=False)], vectors(EAST, 2)
    )
    assert await store.count(PageQuery(scope, 1, NOW)) == COUNT + 2
    assert await store.count(PageQuery(Scope("default"), 1, NOW)) == COUNT + 1
    await store.put_tombstones([Tombstone("default", "b", "b", NOW)])
    assert await store.count(PageQuery(scope, 1, NOW)) == COUNT + 1
