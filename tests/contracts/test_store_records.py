"""Contract of every VectorStore: records, which are stored without a vector and read only where they are asked for."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from lorestream.memories import (
    And,
    AroundQuery,
    Condition,
    Erasure,
    Field,
    HybridQuery,
    KeywordQuery,
    Op,
    Scope,
    SubjectKind,
)
from lorestream.ports import Tombstone
from tests.contracts.stored import EAST, NOW, START, everything, memory, names, nearest, put
from tests.contracts.test_store import WHOLE
from tests.contracts.test_store_scan import scan_all

REWARD = Condition(Field(("type",)), Op.EQ, "reward")


def record(name="r", **fields):
    """A record of agent a with the type `reward` and no text."""
    return memory(name, **{"recall": False, "text": "", "type": "reward", **fields})


def with_records(agent="a", tenant="default", **fields):
    query = everything(agent, tenant, **fields)
    return replace(query, scope=replace(query.scope, records=True))


async def ids(store, query):
    """The ids of a page; asserts that count and each agree."""
    shown = await store.page(query)
    assert await store.count(query) == len(shown)
    assert sorted([one.id async for some in store.each(query) for one in some]) == sorted(
        one.id for one in shown
    )
    return [one.id for one in shown]


async def test_a_record_comes_back_unchanged(store):
    whole = structs.replace(WHOLE, recall=False, text="")
    await put(store, whole)
    assert await store.get(whole.tenant, whole.agent_id, whole.id, now=START) == whole
    assert await store.lookup([whole]) == [whole]
    assert await scan_all(store) == [whole]


async def test_only_reads_that_ask_for_records_show_them(store):
    await put(store, memory("m", type="dig"), record("r1"), record("r2", timestamp=START + 1))
    await put(store, record("r3", agent_id="b"), record("r4", tenant="other"))
    assert await names(store) == ["m"]
    assert await names(store, agent=None) == ["m"]
    assert await ids(store, everything(filter_=REWARD)) == []
    assert await ids(store, with_records()) == ["r2", "r1", "m"]
    assert await ids(store, with_records(filter_=REWARD)) == ["r2", "r1"]
    assert await ids(store, with_records(agent=None, filter_=REWARD)) == ["r2", "r3", "r1"]
    assert await ids(store, with_records("a", "other")) == ["r4"]
    assert await store.count_by_type(Scope("default"), limit=9, now=NOW) == [("dig", 1)]


async def test_no_search_finds_a_record(store):
    words = "iron in the north"
    await put(store, memory("m", text=words), record("r", text=words))
    scope = Scope("default", ("a",), records=True)
    queries = [
        replace(nearest(9), scope=scope),
        KeywordQuery(scope, words, 9, NOW),
        HybridQuery(scope, EAST, words, 9, NOW),
    ]
    for query in queries:
        assert [hit.memory.id for hit in await store.search(query)] == ["m"]


async def test_records_are_not_next_to_memories(store):
    await put(store, memory("m1"), record("r", timestamp=START + 1), memory("m2", timestamp=START + 2))
    [around] = await store.around(AroundQuery([memory("m1")], 1, 60.0, NOW))
    assert [one.id for one in around.behind] == ["m2"]


async def test_a_filter_on_records_reads_their_metadata(store):
    await put(store, *(record(f"r{n}", metadata={"value": n / 4}, tick=float(n)) for n in range(8)))
    above = Condition(Field(("metadata", "value")), Op.GTE, 1.5)
    ticks = Condition(Field(("tick",)), Op.LT, 7.0)
    query = with_records(filter_=And((REWARD, above, ticks)), oldest_first=True)
    assert await ids(store, query) == ["r6"]
    assert await store.cost(query.scope, query.filter) >= 8


async def test_records_are_erased_expire_and_are_deleted(store):
    await put(
        store,
        record("mine"),
        record("later", accepted_at=START + 9),
        record("of-player", agent_id="b", player="k1:p"),
        record("named-after", agent_id="player:k1:p", agent_player="k1:p"),
        record("other", agent_id="c"),
        record("foreign", tenant="other", player="k1:p"),
        record("expired", agent_id="c", expires_at=START + 5),
    )
    affected = await store.erase(Erasure("e1", "default", SubjectKind.AGENT, ("a",), START + 1))
    assert {key.agent_id for key in affected} == {"a"}
    await store.erase(Erasure("e2", "default", SubjectKind.PLAYER, ("k1:p",), START + 1))
    assert {one.id for one in await scan_all(store)} == {"later", "other", "foreign", "expired"}
    assert await store.sweep(expired_before=NOW, tombstones_before=START, limit=9) == 1
    await store.put_tombstones([Tombstone("default", "c", "other", START + 2)])
    await put(store, record("other", agent_id="c"))
    assert await ids(store, with_records(agent=None)) == ["later"]


async def test_the_newest_n_are_counted_without_records(store):
    await put(store, *(memory(f"m{n}", timestamp=START + n) for n in range(3)))
    await put(store, *(record(f"r{n}", timestamp=START - n) for n in range(5)))
    assert await store.agents_above(keep=3) == []
    [agent] = await store.agents_above(keep=2)
    assert await store.trim(agent, keep=2, limit=9, now=NOW) == 1
    assert len(await ids(store, with_records())) == 2 + 5


async def test_the_size_counts_records_and_no_tombstones(store):
    await put(store, memory("m"), record("r"), record("expired", expires_at=NOW - 1))
    await store.put_tombstones([Tombstone("default", "a", "x", START)])
    assert await store.size(now=NOW) == 2


async def test_no_vector_of_a_record_is_stored(store):
    await store.insert([record("r")], np.zeros((1, 4), np.float32))
    assert await store.reusable_vectors([record("r")]) == [None]


@pytest.mark.parametrize("recall", [True, False])
async def test_the_first_content_of_an_id_stays_whether_it_is_a_record_or_not(store, recall):
    first = memory("m", recall=recall, type="reward")
    await put(store, first)
    await put(store, structs.replace(first, recall=not recall, text="another"))
    assert await scan_all(store) == [first]
