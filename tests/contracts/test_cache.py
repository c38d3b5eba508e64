"""Contract suite of the Cache port, run over each adapter."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.adapters.in_process.cache import LocalCache
from lorestream.adapters.redis.cache import RedisCache
from lorestream.adapters.redis.client import RedisClient
from lorestream.memories import AgentKey
from lorestream.ports import Cache

WOODCUTTER = AgentKey("default", "npc:woodcutter")
SMITH = AgentKey("default", "npc:smith")
ELSEWHERE = AgentKey("other", "npc:woodcutter")
# With the parts of the key joined by a separator, some of these would have the same key.
ALIKE = [AgentKey("a", 'b","c'), AgentKey('a","b', "c"), AgentKey("a:b", "c"), AgentKey("a", "b:c")]


@dataclass(frozen=True)
class Deployment:
    """One cache with one client per process, and a function that makes the backend lose its data."""

    clients: list[Cache]
    lose: Callable[[], Any]


Open: TypeAlias = "Callable[[], AbstractAsyncContextManager[Deployment]]"

_numbers = itertools.count()


@contextlib.asynccontextmanager
async def local() -> AsyncGenerator[Deployment]:
    cache = LocalCache()
    yield Deployment([cache], cache.clear)


def redis(url: str) -> Open:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncGenerator[Deployment]:
        prefix = f"cache-contract-{next(_numbers)}"
        # A call that comes late on a busy machine is no outage.
        limits = {"prefix": prefix, "try_timeout_s": 5, "command_timeout_s": 5}
        async with RedisClient.open(url, **limits) as one, RedisClient.open(url, **limits) as two:

            async def lose() -> None:
                for key in await one.command("KEYS", f"{prefix}:*"):
                    await one.command("DEL", key)

            yield Deployment([RedisCache(one), RedisCache(two)], lose)

    return opened


@pytest.fixture(scope="module", params=["local", "redis"])
def opened(request: pytest.FixtureRequest) -> Open:
    return local if request.param == "local" else redis(request.getfixturevalue("redis_server").url)


@pytest.fixture
async def cache(opened: Open) -> AsyncIterator[Cache]:
    async with opened() as deployment:
        yield deployment.clients[0]


async def fill(cache: Cache, agent: AgentKey, key: bytes, answer: bytes) -> bytes:
    """Miss, then store the answer; returns the generation."""
    found, generation = await cache.get(agent, key)
    assert found is None
    await cache.put(agent, key, answer, generation, 60)
    return generation


async def test_a_stored_answer_is_returned(cache: Cache) -> None:
    generation = await fill(cache, WOODCUTTER, b"where", b"by the river")
    assert await cache.get(WOODCUTTER, b"where") == (b"by the river", generation)
    assert await cache.get(WOODCUTTER, b"when") == (None, generation)


async def test_answers_are_separate_per_agent_and_tenant(cache: Cache) -> None:
    await fill(cache, WOODCUTTER, b"where", b"by the river")
    await fill(cache, SMITH, b"where", b"at the forge")
    await fill(cache, ELSEWHERE, b"where", b"in another world")
    assert (await cache.get(WOODCUTTER, b"where"))[0] == b"by the river"
    assert (await cache.get(SMITH, b"where"))[0] == b"at the forge"
    assert (await cache.get(ELSEWHERE, b"where"))[0] == b"in another world"


async def test_agents_with_similar_ids_do_not_collide(cache: Cache) -> None:
    for number, agent in enumerate(ALIKE):
        await fill(cache, agent, b"where", b"%d" % number)
    assert [(await cache.get(agent, b"where"))[0] for agent in ALIKE] == [b"0", b"1", b"2", b"3"]


async def test_any_bytes_are_valid_keys_and_answers(cache: Cache) -> None:
    answers = {b"": b"\0", b"g": b"\r\n$3\r\n", bytes(range(256)): bytes(range(256)) * 100}
    for key, answer in answers.items():
        await fill(cache, WOODCUTTER, key, answer)
    assert {key: (await cache.get(WOODCUTTER, key))[0] for key in answers} == answers


async def test_a_later_answer_replaces_an_earlier_one(cache: Cache) -> None:
    generation = await fill(cache, WOODCUTTER, b"where", b"by the river")
    await cache.put(WOODCUTTER, b"where", b"on the hill", generation, 60)
    assert (await cache.get(WOODCUTTER, b"where"))[0] == b"on the hill"


async def test_an_empty_answer_is_an_answer(cache: Cache) -> None:
    generation = await fill(cache, WOODCUTTER, b"where", b"")
    assert await cache.get(WOODCUTTER, b"where") == (b"", generation)


async def test_invalidating_removes_all_answers_of_those_agents_and_no_others(cache: Cache) -> None:
    before = await fill(cache, WOODCUTTER, b"where", b"by the river")
    await fill(cache, WOODCUTTER, b"when", b"yesterday")
    await fill(cache, SMITH, b"where", b"at the forge")
    kept = await fill(cache, ELSEWHERE, b"where", b"in another world")

    await cache.invalidate([WOODCUTTER, SMITH])

    for agent, key in ((WOODCUTTER, b"where"), (WOODCUTTER, b"when"), (SMITH, b"where")):
        assert (await cache.get(agent, key))[0] is None
    assert (await cache.get(WOODCUTTER, b"where"))[1] != before
    assert await cache.get(ELSEWHERE, b"where") == (b"in another world", kept)


async def test_an_answer_computed_before_an_invalidation_is_not_kept(cache: Cache) -> None:
    _, generation = await cache.get(WOODCUTTER, b"where")
    await cache.invalidate([WOODCUTTER])
    await cache.put(WOODCUTTER, b"where", b"stale", generation, 60)
    assert (await cache.get(WOODCUTTER, b"where"))[0] is None
    await cache.put(WOODCUTTER, b"where", b"stale", generation, 60)
    assert (await cache.get(WOODCUTTER, b"where"))[0] is None


async def test_an_answer_with_an_unknown_generation_is_not_kept(cache: Cache) -> None:
    await cache.put(WOODCUTTER, b"where", b"forged", b"", 60)
    await cache.put(SMITH, b"where", b"forged", bytes(16), 60)
    assert (await cache.get(WOODCUTTER, b"where"))[0] is None
    assert (await cache.get(SMITH, b"where"))[0] is None


async def test_clearing_removes_everything(cache: Cache) -> None:
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


names = st.sampled_from(["begin", "finish", "begin", "finish", "begin", "finish", "write", "clear", "lose"])
agents = st.sampled_from([WOODCUTTER, ELSEWHERE])
keys = st.sampled_from([b"where", b"when"])
steps = st.lists(
    st.tuples(names, st.integers(0, 1), agents, keys, st.integers(0, 20)), min_size=15, max_size=60
)


@given(steps=steps)
async def test_no_answer_is_ever_older_than_the_last_invalidation(opened: Open, steps: list[Any]) -> None:
    """Searches begin and end in any order at any client; a cached answer always contains the agent's newest write."""
    async with opened() as deployment:
        written = {WOODCUTTER: 0, ELSEWHERE: 0}
        running: list[tuple[AgentKey, bytes, bytes, bytes]] = []
        for name, client, agent, key, number in steps:
            cache = deployment.clients[client % len(deployment.clients)]
            if name == "begin":
                found, generation = await cache.get(agent, key)
                answer = b"%s %d" % (key, written[agent])
                assert found in (None, answer)
                running.append((agent, key, answer, generation))
            elif name == "finish" and running:
                await cache.put(*running.pop(number % len(running)), 60)
            elif name == "write":
                written[agent] += 1
                await cache.invalidate([agent])
            elif name == "clear":
                await cache.clear()
            elif name == "lose":
                await deployment.lose()
