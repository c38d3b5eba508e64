"""Contract of every VectorStore: keeping only the newest memories of each agent."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from lorestream.memories import AgentKey
from lorestream.ports import Tombstone
from tests.contracts.conftest import open_store
from tests.contracts.stored import NOW, START, memory, names, put

A = AgentKey("default", "a")


async def trim(store, agent=A, *, keep, limit=1000, now=NOW):
    return await store.trim(agent, keep=keep, limit=limit, now=now)


async def test_agents_above_a_number_of_memories(store):
    await put(store, *(memory(f"a{n}") for n in range(3)))
    await put(store, *(memory(f"b{n}", agent_id="b") for n in range(2)))
    await put(store, *(memory(f"o{n}", tenant="other") for n in range(4)))
    other = AgentKey("other", "a")
    assert list(await store.agents_above(keep=2)) == [other, A]
    assert list(await store.agents_above(keep=3)) == [other]
    assert list(await store.agents_above(keep=4)) == []


async def test_trim_keeps_the_newest_of_that_agent_only(store):
    await put(store, *(memory(f"a{n}", timestamp=START + n) for n in range(5)))
    await put(store, *(memory(f"b{n}", agent_id="b") for n in range(3)))
    await put(store, *(memory(f"o{n}", tenant="other") for n in range(3)))
    assert await trim(store, keep=2) == 3
    assert await names(store) == ["a4", "a3"]
    assert len(await names(store, "b")) == 3
    assert len(await names(store, "a", "other")) == 3
    assert await trim(store, keep=2) == 0
    assert await trim(store, AgentKey("default", "nobody"), keep=2) == 0


async def test_trim_with_a_limit_removes_the_oldest_first(store):
    await put(store, *(memory(f"a{n}", timestamp=START + n) for n in range(6)))
    assert await trim(store, keep=1, limit=2) == 2
    assert await names(store) == ["a5", "a4", "a3", "a2"]
    assert await trim(store, keep=1, limit=2) == 2
    assert await trim(store, keep=1, limit=2) == 1
    assert await names(store) == ["a5"]


async def test_equal_times_are_ordered_by_acceptance_then_id(store):
    await put(
        store,
        memory("z", accepted_at=START),
        memory("b", accepted_at=START + 1),
        memory("a", accepted_at=START + 1),
        memory("c", accepted_at=START + 1),
    )
    assert await trim(store, keep=2) == 2
    assert await names(store) == ["c", "b"]


async def test_trim_ignores_expired_memories_and_tombstones(store):
    await put(
        store,
        *(memory(f"gone{n}", timestamp=START + 10 + n, expires_at=NOW) for n in range(3)),
        *(memory(f"a{n}", timestamp=START + n) for n in range(2)),
    )
    await store.put_tombstones([Tombstone("default", "a", "buried", START)])
    assert await trim(store, keep=2) == 0
    assert await names(store) == ["a1", "a0"]
    await put(store, memory("buried", timestamp=START + 99))
    assert await names(store) == ["a1", "a0"]


async def test_a_trimmed_memory_can_be_inserted_again(store):
    await put(store, *(memory(f"a{n}", timestamp=START + n) for n in range(2)))
    assert await trim(store, keep=1) == 1
    await put(store, memory("a0", timestamp=START))
    assert await names(store) == ["a1", "a0"]
    assert await trim(store, keep=1) == 1
    assert await names(store) == ["a1"]


orders = st.tuples(st.integers(0, 3), st.integers(0, 2))
populations = st.lists(
    st.tuples(st.lists(orders, max_size=25), st.integers(1, 10), st.integers(1, 10)), max_size=8
)


@settings(max_examples=3)
@given(populations=populations)
def test_trim_in_steps_keeps_the_newest(populations):
    """Compared with the definition: sorted by position, the last `keep` remain."""

    async def check():
        async with open_store("edge", None, None) as store:
            for number, (times, keep, limit) in enumerate(populations):
                population = [
                    memory(
                        f"m{n}", agent_id=f"{number}", timestamp=START + at / 8, accepted_at=START + accepted
                    )
                    for n, (at, accepted) in enumerate(times)
                ]
                await put(store, *population)
                gone = []
                while not gone or gone[-1]:
                    gone.append(await trim(store, AgentKey("default", f"{number}"), keep=keep, limit=limit))
                    assert gone[-1] <= limit
                newest = sorted(population, key=lambda one: one.position, reverse=True)[:keep]
                assert await names(store, f"{number}") == [one.id for one in newest]
                assert sum(gone) == len(population) - len(newest)

    asyncio.run(check())
