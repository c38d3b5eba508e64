"""Contract of every VectorStore: the memories before and behind given ones."""

import math
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.memories import (
    Around,
    AroundQuery,
    Condition,
    Field,
    HybridQuery,
    KeywordQuery,
    Op,
    Scope,
    VectorQuery,
)
from tests.contracts.stored import EAST, NOW, START, memory, put

GAP_S = 60.0
SPAN = 2


def expected(anchor, kept, filter_=lambda _: True):
    """The same from a list: the next SPAN of the occasion's memories on each side, without those the filter rejects."""
    talk = anchor.conversation
    stream = sorted(
        (
            one
            for one in kept
            if one.agent_id == anchor.agent_id and (talk is None or one.conversation == talk)
        ),
        key=lambda one: one.position,
    )
    place = stream.index(anchor)

    def same_occasion(one):
        apart = abs(one.timestamp - anchor.timestamp)
        return one.conversation == talk and (talk is not None or apart <= GAP_S) and filter_(one)

    before = stream[max(0, place - SPAN) : place][::-1]
    behind = stream[place + 1 : place + 1 + SPAN]
    return Around([*filter(same_occasion, before)], [*filter(same_occasion, behind)])


def around(*anchors, **fields):
    return AroundQuery(anchors, SPAN, GAP_S, **{"now": NOW, **fields})


@given(
    drawn=st.lists(
        st.tuples(
            st.sampled_from([0.0, 1.0, 30.0, 61.0, 200.0]),
            st.sampled_from([0.0, 1.0]),
            st.sampled_from([None, None, "inn", 7]),
            st.sampled_from(["one", "two"]),
        ),
        min_size=1,
        max_size=25,
    )
)
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
async def test_neighbours_in_time_and_conversation(store, drawn):
    run = str(uuid.uuid4())
    kept = [
        memory(
            f"m{n}",
            agent_id=f"{run} {agent}",
            timestamp=START + second,
            accepted_at=START + accepted,
            metadata={} if talk is None else {"conversation": talk},
        )
        for n, (second, accepted, talk, agent) in enumerate(drawn)
    ]
    await put(store, *kept)
    assert await store.around(around(*kept)) == [expected(one, kept) for one in kept]


async def test_a_tick_shared_by_many_is_read_whole_and_by_too_many_not_at_all(store):
    many = [memory(f"m{n:03}", accepted_at=START + n) for n in range(40)]
    last = memory("last", timestamp=START + 1)
    too_many = [memory(f"x{n}", agent_id="b", accepted_at=START + n) for n in range(300)]
    await put(store, *many, last, *too_many)
    assert await store.around(around(many[20], many[39], last, too_many[50])) == [
        Around([many[19], many[18]], [many[21], many[22]]),
        Around([many[38], many[37]], [last]),
        Around([many[39], many[38]], []),
        Around([], []),
    ]


async def test_filters_expiry_and_deletion_apply_to_neighbours(store):
    kept = [memory(f"m{n}", timestamp=START + n, type="dig" if n % 2 else "say") for n in range(7)]
    gone = memory("gone", timestamp=START + 3.5, expires_at=NOW - 1)
    await put(store, *kept, gone)
    only_dig = Condition(Field(("type",)), Op.EQ, "dig")
    assert await store.around(around(kept[3], filter=only_dig)) == [
        expected(kept[3], kept, lambda one: one.type == "dig")
    ]
    assert (await store.around(around(kept[3])))[0].behind == [kept[4], kept[5]]
    assert await store.around(around()) == []


@pytest.mark.parametrize("kind", ["dense", "keyword", "hybrid"])
async def test_the_relevance_of_memories_is_that_of_the_search(store, kind):
    kept = [memory(f"m{n}", text=f"iron {'ore ' * (n % 4)}{n}", timestamp=START + n) for n in range(30)]
    turned = np.array([[math.cos(n / 9), math.sin(n / 9), 0, 0] for n in range(30)], np.float32)
    await store.insert(kept, turned)
    scope = Scope("default", ("a",))
    query = {
        "dense": VectorQuery(scope, EAST, 30, NOW),
        "keyword": KeywordQuery(scope, "iron ore", 30, NOW),
        "hybrid": HybridQuery(scope, EAST, "iron ore", 30, NOW),
    }[kind]
    hits = await store.search(query)
    assert len(hits) == 30
    some = [hit.memory for hit in hits[3:20]]
    again = await store.relevance(query, [*some, memory("deleted meanwhile")], hits[0])
    assert {hit.memory.id: hit.relevance for hit in again} == pytest.approx(
        {hit.memory.id: hit.relevance for hit in hits[3:20]}, abs=1e-6
    )
    assert await store.relevance(query, [], hits[0]) == []
