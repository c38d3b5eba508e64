"""What the cache in Redis costs, on one machine, and what a second cache in the process would save.

Such an in-process cache would have to ask Redis for the generation before every use of an entry, since a write may
have been finished a moment ago: it saves the bytes of the answer, not the way. Run: `python -m tests.load.cache`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from deploy.local.redis_server import RedisServer
from lorestream.adapters.in_process.cache import LocalCache
from lorestream.adapters.redis.cache import RedisCache
from lorestream.adapters.redis.client import RedisClient
from lorestream.errors import Unavailable
from lorestream.memories import AgentKey

ANSWER_BYTES = (2_000, 16_000, 100_000)
AGENTS = [AgentKey("default", f"npc:{number}") for number in range(256)]

Call = Callable[[], Awaitable[Any]]


async def measure_cache(*, calls: int = 3000, side_by_side: int = 16) -> dict[str, Any]:
    """Microseconds: the median and the 99th percentile of a call, and CPU time of this process."""
    figures: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lorestream-load-")))
        server = stack.enter_context(RedisServer(folder, maxmemory="256mb"))
        # On a busy machine the deadline of 80 ms would end the run; it is looked at on its own below.
        async with RedisClient.open(
            server.url, prefix="load", try_timeout_s=5, command_timeout_s=5
        ) as client:
            cache = RedisCache(client)
            for size in ANSWER_BYTES:
                figures[f"hit_{size}_bytes"] = await _hits(cache, client, size, calls, side_by_side)
            many: dict[str, Call] = {
                "fill_256_agents": lambda: _fill(cache),
                "invalidate_256_agents": lambda: cache.invalidate(AGENTS),
                "fill_256_agents_again": lambda: _fill(cache),
                "clear_256_agents": cache.clear,
            }
            figures |= await _times({"miss_and_put": lambda: _miss(cache)}, calls)
            took = await _times(many, 30)
            figures |= {name: took[name] for name in took if not name.startswith("fill")}
        async with RedisClient.open(server.url, prefix="load") as client:
            cache = RedisCache(client)
            await cache.get(AGENTS[0], b"where")
            server.pause()
            figures["frozen"] = await _frozen(cache)
            server.resume()
    return figures


async def _hits(
    cache: RedisCache, client: RedisClient, size: int, calls: int, side_by_side: int
) -> dict[str, Any]:
    local = LocalCache()
    agent, key = AgentKey("default", f"npc:{size}"), b"where is the mill?"
    for each in (cache, local):
        _, generation = await each.get(agent, key)
        await each.put(agent, key, bytes(size), generation, 60)
        assert (await each.get(agent, key))[0] == bytes(size)
    name = cache._name(agent)

    async def validated() -> None:
        """The in-process cache that could be: a dictionary, and Redis asked for the generation alone."""
        _, generation = await local.get(agent, key)
        (current,) = await client.try_command("HMGET", name, "g")
        assert current != generation

    async def at_once() -> None:
        await asyncio.gather(*(cache.get(agent, key) for _ in range(side_by_side)))

    begun = time.perf_counter()
    for _ in range(calls // side_by_side):
        await at_once()
    rate = calls // side_by_side * side_by_side / (time.perf_counter() - begun)
    contenders: dict[str, Call] = {
        "redis": lambda: cache.get(agent, key),
        "in_process_validated": validated,
        "in_process_alone": lambda: local.get(agent, key),
    }
    return {
        **await _times(contenders, calls),
        f"redis_hits_per_s_{side_by_side}_at_once": round(rate),
    }


async def _miss(cache: RedisCache) -> None:
    agent = AgentKey("default", f"npc:{time.perf_counter_ns()}")
    _, generation = await cache.get(agent, b"where")
    await cache.put(agent, b"where", bytes(2000), generation, 60)


async def _frozen(cache: RedisCache) -> dict[str, float]:
    """What a Redis that is stopped costs the first query, and the next ones, in milliseconds."""
    took: list[float] = []
    for _ in range(101):
        began = time.perf_counter()
        await cache.get(AGENTS[0], b"where")
        took.append(1000 * (time.perf_counter() - began))
    began = time.perf_counter()
    with contextlib.suppress(Unavailable):
        await cache.invalidate(AGENTS)
    return {
        "first_query_ms": round(took[0], 1),
        "next_100_queries_ms": round(sum(took[1:]), 2),
        "invalidate_gives_up_after_ms": round(1000 * (time.perf_counter() - began)),
    }


async def _fill(cache: RedisCache) -> None:
    for agent in AGENTS:
        _, generation = await cache.get(agent, b"where")
        await cache.put(agent, b"where", bytes(2000), generation, 60)


async def _times(contenders: dict[str, Call], calls: int) -> dict[str, dict[str, float]]:
    """Calls by turns, so that what else goes on at the machine meets all of them alike."""
    took: dict[str, list[float]] = {name: [] for name in contenders}
    cpu = dict.fromkeys(contenders, 0.0)
    for number in range(calls + 5):
        for name, call in contenders.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            await call()
            if number >= 5:  # the first ones warm up
                took[name].append(time.perf_counter() - began)
                cpu[name] += time.process_time() - began_cpu
    return {
        name: {
            "p50_us": round(1e6 * statistics.median(took[name]), 1),
            "p99_us": round(1e6 * statistics.quantiles(took[name], n=100)[98], 1),
            "cpu_us": round(1e6 * cpu[name] / calls, 1),
        }
        for name in contenders
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure_cache()), indent=2))
