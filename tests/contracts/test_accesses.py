"""Contract suite of the AccessTimes port, run over each adapter."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.local.process import free_port
from lorestream.adapters.in_process.accesses import LocalAccessTimes
from lorestream.adapters.redis.accesses import RedisAccessTimes
from lorestream.adapters.redis.client import RedisClient
from lorestream.memories import Erasure, Memory, SubjectKind
from lorestream.ports import AccessTimes
from lorestream.ports.accesses import TOUCH_INTERVAL_S

NOW = 1_760_000_000.25
_numbers = itertools.count()


@pytest.fixture(params=["local", "redis"])
async def times(request: pytest.FixtureRequest) -> AsyncIterator[AccessTimes]:
    if request.param == "local":
        yield LocalAccessTimes()
        return
    prefix = f"access-contract-{next(_numbers)}"
    async with RedisClient.open(
        request.getfixturevalue("redis_server").url, prefix=prefix, try_timeout_s=5, command_timeout_s=5
    ) as client:
        yield RedisAccessTimes(client)


def memory(name: str, agent: str = "a") -> Memory:
    return Memory(name, "default", agent, "text", NOW - 100, NOW - 100)


async def test_what_was_touched_has_a_time(times: AccessTimes) -> None:
    one, two, other = memory("one"), memory("two"), memory("three", "b")
    assert await times.last([one, two, other]) == {}
    await times.touch([one, other], NOW)
    await times.touch([], NOW)
    assert await times.last([one, two, other]) == {"one": NOW, "three": NOW}
    assert await times.last([]) == {}


async def test_a_time_is_kept_until_the_interval_is_over(times: AccessTimes) -> None:
    one = memory("one")
    await times.touch([one], NOW)
    await times.touch([one], NOW + TOUCH_INTERVAL_S - 1)
    assert await times.last([one]) == {"one": NOW}
    await times.touch([one], NOW + TOUCH_INTERVAL_S)
    assert await times.last([one]) == {"one": NOW + TOUCH_INTERVAL_S}


async def test_an_erased_agent_is_forgotten(times: AccessTimes) -> None:
    one, other = memory("one"), memory("other", "b")
    await times.touch([one, other], NOW)
    await times.forget(Erasure("e", "default", SubjectKind.AGENT, ("a",), NOW))
    assert await times.last([one, other]) == {"other": NOW}


async def test_the_local_ones_are_bounded_and_forget_a_player() -> None:
    times = LocalAccessTimes(max_entries=2)
    some = [memory(name) for name in ("one", "two", "three")]
    for n, one in enumerate(some):
        await times.touch([one], NOW + n)
    assert list(await times.last(some)) == ["two", "three"]
    named = Memory("four", "default", "a", "text", NOW, NOW, player="k1:9f")
    await times.touch([named], NOW + 5)
    await times.forget(Erasure("e", "default", SubjectKind.PLAYER, ("k1:9f",), NOW))
    assert list(await times.last([*some, named])) == ["three"]


async def test_too_many_in_redis_begin_anew(redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorestream.adapters.redis.accesses._MAX_PER_AGENT", 2)
    async with RedisClient.open(
        redis_server.url,
        prefix=f"access-contract-{next(_numbers)}",
        try_timeout_s=5,
        command_timeout_s=5,
    ) as client:
        times = RedisAccessTimes(client)
        some = [memory(name) for name in ("one", "two", "three")]
        for one in some:
            await times.touch([one], NOW)
        assert await times.last(some) == {"three": NOW}


async def test_an_outage_of_redis_costs_only_the_times() -> None:
    async with RedisClient.open(f"redis://127.0.0.1:{free_port()}/0", prefix="nobody") as client:
        times = RedisAccessTimes(client)
        await times.touch([memory("one")], NOW)
        await times.forget(Erasure("e", "default", SubjectKind.AGENT, ("a",), NOW))
        assert await times.last([memory("one")]) == {}
