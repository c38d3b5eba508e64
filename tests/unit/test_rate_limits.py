"""Rate limits: token buckets in memory and in Redis, and the responses over the limit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from deploy.local.redis_server import RedisServer
from lorestream.access.authentication import ANONYMOUS, ApiKeyAuthenticator, Principal
from lorestream.access.key_file import KeyScope
from lorestream.access.rate_limits import BucketRequest, LocalTokenBuckets, RateLimits, TokenBuckets
from lorestream.adapters.redis.client import RedisClient
from lorestream.adapters.redis.token_buckets import RedisTokenBuckets
from lorestream.errors import RateLimited
from lorestream.grpc import memory_pb2 as pb
from lorestream.grpc import memory_pb2_grpc
from lorestream.grpc.server import Handlers, serving
from lorestream.http.application import application
from lorestream.wiring import Runtime
from producers import gateway as writes
from producers.gateway import Gateway
from producers.rpc import Writes
from query_service import rest as reads
from query_service.recall import CurrentRecall
from query_service.rpc import Reads
from tests.api_keys import ShiftedClock, bearer
from tests.parts import open_parts

SLOW = 0.001
"""A rate so low that no token is added during a test."""


# --- buckets -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["local", "redis"])
async def buckets(request: pytest.FixtureRequest, unique: str) -> AsyncIterator[TokenBuckets]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "local":
            yield LocalTokenBuckets()
            return
        server: RedisServer = request.getfixturevalue("redis_server")
        # A machine with other things to do may take its time; no deadline is tested here.
        opened = RedisClient.open(server.url, prefix=unique, try_timeout_s=10)
        yield RedisTokenBuckets(await stack.enter_async_context(opened))


async def test_a_full_bucket_gives_its_capacity_at_once(buckets: TokenBuckets) -> None:
    request = BucketRequest("a", SLOW, capacity=3)
    assert [await buckets.consume([request]) for _ in range(3)] == [None] * 3
    shortfall = await buckets.consume([request])
    assert shortfall is not None
    assert shortfall.request == request
    assert 900 < shortfall.wait_s <= 1000
    assert await buckets.consume([BucketRequest("b", SLOW, capacity=3)]) is None


async def test_after_wait_s_the_request_is_granted(buckets: TokenBuckets) -> None:
    request = BucketRequest("a", 20.0, capacity=2)
    for _ in range(3):
        while (shortfall := await buckets.consume([request])) is None:
            pass
        assert 0 < shortfall.wait_s <= 0.05
        await asyncio.sleep(shortfall.wait_s + 0.001)
        assert await buckets.consume([request]) is None


async def test_a_request_beyond_the_capacity_takes_a_full_bucket_into_debt(
    buckets: TokenBuckets,
) -> None:
    assert await buckets.consume([BucketRequest("a", 1.0, capacity=4, tokens=64)]) is None
    shortfall = await buckets.consume([BucketRequest("a", 1.0, capacity=4)])
    assert shortfall is not None
    assert 59 < shortfall.wait_s <= 61
    assert await buckets.consume([BucketRequest("b", SLOW, capacity=4)]) is None
    shortfall = await buckets.consume([BucketRequest("b", SLOW, capacity=4, tokens=64)])
    assert shortfall is not None
    assert 900 < shortfall.wait_s <= 1000


async def test_all_buckets_are_charged_or_none(buckets: TokenBuckets) -> None:
    plenty, short = BucketRequest("plenty", SLOW, capacity=2), BucketRequest("short", SLOW, capacity=1)
    assert await buckets.consume([plenty, short]) is None
    for _ in range(5):
        shortfall = await buckets.consume([plenty, short])
        assert shortfall is not None
        assert shortfall.request == short
    assert await buckets.consume([plenty]) is None
    longer = BucketRequest("plenty", SLOW / 10, capacity=1)
    for requests in ([short, longer], [longer, short]):
        shortfall = await buckets.consume(requests)
        assert shortfall is not None
        assert shortfall.request == longer


async def test_concurrent_requests_get_no_more_than_the_capacity(buckets: TokenBuckets) -> None:
    taken = await asyncio.gather(
        *(buckets.consume([BucketRequest("a", SLOW, capacity=10)]) for _ in range(50))
    )
    assert taken.count(None) == 10


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=40),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.integers(1, 8),
)
def test_a_bucket_agrees_with_a_textbook_token_bucket(
    calls: list[tuple[int, int]], per_s: float, burst: int
) -> None:
    """Compared with a textbook token bucket, whose level may fall below 0 for requests beyond its capacity."""
    now, level, before = 0.0, float(burst), 0.0
    buckets = LocalTokenBuckets(monotonic=lambda: now)

    async def run() -> None:
        nonlocal now, level, before
        for pause, amount in calls:
            now += pause / 8
            level = min(float(burst), level + (now - before) * per_s)
            before = now
            needed = min(amount, burst) - level
            shortfall = await buckets.consume([BucketRequest("a", per_s, burst, amount)])
            if needed > 0:
                assert shortfall is not None
                assert shortfall.wait_s == pytest.approx(needed / per_s)
            else:
                assert shortfall is None
                level -= amount

    asyncio.run(run())


async def test_full_buckets_are_removed(unique: str, own_redis: RedisServer) -> None:
    now = 0.0
    local = LocalTokenBuckets(monotonic=lambda: now)
    for number in range(10_000):
        await local.consume([BucketRequest(str(number), 10.0, capacity=1)])
        now += 0.01
    assert len(local._full_at) < 2048
    with Redis.from_url(own_redis.url) as raw:
        async with RedisClient.open(own_redis.url, prefix=unique, try_timeout_s=10) as client:
            await RedisTokenBuckets(client).consume([BucketRequest("a", 10.0, capacity=20, tokens=3)])
            (name,) = raw.keys(f"{unique}:*")
            assert 0 < raw.pttl(name) <= 301


# --- whose limit it is -------------------------------------------------------------------------------------

KEY = Principal("t", frozenset(KeyScope), "k1")


async def passes(limits: RateLimits, principal: Principal, *agents: str, count: int = 1) -> bool:
    try:
        await limits.count_queries(principal, agents, count)
    except RateLimited:
        return False
    return True


async def test_every_key_has_its_own_limit() -> None:
    limits = RateLimits(queries_per_s=SLOW)
    for principal in (KEY, Principal("t", KEY.scopes, "k2"), Principal("u", KEY.scopes, "k1"), ANONYMOUS):
        assert [await passes(limits, principal) for _ in range(2)] == [True, False]


async def test_every_agent_of_a_tenant_has_its_own_limit_whatever_the_key() -> None:
    limits = RateLimits(agent_queries_per_s=SLOW)
    assert await passes(limits, KEY, "a")
    assert not await passes(limits, Principal("t", KEY.scopes, "k2"), "a")
    assert not await passes(limits, KEY, "b", "a")
    assert await passes(limits, KEY, "b"), "who is refused has paid nothing"
    assert await passes(limits, Principal("u", KEY.scopes, "k1"), "a")
    assert await passes(limits, KEY)


async def test_one_agent_over_its_limit_leaves_the_key_to_the_others() -> None:
    limits = RateLimits(queries_per_s=SLOW, agent_queries_per_s=SLOW, burst_s=3000)
    assert [await passes(limits, KEY, "a", "a", "a") for _ in range(5)] == [True] + [False] * 4
    assert [await passes(limits, KEY, agent) for agent in "bcd"] == [True, True, False]


async def test_the_capacity_is_two_seconds_worth_and_at_least_one() -> None:
    limits = RateLimits(queries_per_s=3, burst_s=2)
    assert await passes(limits, KEY, count=6)
    with pytest.raises(RateLimited, match=r"more than 3 queries per second with this key") as refused:
        await limits.count_queries(KEY)
    assert 0 < refused.value.retry_after_ms <= 334


async def test_the_default_is_no_limit() -> None:
    limits = RateLimits()
    for _ in range(1000):
        await limits.count_queries(KEY, ["a"] * 64, 64)
        await limits.count_events(KEY, 1000)
    await RateLimits(events_per_s=SLOW).count_events(KEY, 0)


# --- Redis away --------------------------------------------------------------------------------------------


async def test_processes_share_the_buckets_in_redis(own_redis: RedisServer) -> None:
    async with (
        RedisClient.open(own_redis.url, try_timeout_s=10) as one,
        RedisClient.open(own_redis.url, try_timeout_s=10) as two,
    ):
        first = RateLimits(queries_per_s=SLOW, shared=RedisTokenBuckets(one))
        second = RateLimits(queries_per_s=SLOW, shared=RedisTokenBuckets(two))
        assert await passes(first, KEY)
        assert not await passes(second, KEY)


async def test_without_redis_each_process_counts_in_its_memory(own_redis: RedisServer) -> None:
    async with RedisClient.open(own_redis.url) as client:
        limits = RateLimits(queries_per_s=SLOW, burst_s=2000, shared=RedisTokenBuckets(client))
        own_redis.kill()
        assert [await passes(limits, KEY) for _ in range(4)] == [True, True, False, False]


async def test_an_invalid_value_in_redis_is_no_error(own_redis: RedisServer) -> None:
    async with RedisClient.open(own_redis.url, try_timeout_s=10) as client:
        limits = RateLimits(queries_per_s=SLOW, shared=RedisTokenBuckets(client))
        assert await passes(limits, KEY)
        with Redis.from_url(own_redis.url) as raw:
            (name,) = raw.keys("lorestream:l:*")
            raw.delete(name)
            raw.lpush(name, "somebody else's")
        assert [await passes(limits, KEY) for _ in range(2)] == [True, False]


# --- what callers see --------------------------------------------------------------------------------------


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_parts(tmp_path / "data") as opened:
        yield opened


@contextlib.asynccontextmanager
async def service(runtime: Runtime, limits: RateLimits, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client of an application with these rate limits."""
    operations = [
        *writes.operations(Gateway.over(runtime), limits),
        *reads.operations(CurrentRecall(runtime), limits),
    ]
    app = application("lorestream", operations, metrics=runtime.metrics, **options)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://lorestream") as client:
        yield client


SEARCH = {"agent_id": "a", "query": "x"}
READS = [
    ("POST", "/v1/memories/search", SEARCH),
    ("POST", "/v1/memories/search/batch", {"searches": [SEARCH]}),
    ("POST", "/memory/get", SEARCH),
    ("POST", "/v1/agents/a/context", {}),
    ("GET", "/v1/agents/a/memories", None),
    ("GET", "/v1/agents/a/summary", None),
    ("GET", "/v1/memories/x?agent_id=a", None),
]


def refused(answer: httpx2.Response) -> bool:
    """Whether the response is 429; then body and headers must agree."""
    if answer.status_code != 429:
        assert answer.status_code in {200, 202, 404}, answer.text
        return False
    body = answer.json()
    assert body["error"]["code"] == "rate_limited"
    assert body["retry_after_ms"] == body["error"]["retry_after_ms"] > 0
    assert int(answer.headers["retry-after"]) * 1000 >= body["retry_after_ms"]
    return True


@pytest.mark.parametrize("limit", ["queries_per_s", "agent_queries_per_s"])
async def test_every_read_counts(runtime: Runtime, limit: str) -> None:
    for method, path, body in READS:
        async with service(runtime, RateLimits(**{limit: SLOW})) as client:
            counted = [refused(await client.request(method, path, json=body)) for _ in range(2)]
            assert counted == [False, True], path


async def test_the_list_of_agents_counts_for_the_key(runtime: Runtime) -> None:
    async with service(runtime, RateLimits(queries_per_s=SLOW, agent_queries_per_s=SLOW)) as client:
        assert [refused(await client.get("/v1/agents")) for _ in range(2)] == [False, True]


async def test_a_batch_counts_as_many_as_it_has_searches(runtime: Runtime) -> None:
    searches = [{"agent_id": name, "query": "x"} for name in "abb"] + [{"k": "nonsense"}]
    async with service(runtime, RateLimits(queries_per_s=SLOW, burst_s=5000)) as client:
        path = "/v1/memories/search/batch"
        assert not refused(await client.post(path, json={"searches": searches}))
        assert refused(await client.post(path, json={"searches": searches}))
        assert not refused(await client.post(path, json={"searches": searches[:1]}))
        assert refused(await client.post(path, json={"searches": searches[:1]}))
        assert not refused(await client.post(path, json={"searches": []}))
    async with service(runtime, RateLimits(agent_queries_per_s=SLOW, burst_s=2000)) as client:
        assert not refused(await client.post(path, json={"searches": searches}))
        assert refused(await client.post(path, json={"searches": searches[1:2]}))
        assert not refused(await client.post(path, json={"searches": searches[:1]}))


async def test_over_the_limit_no_search_runs(runtime: Runtime) -> None:
    async with service(runtime, RateLimits(queries_per_s=SLOW)) as client:
        await client.post("/v1/memories/search", json=SEARCH)
        value = runtime.metrics.registry.get_sample_value
        counted = value("lorestream_cache_requests_total", {"result": "miss"})
        assert counted
        assert refused(await client.post("/v1/memories/search", json={**SEARCH, "query": "y"}))
        assert value("lorestream_cache_requests_total", {"result": "miss"}) == counted
        assert not value("lorestream_cache_requests_total", {"result": "hit"})


async def test_several_names_of_one_player_are_one_agent(runtime: Runtime) -> None:
    [stored] = runtime.pseudonyms.agents("default", "player:ann")
    async with service(runtime, RateLimits(agent_queries_per_s=SLOW)) as client:
        assert not refused(await client.post("/v1/memories/search", json={"agent_id": "player:ann"}))
        assert refused(await client.post("/v1/memories/search", json={"agent_ids": ["b", stored]}))


async def test_events_count_one_by_one_and_nothing_of_a_refused_request_is_accepted(runtime: Runtime) -> None:
    def events(count: int) -> dict[str, Any]:
        return {"events": [{"agent_id": "a", "text": f"{n}"} for n in range(count)]}

    async with service(runtime, RateLimits(events_per_s=SLOW, burst_s=5000)) as client:
        assert not refused(await client.post("/v1/events", json=events(4)))
        before = await runtime.log.end()
        assert refused(await client.post("/v1/events", json=events(2)))
        assert await runtime.log.end() == before
        assert not refused(await client.post("/memory/put", json={"agent_id": "a", "text": "x"}))
        assert refused(await client.post("/memory/put", json={"agent_id": "a", "text": "x"}))
        value = runtime.metrics.registry.get_sample_value
        labels = {"result": "refused", "reason": "rate_limited"}
        assert value("lorestream_ingest_events_total", labels) == 3
        assert not refused(await client.post("/v1/memories/search", json=SEARCH)), "events are no queries"


async def test_each_key_has_its_own_count(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    one, two = bearer(path), bearer(path)
    authenticator = ApiKeyAuthenticator(path, ShiftedClock())
    async with service(runtime, RateLimits(queries_per_s=SLOW), authenticator=authenticator) as client:
        for authorization in (one, two):
            headers = {"Authorization": authorization}
            answers = [await client.get("/v1/agents", headers=headers) for _ in range(2)]
            assert [refused(answer) for answer in answers] == [False, True]
        assert (await client.get("/v1/agents")).status_code == 401


async def test_the_same_limits_hold_over_grpc(runtime: Runtime) -> None:
    limits = RateLimits(queries_per_s=SLOW, events_per_s=SLOW)
    handlers = Handlers(
        put=Writes(Gateway.over(runtime), limits).put, get=Reads(CurrentRecall(runtime), limits).get
    )
    async with (
        serving(handlers, "127.0.0.1", 0) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        for call, request in (
            (stub.GetMemory, pb.GetMemoryRequest(agent_id="a", query_text="x")),
            (stub.PutMemory, pb.PutMemoryRequest(agent_id="a", text="x")),
        ):
            await call(request, timeout=10)
            with pytest.raises(grpc.aio.AioRpcError, match="per second with this key") as caught:
                await call(request, timeout=10)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
