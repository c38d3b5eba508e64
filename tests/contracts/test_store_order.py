"""Contract of every VectorStore: order of pages by time, and of searches by cosine."""

import math
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.memories import Condition, Field, Op, Or
from tests.contracts.stored import EAST, NOW, START, everything, memory, nearest, put, vectors

TIMES = [0.0, 5.0, 5.1, math.nextafter(5.1, 6), START, math.nextafter(START, 0), START + 1, -3.5]


async def pages(store, limit, *, between=None, **query):
    """All pages in turn; `between` is called between two of them."""
    seen, after = [], None
    while True:
        page = await store.page(everything(limit=limit, after=after, **query))
        assert len(page) <= limit
        if not page:
            return seen
        seen += page
        after = page[-1].position
        if between is not None:
            await between(len(seen))


@given(
    moments=st.lists(st.tuples(st.sampled_from(TIMES), st.sampled_from(TIMES)), max_size=40),
    limit=st.integers(1, 12),
    oldest_first=st.booleans(),
)
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
async def test_pages_return_every_memory_once_in_order(store, moments, limit, oldest_first):
    agent = str(uuid.uuid4())
    kept = [
        memory(f"m{n}", agent_id=agent, timestamp=time, accepted_at=accepted)
        for n, (time, accepted) in enumerate(moments)
    ]
    await put(store, *kept)
    expected = sorted(kept, key=lambda one: one.position, reverse=not oldest_first)
    assert await pages(store, limit, agent=agent, oldest_first=oldest_first) == expected


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_more_equal_times_than_a_page_and_a_batch(store, oldest_first):
    kept = [memory(f"m{n:04}", accepted_at=START + n % 3) for n in range(1200)]
    await put(store, *kept, memory("old", timestamp=START - 1), memory("new", timestamp=START + 1))
    seen = await pages(store, 90, oldest_first=oldest_first)
    assert [one.position for one in seen] == sorted((one.position for one in seen), reverse=not oldest_first)
    assert len({one.id for one in seen}) == len(seen) == 1202


async def test_writes_between_pages_do_not_repeat_or_hide_older_memories(store):
    kept = [memory(f"m{n:02}", timestamp=START + n // 7) for n in range(60)]
    await put(store, *kept)

    async def write(seen):
        await put(store, memory(f"newer {seen}", timestamp=START + 100 + seen))
        await put(store, memory(f"same {seen}", timestamp=START + 4, accepted_at=START + 50))

    seen = await pages(store, 7, between=write)
    assert [one for one in seen if one in kept] == sorted(kept, key=lambda one: one.position, reverse=True)
    assert len({one.id for one in seen}) == len(seen)


async def test_pages_with_an_inexact_filter(store):
    share = 0.1 + 0.2
    kept = [memory(f"m{n}", timestamp=START + n, metadata={"s": share if n % 3 else 0.3}) for n in range(200)]
    await put(store, *kept)
    above = Condition(Field(("metadata", "s")), Op.GT, 0.3)
    seen = await pages(store, 9, filter_=above)
    assert seen == [one for one in reversed(kept) if one.metadata["s"] > 0.3]
    assert await store.count(everything(filter_=above)) == len(seen)
    hits = await store.search(nearest(50, filter=above))
    assert [hit.memory for hit in hits] == seen[:50]


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_equal_times_with_a_condition_on_metadata(store, oldest_first):
    kept = [
        memory(f"m{n:03}", timestamp=START + max(0, n - 200) // 40, metadata={"n": n % 7}) for n in range(300)
    ]
    await put(store, *kept)
    some = Condition(Field(("metadata", "n")), Op.GTE, 2)
    expected = [one for one in kept if one.metadata["n"] >= 2]
    expected.sort(key=lambda one: one.position, reverse=not oldest_first)
    assert await pages(store, 90, filter_=some, oldest_first=oldest_first) == expected
    assert {one.id async for page in store.each(everything(filter_=some)) for one in page} == {
        one.id for one in expected
    }


async def test_nearest_equals_exact_search(store):
    random = np.random.default_rng(7)
    rows = random.standard_normal((800, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    await store.insert([memory(f"m{n}", agent_id="ab"[n % 2]) for n in range(800)], rows)
    for vector in random.standard_normal((10, 4)):
        cosines = rows.astype(float) @ (vector / np.linalg.norm(vector))
        for agent, chosen in (("a", range(0, 800, 2)), (None, range(800))):
            expected = sorted(chosen, key=lambda n: -cosines[n])[:20]
            hits = await store.search(nearest(20, agent=agent, vector=vector.tolist()))
            assert [hit.memory.id for hit in hits] == [f"m{n}" for n in expected]
            assert [hit.relevance for hit in hits] == pytest.approx(cosines[expected], abs=1e-6)


@pytest.mark.parametrize("agent", ["a", None])
async def test_many_equal_memories_come_newest_first(store, agent):
    equal = [memory(f"e{n:04}", timestamp=START + n // 600, accepted_at=START + n % 7) for n in range(1500)]
    nearer = [memory(f"n{n}", timestamp=START + 5 - n) for n in range(3)]
    farther = [memory(f"f{n}", timestamp=START + 9000 + n) for n in range(3)]
    await put(store, *equal, vector=(0.8, 0.6, 0, 0))
    await put(store, *nearer)
    await put(store, *farther, vector=(0, 1, 0, 0))
    newest = sorted(equal, key=lambda one: one.position, reverse=True)
    for k in (1, 3, 4, 10, 300, 1000, 1503, 1505, 2000):
        hits = await store.search(nearest(k, agent=agent))
        assert [hit.memory for hit in hits] == [*nearer, *newest, *reversed(farther)][:k]


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_the_same_id_and_times_in_several_agents_are_ordered_by_agent(store, oldest_first):
    agents = [f"agent-{n:02}" for n in (3, 11, 0, 7, 5, 9, 1, 8, 2, 10, 6, 4)]
    kept = [memory("same", agent_id=agent) for agent in agents]
    await put(store, *kept)
    expected = sorted(kept, key=lambda one: one.agent_id, reverse=not oldest_first)
    for limit in (1, 5, 100):
        assert await pages(store, limit, agent=None, oldest_first=oldest_first) == expected
    for k in (1, 4, 11, 12):
        hits = await store.search(nearest(k, agent=None))
        assert [hit.memory.agent_id for hit in hits] == sorted(agents, reverse=True)[:k]


async def test_equal_memories_with_an_inexact_filter(store):
    kept = [memory(f"e{n}", timestamp=START + n, tick=0.1 + 0.2 if n % 2 else 0.3) for n in range(500)]
    await put(store, *kept)
    above = Or((Condition(Field(("tick",)), Op.GT, 0.3),))
    hits = await store.search(nearest(20, filter=above))
    assert [hit.memory for hit in hits] == [one for one in reversed(kept) if one.tick > 0.3][:20]


async def test_relevance_is_within_bounds_and_min_relevance_is_inclusive(store):
    random = np.random.default_rng(3)
    rows = random.standard_normal((300, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kept = [memory(f"m{n}", timestamp=START + n) for n in range(300)]
    await store.insert(kept, rows)
    for row in (0, 1, 2):
        vector = rows[row].tolist()
        hits = await store.search(nearest(300, vector=vector))
        assert len(hits) == 300
        assert all(-1.0 <= hit.relevance <= 1.0 for hit in hits)
        assert hits[0].memory == kept[row]
        for place in (0, 5, 150, 299):
            least = hits[place].relevance
            assert await store.search(nearest(300, vector=vector, min_relevance=least)) == hits[: place + 1]
            assert (
                await store.search(nearest(300, vector=vector, min_relevance=math.nextafter(least, 2)))
                == hits[:place]
            )


async def test_opposite_vectors_and_no_hits(store):
    await store.insert([memory("opposite")], vectors((-1, 0, 0, 0), 1))
    [hit] = await store.search(nearest(5))
    assert hit.relevance == pytest.approx(-1.0)
    assert await store.search(nearest(5, min_relevance=-1.0, vector=EAST)) == [hit]
    assert await store.search(nearest(5, min_relevance=0.0, now=NOW)) == []
