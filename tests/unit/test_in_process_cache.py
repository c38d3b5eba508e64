"""LocalCache beyond the contract suite: limits, expiry, order of eviction."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lorestream.adapters.in_process.cache import ENTRY_OVERHEAD_BYTES, LocalCache
from lorestream.memories import AgentKey


def agent(number: int) -> AgentKey:
    return AgentKey("default", f"npc:{number}")


class SetClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


async def keep(cache: LocalCache, of: AgentKey, key: bytes, answer: bytes, ttl_s: float = 60) -> bytes:
    _, generation = await cache.get(of, key)
    await cache.put(of, key, answer, generation, ttl_s)
    return generation


async def kept(cache: LocalCache, of: AgentKey, key: bytes) -> bytes | None:
    return (await cache.get(of, key))[0]


async def test_an_answer_expires_after_its_ttl() -> None:
    clock = SetClock()
    cache = LocalCache(monotonic=clock)
    await keep(cache, agent(0), b"short", b"1", ttl_s=5)
    await keep(cache, agent(0), b"long", b"2", ttl_s=60)
    clock.time += 4.9
    assert await kept(cache, agent(0), b"short") == b"1"
    clock.time += 0.1
    assert await kept(cache, agent(0), b"short") is None
    assert await kept(cache, agent(0), b"long") == b"2"
    assert cache.size[0] == 1


async def test_generations_are_128_random_bits() -> None:
    cache = LocalCache()
    generations = [(await cache.get(agent(number), b""))[1] for number in range(100)]
    assert {len(each) for each in generations} == {16}
    assert len(set(generations)) == 100


async def test_the_least_recently_used_answer_is_evicted_first() -> None:
    cache = LocalCache(max_entries=2)
    await keep(cache, agent(0), b"old", b"1")
    await keep(cache, agent(1), b"middle", b"2")
    assert await kept(cache, agent(0), b"old") == b"1"
    await keep(cache, agent(0), b"new", b"3")
    assert await kept(cache, agent(1), b"middle") is None
    assert await kept(cache, agent(0), b"old") == b"1"
    assert await kept(cache, agent(0), b"new") == b"3"


async def test_a_large_answer_evicts_several_small_ones_and_a_too_large_one_none() -> None:
    cache = LocalCache(max_bytes=4 * (ENTRY_OVERHEAD_BYTES + 11))
    for number in range(4):
        await keep(cache, agent(0), b"%d" % number, b"x" * 10)
    assert cache.size[0] == 4
    await keep(cache, agent(0), b"4", b"x" * (10 + ENTRY_OVERHEAD_BYTES))
    assert [await kept(cache, agent(0), b"%d" % number) is not None for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    await keep(cache, agent(0), b"5", b"x" * 10_000)
    assert await kept(cache, agent(0), b"5") is None
    assert await kept(cache, agent(0), b"4") is not None


async def test_the_least_recently_used_agent_is_evicted_first() -> None:
    cache = LocalCache(max_agents=2)
    await keep(cache, agent(0), b"where", b"here")
    await keep(cache, agent(1), b"where", b"there")
    assert await kept(cache, agent(0), b"where") == b"here"
    await cache.get(agent(2), b"where")
    assert await kept(cache, agent(0), b"where") == b"here"
    assert cache.size[0] == 1


async def test_an_evicted_agent_gets_a_new_generation() -> None:
    cache = LocalCache(max_agents=2)
    generation = await keep(cache, agent(0), b"where", b"here")
    await cache.get(agent(1), b"where")
    await cache.get(agent(2), b"where")
    assert cache.size[0] == 0

    await cache.put(agent(0), b"where", b"here", generation, 60)
    found, fresh = await cache.get(agent(0), b"where")
    assert found is None
    assert fresh != generation


bounds = st.integers(1, 4)
steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "invalidate", "clear"]),
        st.integers(0, 6),
        st.integers(0, 3),
        st.integers(0, 500),
    ),
    max_size=80,
)


@given(max_entries=bounds, max_agents=bounds, max_bytes=st.integers(1, 2000), steps=steps)
async def test_the_limits_hold_for_any_sequence_of_calls(
    max_entries: int, max_agents: int, max_bytes: int, steps: list[tuple[str, int, int, int]]
) -> None:
    clock = SetClock()
    cache = LocalCache(max_entries=max_entries, max_agents=max_agents, max_bytes=max_bytes, monotonic=clock)
    for name, number, key, size in steps:
        clock.time += 7
        if name == "ask":
            await keep(cache, agent(number), b"%d" % key, bytes(size))
        elif name == "invalidate":
            await cache.invalidate([agent(number)])
        else:
            await cache.clear()
        entries, held, agents = cache.size
        assert entries <= max_entries
        assert held <= max_bytes
        assert agents <= max_agents
        assert (held == 0) == (entries == 0)
    for number in range(7):
        await cache.invalidate([agent(number)])
    assert cache.size == (0, 0, 0)
