"""Recall over real parts: caching and expiry, single flight, overload, and what must never be returned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lorestream.access.authentication import ANONYMOUS, Principal
from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidRequest, Overloaded, Unavailable
from lorestream.grpc.memory_pb2 import GetMemoryResponse
from lorestream.http.request import HttpError
from lorestream.memories import Erasure, SubjectKind
from lorestream.tokens import token
from lorestream.wiring import Runtime
from query_service import recall, retrieval
from query_service.queries import parse_search
from query_service.rpc import Reads
from query_service.schemas import Search
from tests.parts import Faulty, ReadsItself, open_parts, put
from tests.retrieval.reader import NOW, Reader, over


def do_nothing(*_args: object, **_kwargs: object) -> None:
    """A fault injection that does nothing: the call is only counted."""


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_parts(tmp_path) as opened:
        yield opened


@pytest.fixture
async def reader(runtime: Runtime) -> AsyncIterator[Reader]:
    async with over(runtime) as opened:
        yield opened


def cache_requests(reader: Reader, result: str) -> float:
    """The value of the metric of cache requests with this result."""
    return (
        reader.runtime.metrics.registry.get_sample_value(
            "lorestream_cache_requests_total", {"result": result}
        )
        or 0
    )


# --- the cache -------------------------------------------------------------------------------------------


async def test_an_equal_query_is_answered_from_the_cache(reader: Reader) -> None:
    await reader.remember("one")
    first, second = [await reader.search("one", explain=True) for _ in range(2)]
    assert (first["cache"], second["cache"]) == ("miss", "hit")
    assert second["memories"] == first["memories"] != []
    assert (cache_requests(reader, "miss"), cache_requests(reader, "hit")) == (1, 1)


async def test_wait_and_number_format_are_not_part_of_the_cache_key(reader: Reader) -> None:
    await reader.search("one", filters={"a": 1, "b": 2})
    assert (await reader.search("one", filters={"b": 2, "a": 1}, wait_ms=7.0, k=5.0))["cache"] == "hit"


OTHER_QUERIES = [
    {"query": "two"},
    {"query": None},
    {"k": 6},
    {"filters": {"type": "dig"}},
    {"filters": {"AND": []}},
    {"filters": {"OR": []}},
    {"near": {"x": 1, "radius": 1}},
    {"near": {"y": 1, "radius": 1}},
    {"weights": {"recency": 1}},
    {"mode": "keyword"},
    {"mode": "dense"},
    {"weights": {"normalise": True}},
    {"min_score": 0.1},
    {"explain": True},
    {"agent_id": "b"},
]


async def test_a_different_query_has_another_cache_entry(reader: Reader) -> None:
    await reader.search("one")
    for other in OTHER_QUERIES:
        body = {"agent_id": "a", "query": "one", **other}
        assert (await reader.post("/v1/memories/search", body)).json()["cache"] == "miss", other


async def test_the_older_form_has_its_own_cache_entries(reader: Reader) -> None:
    await reader.remember("one")
    await reader.search("one")
    body = {"agent_id": "a", "query": "one"}
    answers = [(await reader.post("/memory/get", body)).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0]["memories"][0].keys() == {"agent_id", "text", "metadata", "timestamp", "score"}
    assert (cache_requests(reader, "miss"), cache_requests(reader, "hit")) == (2, 1)


async def test_two_names_of_one_agent_do_not_share_an_answer(reader: Reader) -> None:
    stored, _ = reader.runtime.pseudonyms.agent("default", "player:ann")
    await reader.remember("one", agent=stored)
    for name in ("player:ann", stored):
        [memory] = (await reader.search("one", agent_id=name))["memories"]
        assert memory["agent_id"] == name


async def test_a_completed_write_of_the_agent_invalidates_its_answers(reader: Reader) -> None:
    await reader.search("one")
    await reader.remember("foreign", agent="b")
    assert (await reader.search("one"))["cache"] == "hit"
    await reader.remember("one")
    answer = await reader.search("one")
    assert answer["cache"] == "miss"
    assert [memory["text"] for memory in answer["memories"]] == ["one"]


async def test_an_answer_computed_during_a_write_is_not_served_after_it(runtime: Runtime) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Paused(ReadsItself):
        """The store, pausing after each search."""

        cost = runtime.store.cost
        around = runtime.store.around
        relevance = runtime.store.relevance

        async def search(self, query: Any) -> Any:
            hits = await runtime.store.search(query)
            begun.set()
            await go_on.wait()
            return hits

    async with over(runtime, store=Paused()) as reader:
        early = asyncio.create_task(reader.search("one"))
        await begun.wait()
        await reader.remember("one")
        # This one starts after the write: it must not join the computation that started before.
        late = asyncio.create_task(reader.search("one"))
        go_on.set()
        assert (await early)["memories"] == []
        assert [memory["text"] for memory in (await late)["memories"]] == ["one"]
        assert [memory["text"] for memory in (await reader.search("one"))["memories"]] == ["one"]


@pytest.mark.parametrize(
    ("life_s", "body", "expires_in_s"),
    [
        (60, {}, None),
        (60, {}, 600),
        (7, {}, 7),
        (60, {"weights": {"recency": 1}}, None),
        (2, {"weights": {"recency": 1, "half_life_s": 200}}, None),
        (60, {"weights": {"importance": 1, "half_life_s": 200}}, None),
    ],
)
async def test_ttl_of_an_answer(
    reader: Reader, life_s: float, body: dict[str, Any], expires_in_s: float | None
) -> None:
    await reader.remember("one", expires_at=None if expires_in_s is None else NOW + expires_in_s)
    await reader.search("one", **body)
    reader.clock.time = NOW + life_s - 0.001
    assert (await reader.search("one", **body))["cache"] == "hit"
    reader.clock.time = NOW + life_s
    answer = await reader.search("one", **body)
    assert answer["cache"] == "miss"
    assert len(answer["memories"]) == (0 if expires_in_s == life_s else 1)


async def test_a_clock_set_back_does_not_prolong_an_answer(reader: Reader) -> None:
    await reader.search("one")
    reader.clock.time = NOW - 3600
    assert (await reader.search("one"))["cache"] == "miss"


async def test_without_a_cache_the_state_is_off(runtime: Runtime) -> None:
    async with over(runtime, cache=None) as reader:
        await reader.remember("one")
        for _ in range(2):
            answer = await reader.search("one")
            assert (answer["cache"], len(answer["memories"])) == ("off", 1)


async def test_an_agent_in_several_stored_forms_is_cached(tmp_path: Path) -> None:
    async with open_parts(tmp_path, player_key="k2:new,k1:old") as runtime, over(runtime) as reader:
        forms = runtime.pseudonyms.agents("default", "player:ann")
        for form in forms:
            await reader.remember("one", agent=form)
        for state in ("miss", "hit"):
            answer = await reader.search("one", agent_id="player:ann")
            assert answer["cache"] == state
            assert [memory["agent_id"] for memory in answer["memories"]] == ["player:ann"] * 2


# --- single flight ---------------------------------------------------------------------------------------


async def test_concurrent_equal_queries_are_computed_once(runtime: Runtime) -> None:
    store = Faulty(runtime.store, search=do_nothing)
    async with over(runtime, store=store) as reader:
        await reader.remember("one")
        answers = await asyncio.gather(*(reader.search("one") for _ in range(20)))
        assert store.calls == ["search"]
        assert all(answer["memories"] == answers[0]["memories"] != [] for answer in answers)


async def test_cancelling_one_caller_does_not_affect_the_others(runtime: Runtime) -> None:
    go_on = asyncio.Event()

    class Paused(ReadsItself):
        """The store, pausing before each search."""

        cost = runtime.store.cost
        around = runtime.store.around
        relevance = runtime.store.relevance

        async def search(self, query: Any) -> Any:
            await go_on.wait()
            return await runtime.store.search(query)

    async with over(runtime, store=Paused()) as reader:
        await reader.remember("one")
        first, second = (asyncio.create_task(reader.search("one")) for _ in range(2))
        while not reader.recall.answers.in_flight:
            await asyncio.sleep(0)
        first.cancel()
        go_on.set()
        assert [memory["text"] for memory in (await second)["memories"]] == ["one"]


async def test_callers_do_not_wait_for_the_cache_write(runtime: Runtime) -> None:
    go_on = asyncio.Event()
    assert runtime.cache is not None

    class Paused:
        """The cache, pausing before each write."""

        get = runtime.cache.get

        async def put(self, *entry: Any) -> None:
            await go_on.wait()
            await runtime.cache.put(*entry)

    async with over(runtime, cache=Paused()) as reader:
        await reader.remember("one")
        async with asyncio.timeout(10):
            assert (await reader.search("one"))["cache"] == "miss"
            assert (await reader.search("one"))["cache"] == "miss"
            go_on.set()
            while (await reader.search("one"))["cache"] != "hit":
                pass


async def test_after_a_failed_computation_the_next_query_computes_again(runtime: Runtime) -> None:
    store = Faulty(runtime.store, search=do_nothing)

    def fail(*_args: object) -> None:
        raise Unavailable("down")

    async with over(runtime, store=store) as reader:
        await reader.remember("one")
        store.fail["search"] = fail
        answers = await asyncio.gather(
            *(reader.post("/v1/memories/search", {"agent_id": "a", "query": "one"}) for _ in range(3))
        )
        assert [answer.status_code for answer in answers] == [503] * 3
        store.fail["search"] = do_nothing
        assert await reader.texts("one") == ["one"]


async def test_the_queries_of_a_batch_are_embedded_together(runtime: Runtime) -> None:
    asked: list[list[str]] = []

    def embed(queries: list[str], *_args: object) -> None:
        asked.append(list(queries))

    store = Faulty(runtime.store, search=do_nothing)
    async with over(runtime, store=store, embedder=Faulty(runtime.embedder, embed=embed)) as reader:
        for text in ("one", "two", "three"):
            await reader.remember(text)
        asked.clear()
        await reader.search("three")
        searches = [
            *({"agent_id": "a", "query": query} for query in ("one", "two", "one", "three")),
            {"agent_id": "a"},
            {"agent_ids": ["a", "b"], "query": "two"},
            {"agent_id": "a", "query": "one", "k": 0},
        ]
        answer = (await reader.post("/v1/memories/search/batch", {"searches": searches})).json()
        assert asked == [["three"], ["one", "two"]]
        # Equal searches are computed once, the cached one is not, and the one without a query reads a page.
        assert store.calls == ["search"] * 4
        results = answer["results"]
        best = [result["memories"][0]["text"] for result in results[:4]]
        assert best == ["one", "two", "one", "three"]
        assert [result.get("cache") for result in results] == ["miss"] * 3 + ["hit", "miss", "off", None]
        assert results[5]["memories"][0]["text"] == "two"
        assert results[6]["error"]["details"]["path"] == "k"
        alone = await reader.search("two")
        assert (alone["cache"], alone["memories"]) == ("hit", results[1]["memories"])


async def test_a_text_rejected_by_the_endpoint_rejects_only_its_search(runtime: Runtime) -> None:
    def embed(queries: list[str], *_args: object) -> None:
        if "ill" in queries:
            raise InvalidRequest("the endpoint does not take this text")

    async with over(runtime, embedder=Faulty(runtime.embedder, embed=embed)) as reader:
        await reader.remember("well")
        searches = [{"agent_id": "a", "query": query} for query in ("well", "ill", "well")]
        answer = await reader.post("/v1/memories/search/batch", {"searches": searches})
        first, second, third = answer.json()["results"]
        assert first["memories"] == third["memories"] != []
        assert second["error"]["code"] == "invalid_request"


class BlockedEmbedder:
    """An embedder that never returns."""

    def __init__(self, runtime: Runtime) -> None:
        self.model_id = runtime.embedder.model_id
        self.failure: str | None = None
        self.waiting = 0

    async def embed(self, *_args: object) -> None:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1


async def test_embedding_of_a_query_times_out(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "EMBEDDING_TIMEOUT_S", 0.05)
    blocked = BlockedEmbedder(runtime)
    async with over(runtime, embedder=blocked) as reader:
        search = {"agent_id": "a", "query": "one"}
        for path, body in (
            ("/v1/memories/search", search),
            ("/v1/memories/search/batch", {"searches": [search]}),
            ("/v1/agents/a/context", {"query": "one"}),
        ):
            answer = await reader.post(path, body)
            assert answer.status_code == 429
            assert answer.json()["error"]["code"] == "overloaded"
        assert blocked.waiting == 0, "cancelled calls are removed from the queue"


async def test_a_query_that_waited_for_a_failing_model_gets_an_outage(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "EMBEDDING_TIMEOUT_S", 0.0)
    blocked = BlockedEmbedder(runtime)
    blocked.failure = "models.example answered 500"
    async with over(runtime, embedder=blocked) as reader:
        answer = await reader.post("/v1/memories/search", {"agent_id": "a", "query": "one"})
    assert answer.status_code == 503
    assert "models.example answered 500" in answer.json()["error"]["message"]


async def test_concurrent_searches_are_limited(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MAX_CONCURRENT_SEARCHES", 3)
    blocked = BlockedEmbedder(runtime)
    async with over(runtime) as reader:
        await reader.search("kept")
    async with over(runtime, embedder=blocked) as reader:
        waiting = [asyncio.create_task(reader.search(f"{n}")) for n in range(3)]
        while blocked.waiting < 3:
            await asyncio.sleep(0)
        for path, body in (
            ("/v1/memories/search", {"agent_id": "a"}),
            ("/v1/agents/a/context", {}),
            ("/memory/get", {"agent_id": "a", "query": "x"}),
        ):
            answer = await reader.post(path, body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
        kept = {"searches": [{"agent_id": "a", "query": "kept"}]}
        [result] = (await reader.post("/v1/memories/search/batch", kept)).json()["results"]
        assert result["cache"] == "hit"
        joined = asyncio.create_task(reader.search("0"))  # joins the first: not counted
        await asyncio.sleep(0.01)
        assert not joined.done()
        for task in (*waiting, joined):
            task.cancel()
        await asyncio.wait([*waiting, joined])


async def test_failed_searches_do_not_count_as_in_flight(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "MAX_CONCURRENT_SEARCHES", 1)

    def fail(*_args: object) -> None:
        raise Unavailable("down")

    store = Faulty(runtime.store, search=fail)
    async with over(runtime, store=store) as reader:
        for _ in range(3):
            answer = await reader.post("/v1/memories/search", {"agent_id": "a", "query": "one"})
            assert answer.status_code == 503
        store.fail["search"] = do_nothing
        for n in range(3):
            await reader.search(f"{n}")


async def test_a_full_embedder_queue_is_429(runtime: Runtime) -> None:
    def full(*_args: object) -> None:
        raise Overloaded("too many")

    async with over(runtime, embedder=Faulty(runtime.embedder, embed=full)) as reader:
        answer = await reader.post("/v1/memories/search", {"agent_id": "a", "query": "one"})
        assert answer.status_code == 429
        assert answer.json()["retry_after_ms"] == 1000


async def test_an_overloaded_read_refuses_only_itself(runtime: Runtime) -> None:
    def full(*_args: object) -> None:
        raise Overloaded("too many")

    async with over(runtime) as reader:
        await reader.remember("one")
        await reader.search("kept")
    searches = [
        {"agent_id": "a", "query": "one"},
        {"agent_id": "a", "query": "one", "mode": "keyword"},
        {"agent_id": "a", "query": "kept"},
        {"agent_id": "a"},
    ]
    async with over(runtime, embedder=Faulty(runtime.embedder, embed=full)) as reader:
        answer = await reader.post("/v1/memories/search/batch", {"searches": searches})
        refused, *found = answer.json()["results"]
        assert (refused["error"]["code"], refused["retry_after_ms"]) == ("overloaded", 1000)
        assert [one["memories"][0]["text"] for one in found] == ["one"] * 3
    failing = Faulty(runtime.store, search=full)
    async with over(runtime, store=failing) as reader:
        answer = await reader.post("/v1/memories/search/batch", {"searches": searches})
        assert ["error" in one for one in answer.json()["results"]] == [True, False, False, False]


async def test_a_batch_looks_into_the_cache_after_its_waits(runtime: Runtime) -> None:
    """What was cached may have changed while another read of the batch waited for its write."""
    waiting = asyncio.Event()
    go_on = asyncio.Event()

    class Slow:
        async def reached(self, _positions: object, _timeout_s: float) -> bool:
            waiting.set()
            await go_on.wait()
            return True

    async with over(runtime, watermarks=Slow()) as reader:
        await reader.remember("one")
        await reader.search("one")
        searches = [
            {"agent_id": "a", "query": "one"},
            {"agent_id": "b", "query": "one", "after": token({0: 7}), "wait_ms": 1000},
        ]
        batch = asyncio.ensure_future(reader.post("/v1/memories/search/batch", {"searches": searches}))
        await waiting.wait()
        await reader.remember("one more")
        go_on.set()
        first, second = (await batch).json()["results"]
        assert (len(first["memories"]), second["fresh"]) == (2, True)


# --- visibility --------------------------------------------------------------------------------------------


async def test_erased_memories_are_skipped_until_k_are_found(reader: Reader) -> None:
    await reader.write(
        *(put("same", event_id=f"gone {n}", at=NOW - 50 + n / 10, player="k1:x") for n in range(40)),
        *(put("same", event_id=f"left {n}", at=NOW - 100 + n) for n in range(3)),
    )
    erasure = Erasure("e", "default", SubjectKind.PLAYER, ("k1:x",), NOW)
    await reader.runtime.ledger.add(erasure)
    left = [NOW - 98, NOW - 99, NOW - 100]
    for body in ({"query": "same"}, {"query": None}, {"query": "same", "weights": {"recency": 1}}):
        found = (await reader.search(body.pop("query"), k=3, **body))["memories"]
        assert [memory["timestamp"] for memory in found] == left
    page = await reader.get("/v1/agents/a/memories", limit=2)
    assert [memory["timestamp"] for memory in page["memories"]] == left[:2]
    page = await reader.get("/v1/agents/a/memories", limit=2, cursor=page["next_cursor"])
    assert ([memory["timestamp"] for memory in page["memories"]], page["next_cursor"]) == (left[2:], None)


async def test_expired_memories_are_not_returned_by_any_read(reader: Reader) -> None:
    await reader.remember("one", expires_at=NOW + 5)
    reader.clock.time = NOW + 5
    assert await reader.texts("one") == await reader.texts() == []
    assert (await reader.get("/v1/agents/a/memories"))["total"] == 0
    assert (await reader.get("/v1/agents/a/summary"))["total"] == 0
    assert (await reader.get("/v1/agents"))["agents"] == []


async def test_memories_outside_the_scope_are_not_returned_even_if_the_store_returns_them(
    runtime: Runtime,
) -> None:
    class Unscoped(ReadsItself):
        """A store that also returns memories of another agent."""

        cost = runtime.store.cost
        around = runtime.store.around
        relevance = runtime.store.relevance

        async def search(self, query: Any) -> Any:
            return [hit for agent in ("a", "b") for hit in await runtime.store.search(self._of(query, agent))]

        async def page(self, query: Any) -> Any:
            return [one for agent in ("a", "b") for one in await runtime.store.page(self._of(query, agent))]

        def _of(self, query: Any, agent: str) -> Any:
            values = {name: getattr(query, name) for name in query.__dataclass_fields__}
            return type(query)(**{**values, "scope": type(query.scope)("default", (agent,))})

    async with over(runtime, store=Unscoped()) as reader:
        await reader.remember("mine")
        await reader.remember("foreign", agent="b")
        assert await reader.texts("foreign") == ["mine"]
        assert await reader.texts() == ["mine"]


# --- access, metrics ----------------------------------------------------------------------------------------


async def test_tenant_scope_needs_admin(reader: Reader) -> None:
    pseudonyms = reader.runtime.pseudonyms
    search = Search(scope="tenant", query="x")
    assert parse_search(search, ANONYMOUS, pseudonyms).agents.scope.agents is None
    with pytest.raises(HttpError) as refused:
        parse_search(search, Principal("default", frozenset({KeyScope.QUERY})), pseudonyms)
    assert (refused.value.status, refused.value.code) == (403, "forbidden")


async def test_a_query_is_limited_to_the_callers_tenant(reader: Reader) -> None:
    await reader.remember("mine", tenant="other")
    elsewhere = Principal("other", frozenset({KeyScope.QUERY}))
    reads = Reads(lambda: reader.recall)
    assert await reads.get(ANONYMOUS, "a", "mine", 5, None) == b""
    [found] = GetMemoryResponse.FromString(await reads.get(elsewhere, "a", "mine", 5, None)).memories
    assert found.text == "mine"


@pytest.mark.parametrize(
    ("arguments", "path"),
    [(("", "x", 5, None), "agent_id"), (("a", "", 5, None), "query"), (("a", "x", 101, None), "k")],
)
async def test_arguments_of_get_are_checked(reader: Reader, arguments: Any, path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await Reads(lambda: reader.recall).get(ANONYMOUS, *arguments)
    assert refused.value.path == path


async def test_query_duration_has_labels_api_and_cache(reader: Reader) -> None:
    await reader.search("one")
    await reader.search("one")
    await reader.get("/v1/agents")
    value = reader.runtime.metrics.registry.get_sample_value
    for api, cache in (("search", "miss"), ("search", "hit"), ("agents", "off")):
        assert value("lorestream_query_duration_seconds_count", {"api": api, "cache": cache}) == 1
    assert reader.recall.answers.in_flight == 0


async def test_each_stage_of_a_query_is_measured(reader: Reader) -> None:
    def counts() -> dict[str, float]:
        stages = ("wait", "cache", "embed", "search", "neighbours", "rerank", "rank", "encode", "excerpt")
        value = reader.runtime.metrics.registry.get_sample_value
        found = {each: value("lorestream_query_stage_seconds_count", {"stage": each}) for each in stages}
        return {stage: count for stage, count in found.items() if count}

    await reader.remember("one")
    plain = {"mode": "dense"}
    await reader.search("one", **plain)
    assert counts() == {"cache": 1, "embed": 1, "search": 1, "encode": 1}
    await reader.search("one", **plain)
    assert counts() == {"cache": 2, "embed": 1, "search": 1, "encode": 1}  # a hit
    await reader.search("one", mode="hybrid", neighbours=0.2, rerank=True, weights={"recency": 0.5})
    assert {"neighbours", "rerank", "rank"} <= counts().keys()
    await reader.post("/v1/agents/a/context", {"query": "one"})
    assert {"excerpt": 1}.items() <= counts().items()


async def test_grpc_reads_use_the_cache_and_the_metrics_as_http_does(reader: Reader) -> None:
    value = reader.runtime.metrics.registry.get_sample_value
    reads = Reads(lambda: reader.recall)

    async def texts() -> list[str]:
        answer = await reads.get(ANONYMOUS, "a", "one", 5, {"n": 1})
        return [memory.text for memory in GetMemoryResponse.FromString(answer).memories]

    await reader.remember("one", metadata={"n": 1})
    assert [await texts(), await texts()] == [["one"], ["one"]]
    await reader.remember("one more", metadata={"n": 1})
    assert sorted(await texts()) == ["one", "one more"]
    for cache, count in (("miss", 2), ("hit", 1)):
        assert value("lorestream_query_duration_seconds_count", {"api": "grpc", "cache": cache}) == count
        assert value("lorestream_cache_requests_total", {"result": cache}) == count
    body = {"agent_id": "a", "query": "one", "filters": {"n": 1}}
    assert (await reader.post("/memory/get", body)).json()["memories"][0]["text"] == "one"
