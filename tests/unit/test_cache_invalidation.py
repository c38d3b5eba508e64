"""A write is finished when the cache was invalidated, or when every cached answer from before has expired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from lorestream.adapters.in_process.cache import LocalCache
from lorestream.errors import Unavailable
from lorestream.memories import AgentKey
from stream_workers.indexing.cache_invalidation import InvalidationQueue, union
from tests.parts import Faulty

A, B = AgentKey("default", "a"), AgentKey("default", "b")


class SwitchableCache:
    """A cache that can be made unavailable, and a clock that is set by the test."""

    def __init__(self) -> None:
        self.unavailable = False
        self.now = 1000.0
        self.real = LocalCache()
        self.cache = Faulty(self.real, invalidate=self._fail, clear=self._fail)

    def _fail(self, *_: object) -> None:
        if self.unavailable:
            raise Unavailable("no route to the cache")

    async def answer(self, agent: AgentKey, *, keep: bool) -> bytes | None:
        found, generation = await self.real.get(agent, b"question")
        if keep:
            await self.real.put(agent, b"question", b"answer", generation, 60)
        return found


@pytest.fixture
def switch() -> SwitchableCache:
    return SwitchableCache()


@pytest.fixture
async def queue(switch: SwitchableCache) -> AsyncIterator[InvalidationQueue]:
    made = InvalidationQueue(switch.cache, max_answer_age_s=60, monotonic=lambda: switch.now)  # type: ignore[arg-type]
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def into(finished: list[str], name: str) -> Callable[[], Awaitable[None]]:
    async def finish() -> None:
        finished.append(name)

    return finish


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_with_an_available_cache_a_batch_is_finished_at_once(
    queue: InvalidationQueue, switch: SwitchableCache
) -> None:
    await switch.answer(A, keep=True)
    finished: list[str] = []
    await queue.add(frozenset([A]), into(finished, "one"))
    assert finished == ["one"]
    assert await switch.answer(A, keep=False) is None


async def test_none_invalidates_all_agents(queue: InvalidationQueue, switch: SwitchableCache) -> None:
    await switch.answer(A, keep=True)
    await switch.answer(B, keep=True)
    await queue.add(None, into([], "all"))
    assert await switch.answer(A, keep=False) is None
    assert await switch.answer(B, keep=False) is None


async def test_an_unavailable_cache_delays_the_finish_and_not_the_adding(
    queue: InvalidationQueue, switch: SwitchableCache
) -> None:
    await switch.answer(B, keep=True)
    finished: list[str] = []
    switch.unavailable = True
    await queue.add(frozenset([A]), into(finished, "one"))
    await queue.add(frozenset([B]), into(finished, "two"))
    await queue.add(frozenset(), into(finished, "three"))
    await asyncio.sleep(0.3)
    assert finished == []
    assert queue.pending == 3

    switch.unavailable = False
    await until(lambda: queue.pending == 0)
    assert finished == ["one", "two", "three"]
    assert await switch.answer(B, keep=False) is None


async def test_batches_older_than_any_cached_answer_are_finished_without_the_cache(
    queue: InvalidationQueue, switch: SwitchableCache
) -> None:
    finished: list[str] = []
    switch.unavailable = True
    await queue.add(frozenset([A]), into(finished, "one"))
    switch.now += 59
    await queue.add(frozenset([A]), into(finished, "two"))
    await asyncio.sleep(0.6)
    assert finished == []

    switch.now += 2
    await until(lambda: finished == ["one"])
    await asyncio.sleep(0.3)
    assert finished == ["one"]
    assert queue.pending == 1


async def test_without_a_cache_a_batch_is_finished_at_once() -> None:
    finished: list[str] = []
    await InvalidationQueue(None).add(None, into(finished, "one"))
    assert finished == ["one"]


def test_the_union_with_all_agents_is_all_agents() -> None:
    assert union([frozenset([A]), frozenset([B])]) == frozenset([A, B])
    assert union([frozenset([A]), None]) is None
    assert union([]) == frozenset()
