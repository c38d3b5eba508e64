"""The same calls on the embedded store and on a server return the same results."""

import contextlib
import dataclasses
import math
import uuid

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.memories import (
    EVERYTHING,
    Blend,
    Erasure,
    KeywordQuery,
    Memory,
    PageQuery,
    Scope,
    SubjectKind,
    VectorQuery,
)
from lorestream.ports import Tombstone
from tests.contracts.conftest import open_store
from tests.contracts.generated import filters, memories

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENTS = ["a", "b", "player:k1:x"]
IDS = [f"m{n}" for n in range(12)]
PLAYERS = [None, "k1:x", "k1:y"]
MOMENTS = [1.7e9 + n for n in range(5)]
TEXTS = ["t", "oak tree", "old oak oak", "pine tree by the mill", "mill", "?!", "the"]
QUERIES = [*TEXTS, "oak mill", "tree", ""]
VECTORS = [(1, 0, 0, 0), (0, 1, 0, 0), (0.6, 0.8, 0, 0), (0.8, 0.6, 0, 0), (0, 0, -1, 0), (-1, 0, 0, 0)]

agents = st.sampled_from(AGENTS)
ids = st.sampled_from(IDS)
moments = st.sampled_from(MOMENTS)
scopes = st.one_of(st.none(), st.lists(agents, max_size=3, unique=True).map(tuple))
some_filter = st.one_of(st.just(EVERYTHING), filters)
rows = st.one_of(
    st.sampled_from(VECTORS),
    st.integers(0, 2**32 - 1).map(lambda seed: tuple(np.random.default_rng(seed).standard_normal(4))),
)

kept = st.builds(
    lambda given, **own: {**given, **own},
    memories,
    id=ids,
    agent_id=agents,
    text=st.sampled_from(TEXTS),
    player=st.sampled_from(PLAYERS),
    agent_player=st.sampled_from(PLAYERS),
    accepted_at=moments,
    expires_at=st.one_of(st.none(), moments),
)
inserts = st.tuples(st.just("insert"), st.lists(st.tuples(kept, rows), min_size=1, max_size=10))
tombstone_calls = st.tuples(st.just("put_tombstones"), st.lists(st.tuples(agents, ids, moments), max_size=4))
erasures = st.tuples(
    st.just("erase"),
    st.one_of(
        st.tuples(st.just(SubjectKind.AGENT), st.lists(agents, max_size=2), moments),
        st.tuples(st.just(SubjectKind.PLAYER), st.lists(st.sampled_from(PLAYERS[1:]), max_size=2), moments),
    ),
)
sweeps = st.tuples(st.just("sweep"), st.tuples(moments, moments, st.integers(0, 5)))
searches = st.tuples(
    st.just("search"),
    st.tuples(
        scopes, rows, st.integers(0, 12), moments, some_filter, st.sampled_from([None, -1.0, 0.0, 0.5])
    ),
)
wordings = st.tuples(
    st.just("words"),
    st.tuples(scopes, st.sampled_from(QUERIES), st.integers(0, 12), moments, some_filter),
)
weights = st.dictionaries(
    st.sampled_from(["relevance", "recency", "importance"]), st.sampled_from([0.01, 0.3, 1.0]), min_size=1
)
blends = st.builds(Blend, weights, st.sampled_from([0.5, 86_400.0]), st.integers(1, 40))
weighings = st.tuples(
    st.just("blend"), st.tuples(scopes, rows, st.integers(0, 12), moments, some_filter, blends)
)
asked = st.one_of(searches, wordings, weighings)
pages = st.tuples(st.just("page"), st.tuples(scopes, st.integers(1, 8), moments, some_filter, st.booleans()))
gets = st.tuples(st.just("get"), st.tuples(agents, ids, moments))
listings = st.tuples(st.just("agents"), st.tuples(scopes, st.integers(0, 4), moments))
calls = st.lists(
    st.one_of(
        inserts, inserts, tombstone_calls, erasures, sweeps, asked, asked, asked, pages, gets, listings
    ),
    min_size=1,
    max_size=14,
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(qdrant):
    """An embedded store and one on a server; each example has a tenant of its own."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_store(kind, None, qdrant)) for kind in ("edge", "server")]


@given(script=calls)
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
async def test_the_same_calls_return_the_same_results(both, script):
    tenant = uuid.uuid4().hex
    try:
        for name, given_ in script:
            await _compare(both, tenant, name, given_)
    finally:  # a sweep covers all tenants: leave nothing for that of another example
        for store in both:
            await store.sweep(expired_before=math.inf, tombstones_before=math.inf, limit=10_000)


@given(
    stored=st.lists(st.tuples(kept, rows), min_size=5, max_size=40),
    asked=st.lists(asked, min_size=8, max_size=8),
)
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
async def test_many_searches_over_one_corpus(both, stored, asked):
    tenant = uuid.uuid4().hex
    for store in both:
        await _call(store, tenant, "insert", stored)
    for name, given_ in asked:
        await _compare(both, tenant, name, given_)


async def _compare(both, tenant, name, given_):
    embedded, served = [await _call(store, tenant, name, given_) for store in both]
    # Two builds of the engine may differ in the last bit of a score.
    if name in {"search", "words"}:
        nearness = [[hit.relevance for hit in hits] for hits in (embedded, served)]
        assert nearness[0] == pytest.approx(nearness[1], abs=1e-6)
        embedded, served = [[hit.memory for hit in hits] for hits in (embedded, served)]
    if name == "blend":
        *_, now, _, blend = given_
        scores = [
            [blend.mean(blend.parts(hit.memory, hit.relevance, now)) for hit in hits]
            for hits in (embedded, served)
        ]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)
        return
    assert embedded == served, (name, given_)


async def _call(store, tenant, name, given_):
    """Make one call; return its result in a comparable form."""
    match name, given_:
        case "insert", list():
            made = [Memory(**{"tenant": tenant, **fields}) for fields, _ in given_]
            matrix = np.array([row for _, row in given_], np.float32)
            return await store.insert(made, matrix / np.linalg.norm(matrix, axis=1, keepdims=True))
        case "put_tombstones", list():
            return await store.put_tombstones([Tombstone(tenant, *one) for one in given_])
        case "erase", (kind, subjects, moment):
            return set(await store.erase(Erasure("e", tenant, kind, tuple(subjects), moment)))
        case "sweep", (expired, buried, limit):
            return await store.sweep(expired_before=expired, tombstones_before=buried, limit=limit)
        case "search", (scope, row, k, now, filter_, least):
            query = VectorQuery(Scope(tenant, scope), _unit(row), k, now, filter_, least)
            return await store.search(query)
        case "words", (scope, text, k, now, filter_):
            return await store.search(KeywordQuery(Scope(tenant, scope), text, k, now, filter_))
        case "blend", (scope, row, k, now, filter_, blend):
            query = VectorQuery(Scope(tenant, scope), _unit(row), k, now, filter_, blend=blend)
            return await store.search(query)
        case "page", (scope, limit, now, filter_, oldest_first):
            return await _pages(store, PageQuery(Scope(tenant, scope), limit, now, filter_, oldest_first))
        case "get", (agent, id_, now):
            return await store.get(tenant, agent, id_, now=now)
        case "agents", (scope, limit, now):
            return await store.agents(Scope(tenant, scope), limit=limit, now=now)


async def _pages(store, query):
    """All pages, and the count."""
    seen = []
    while page := await store.page(query):
        seen.append(page)
        query = dataclasses.replace(query, after=page[-1].position)
    return seen, await store.count(query)


def _unit(row):
    return (np.array(row, np.float32) / np.linalg.norm(row)).tolist()
