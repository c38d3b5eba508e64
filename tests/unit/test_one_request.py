"""The reads of one request over a Qdrant server: the same answers as one by one, in fewer calls."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.adapters.qdrant.server import one_request
from lorestream.memories import (
    AroundQuery,
    Condition,
    Field,
    HybridQuery,
    KeywordQuery,
    Op,
    Scope,
    VectorQuery,
)
from lorestream.ports import Tombstone
from tests.contracts.stored import EAST, NOW, START, memory

ANCHORS = 10
SPAN = 2
SCOPE = Scope("default", ("a",))
pytestmark = pytest.mark.service


@contextlib.asynccontextmanager
async def counted(qdrant):
    """A store, and the names of the calls to its server."""
    async with qdrant.store() as store:
        calls = []
        connection = store._served.connection
        send = connection.send

        async def note(method, request, **options):
            calls.append(method._method.decode().rpartition("/")[2])
            return await send(method, request, **options)

        connection.send = note
        yield store, calls


async def fill(store, count, **fields):
    """Memories of agent a, a minute apart, with words and vectors that are alike in different ways."""
    kept = [
        memory(
            f"m{n:03}",
            text=f"iron {'ore ' * (n % 4)}{'coal' if n % 3 else 'wood'}",
            timestamp=START + 60 * n,
            **fields,
        )
        for n in range(count)
    ]
    angles = np.array([[math.cos(n / 99), math.sin(n / 99), 0, 0] for n in range(count)], np.float32)
    await store.insert(kept, angles)
    return kept


async def read(store, query):
    """What a search reads: hits, the memories next to the first ones, and their scores."""
    hits = await store.search(query)
    anchors = [hit.memory for hit in hits[:ANCHORS]]
    around = await store.around(AroundQuery(anchors, SPAN, 120.0, NOW))
    others = [one for beside in around for one in (*beside.before, *beside.behind) if one not in anchors]
    scored = await store.relevance(query, others, hits[0])
    return (
        [hit.memory for hit in hits],
        around,
        {hit.memory.id: hit.relevance for hit in (*hits, *scored)},
    )


def alike(answer):
    """For comparisons: scores to 6 digits."""
    memories, around, scores = answer
    return memories, around, pytest.approx(scores)


def hybrid(k=ANCHORS, scope=SCOPE, **fields):
    return HybridQuery(scope, EAST, "ore and coal", k, NOW, **fields)


@pytest.mark.parametrize(
    ("count", "calls"),
    [
        # Lists and timeline; memories.
        (one_request.TIMELINE - 1, ["QueryBatch", "Get"]),
        # The scores that the short lists end before, memories, pages of neighbours, and their scores.
        (one_request.TIMELINE, ["QueryBatch", "QueryBatch", "Get", "QueryBatch", "QueryBatch"]),
    ],
)
async def test_a_hybrid_search_with_neighbours_takes_few_calls(qdrant, count, calls):
    async with counted(qdrant) as (store, made):
        await fill(store, count)
        expected = alike(await read(store, hybrid()))
        await read(store.for_request(ANCHORS, SPAN), hybrid())
        made.clear()
        assert await read(store.for_request(ANCHORS, SPAN), hybrid()) == expected
        assert made == calls


@pytest.mark.parametrize("agents", [("a",), ("a", "another name, without memories")])
async def test_the_timeline_of_a_large_agent_is_read_once(qdrant, monkeypatch, agents):
    monkeypatch.setattr(one_request, "TIMELINE", 40)
    query = hybrid(scope=Scope("default", agents))
    async with counted(qdrant) as (store, made):
        await fill(store, 41)
        expected = alike(await read(store, query))
        for _ in range(2):
            made.clear()
            assert await read(store.for_request(ANCHORS, SPAN), query) == expected
            assert made.count("QueryBatch") == 2  # lists, the first time with the timeline; pages
        limits = []
        query_all = one_request.OneRequest._query_all

        async def note(self, queries):
            limits.extend(one.limit for one in queries)
            return await query_all(self, queries)

        monkeypatch.setattr(one_request.OneRequest, "_query_all", note)
        await read(store.for_request(ANCHORS, SPAN), query)
        assert limits
        assert 40 not in limits


async def test_a_memory_that_is_deleted_between_two_calls_is_missing(qdrant):
    async with qdrant.store() as store:
        kept = await fill(store, 20)
        first = (await read(store, hybrid()))[0][0]
        place = kept.index(first)
        gone = {first.id, kept[place + 1].id}
        view = store.for_request(ANCHORS, SPAN)
        query_all = view._engine._query_all

        async def then_delete(queries):
            found = await query_all(queries)
            await store.put_tombstones([Tombstone("default", "a", one, NOW) for one in gone])
            return found

        view._engine._query_all = then_delete
        memories, around, _ = await read(view, hybrid())
        assert memories
        shown = [*memories, *(one for beside in around for one in (*beside.before, *beside.behind))]
        assert not gone & {one.id for one in shown}


async def test_lists_that_were_read_whole_are_not_asked_for_again(qdrant):
    async with counted(qdrant) as (store, made):
        await fill(store, 100, type="dig")
        expected = alike(await read(store, hybrid(k=60)))
        made.clear()
        assert await read(store.for_request(ANCHORS, SPAN), hybrid(k=60)) == expected
        assert made.count("QueryBatch") <= 2
        dig = {"filter": Condition(Field(("type",)), Op.EQ, "dig")}
        expected = alike(await read(store, hybrid(**dig)))
        made.clear()
        assert await read(store.for_request(ANCHORS, SPAN), hybrid(**dig)) == expected
        assert made == ["QueryBatch", "Get"]


async def test_nothing_is_kept_for_the_next_request(qdrant):
    async with counted(qdrant) as (store, _):
        kept = await fill(store, 5)
        first, _, _ = await read(store.for_request(ANCHORS, SPAN), hybrid())
        added = memory("added", text="ore and coal", timestamp=START + 30)
        await store.insert([added], np.array([EAST], np.float32))
        hits, around, _ = await read(store.for_request(ANCHORS, SPAN), hybrid())
        assert added not in first
        assert hits[0] == added
        assert added in around[hits.index(kept[0])].behind


@given(
    drawn=st.lists(
        st.tuples(
            st.sampled_from([0.0, 1.0, 30.0, 61.0, 200.0]),
            st.sampled_from([None, None, "inn", 7]),
            st.sampled_from(["a", "b"]),
            st.sampled_from(["ore", "coal", "ore and coal", "wood"]),
            st.sampled_from(["say", "dig"]),
        ),
        min_size=1,
        max_size=40,
    ),
    kind=st.sampled_from(["hybrid", "dense", "keyword"]),
    agents=st.sampled_from([("a",), ("b",), ("a", "b"), None]),
    filtered=st.booleans(),
    timeline=st.sampled_from([3, 20, 512]),
    shard_keys=st.sampled_from([0, 3]),
)
@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
async def test_the_answers_are_those_of_separate_reads(
    qdrant, monkeypatch, *, drawn, kind, agents, filtered, timeline, shard_keys
):
    monkeypatch.setattr(one_request, "TIMELINE", timeline)
    async with qdrant.store(shard_keys=shard_keys) as store:
        kept = [
            memory(
                f"m{n}",
                agent_id=agent,
                text=text,
                type=type_,
                timestamp=START + second,
                metadata={} if talk is None else {"conversation": talk},
            )
            for n, (second, talk, agent, text, type_) in enumerate(drawn)
        ]
        turned = np.array([[math.cos(n / 9), math.sin(n / 9), 0, 0] for n in range(len(kept))], np.float32)
        await store.insert(kept, turned)
        scope = Scope("default", agents)
        fields = {"filter": Condition(Field(("type",)), Op.EQ, "dig")} if filtered else {}
        query = {
            "dense": VectorQuery(scope, EAST, ANCHORS, NOW, **fields),
            "keyword": KeywordQuery(scope, "ore and coal", ANCHORS, NOW, **fields),
            "hybrid": HybridQuery(scope, EAST, "ore and coal", ANCHORS, NOW, **fields),
        }[kind]
        if await store.search(query):
            assert await read(store.for_request(ANCHORS, SPAN), query) == alike(await read(store, query))
