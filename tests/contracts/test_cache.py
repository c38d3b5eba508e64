"""What every Cache promises, run over each adapter that keeps anything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.adapters.local_cache import LocalCache
from engram.memories import AgentKey
from engram.ports import Cache

WOODCUTTER = AgentKey("default", "npc:woodcutter")
SMITH = AgentKey("default", "npc:smith")
ELSEWHERE = AgentKey("other", "npc:woodcutter")

ADAPTERS = [LocalCache]


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.__name__)
def cache(request: pytest.FixtureRequest) -> Cache:
    return request.param()


async def fill(cache: Cache, agent: AgentKey, key: bytes, answer: bytes) -> bytes:
    """Ask, and keep what was found; return the generation."""
    found, generation = await cache.get(agent, key)
    assert found is None
    await cache.put(agent, key, answer, generation, 60)
    return generation


async def test_an_answer_that_was_put_is_got(cache: Cache) -> None:
    generation = await fill(cache, WOODCUTTER, b"where", b"by the river")
    assert await cache.get(WOODCUTTER, b"where") == (b"by the river", generation)
    assert await cache.get(WOODCUTTER, b"when") == (None, generation)


async def test_agents_and_tenants_are_apart(cache: Cache) -> None:
    await fill(cache, WOODCUTTER, b"where", b"by the river")
    await fill(cache, SMITH, b"where", b"at the forge")
    await fill(cache, ELSEWHERE, b"where", b"in another world")
    assert (await cache.get(WOODCUTTER, b"where"))[0] == b"by the river"
    assert (await cache.get(SMITH, b"where"))[0] == b"at the forge"
    assert (await cache.get(ELSEWHERE, b"where"))[0] == b"in another world"


async def test_a_later_answer_replaces_an_earlier_one(cache: Cache) -> None:
    generation = await fill(cache, WOODCUTTER, b"where", b"by the river")
    await cache.put(WOODCUTTER, b"where", b"on the hill", generation, 60)
    assert (await cache.get(WOODCUTTER, b"where"))[0] == b"on the hill"


async def test_an_empty_answer_is_an_answer(cache: Cache) -> None:
    generation = await fill(cache, WOODCUTTER, b"where", b"")
    assert await cache.get(WOODCUTTER, b"where") == (b"", generation)


async def test_invalidating_takes_all_answers_of_those_agents_and_of_no_others(cache: Cache) -> None:
    before = await fill(cache, WOODCUTTER, b"where", b"by the river")
    await fill(cache, WOODCUTTER, b"when", b"yesterday")
    await fill(cache, SMITH, b"where", b"at the forge")
    kept = await fill(cache, ELSEWHERE, b"where", b"in another world")

    await cache.invalidate([WOODCUTTER, SMITH])

    for agent, key in ((WOODCUTTER, b"where"), (WOODCUTTER, b"when"), (SMITH, b"where")):
        assert (await cache.get(agent, key))[0] is None
    assert (await cache.get(WOODCUTTER, b"where"))[1] != before
    assert await cache.get(ELSEWHERE, b"where") == (b"in another world", kept)


async def test_an_answer_computed_before_the_invalidation_is_void(cache: Cache) -> None:
    _, generation = await cache.get(WOODCUTTER, b"where")
    await cache.invalidate([WOODCUTTER])
    await cache.put(WOODCUTTER, b"where", b"stale", generation, 60)
    assert (await cache.get(WOODCUTTER, b"where"))[0] is None
    await cache.put(WOODCUTTER, b"where", b"stale", generation, 60)
    assert (await cache.get(WOODCUTTER, b"where"))[0] is None


async def test_a_generation_that_never_was_is_void(cache: Cache) -> None:
    await cache.put(WOODCUTTER, b"where", b"forged", b"", 60)
    await cache.put(SMITH, b"where", b"forged", bytes(16), 60)
    assert (await cache.get(WOODCUTTER, b"where"))[0] is None
    assert (await cache.get(SMITH, b"where"))[0] is None


async def test_clearing_takes_everything(cache: Cache) -> None:
    generation = await fill(cache, WOODCUTTER, b"where", b"by the river")
    await fill(cache, SMITH, b"where", b"at the forge")
    await cache.clear()
    assert (await cache.get(SMITH, b"where"))[0] is None
    found, fresh = await cache.get(WOODCUTTER, b"where")
    assert found is None
    assert fresh != generation
    await cache.put(WOODCUTTER, b"where", b"stale", generation, 60)
    assert (await cache.get(WOODCUTTER, b"where"))[0] is None


async def test_an_answer_without_time_to_live_is_not_kept(cache: Cache) -> None:
    _, generation = await cache.get(WOODCUTTER, b"where")
    await cache.put(WOODCUTTER, b"where", b"gone already", generation, 0)
    assert (await cache.get(WOODCUTTER, b"where"))[0] is None


agents = st.sampled_from([WOODCUTTER, SMITH, ELSEWHERE])
keys = st.sampled_from([b"where", b"when", b"who"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), agents, keys),
        st.tuples(st.just("finish"), st.integers(0, 20)),
        st.tuples(st.just("write"), st.sets(agents)),
        st.tuples(st.just("clear")),
    ),
    max_size=60,
)


@pytest.mark.parametrize("adapter", ADAPTERS)
@given(steps=steps)
async def test_no_answer_is_ever_older_than_the_last_invalidation(
    adapter: type[Cache], steps: list[Any]
) -> None:
    """Searches begin, end late and in any order; what is got always holds the agent's newest write."""
    cache: Cache = adapter()
    written = dict.fromkeys((WOODCUTTER, SMITH, ELSEWHERE), 0)
    running: list[tuple[AgentKey, bytes, bytes, bytes]] = []
    for name, *arguments in steps:
        if name == "begin":
            agent, key = arguments
            found, generation = await cache.get(agent, key)
            answer = b"%s %d" % (key, written[agent])
            assert found in (None, answer)
            running.append((agent, key, answer, generation))
        elif name == "finish" and running:
            agent, key, answer, generation = running.pop(arguments[0] % len(running))
            await cache.put(agent, key, answer, generation, 60)
        elif name == "write":
            for agent in arguments[0]:
                written[agent] += 1
            await cache.invalidate(arguments[0])
        elif name == "clear":
            await cache.clear()
