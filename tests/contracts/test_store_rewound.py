"""Contract of every VectorStore: memories that are set aside because their server was rewound."""

import math
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from lorestream.memories import AgentKey, AroundQuery, Erasure, HybridQuery, KeywordQuery, Scope, SubjectKind
from lorestream.ports import Tombstone
from lorestream.rewinds import Rewind
from tests.contracts.stored import EAST, NOW, START, everything, memory, names, nearest, put, vectors
from tests.contracts.test_store_scan import identity, scan_all

S = "survival-1"
EVER = Rewind("r", "default", S, -math.inf, math.inf)
"""About all memories of S."""


def late(one):
    """Accepted after START."""
    return one.accepted_at > START


def nothing(_one):
    return False


def after_a_rewind(old, new):
    """The stored memory was hidden by a rewind 5 s after START when the new one was accepted."""
    return START < old.accepted_at <= START + 5 < new.accepted_at


async def give_again(store, *memories):
    await store.insert(memories, vectors(EAST, len(memories)), replaces=after_a_rewind)


def after_start(name, **fields):
    return memory(name, **{"server": S, "accepted_at": START + 1, **fields})


async def with_records(store, **fields):
    query = everything(**fields)
    return [one.id for one in await store.page(replace(query, scope=replace(query.scope, records=True)))]


async def test_no_read_shows_what_is_set_aside_and_all_of_it_comes_back(store):
    kept = [
        memory("before", server=S),
        memory("elsewhere", accepted_at=START + 1),
        memory("old", agent_id="b"),
    ]
    foreign = memory("theirs", tenant="other", server=S, accepted_at=START + 1)
    hidden = [
        after_start("h1", metadata={"ore": "iron"}, type="dig", expires_at=NOW + 1),
        after_start("h2", agent_id="b", player="k1:x", pos={"x": 1.0, "y": 2.0, "z": 3.0}),
        after_start("r", recall=False, text=""),
    ]
    await put(store, *kept, foreign, *hidden)
    assert await store.set_aside(replace(EVER, server="nowhere"), late) == set()
    affected = await store.set_aside(EVER, late)
    assert set(affected) == {AgentKey("default", "a"), AgentKey("default", "b")}
    assert await store.set_aside(EVER, late) == set()

    assert await names(store) == ["elsewhere", "before"]
    assert await names(store, "b") == ["old"]
    assert await names(store, None, "other") == ["theirs"]
    assert await with_records(store) == ["elsewhere", "before"]
    for query in (
        KeywordQuery(Scope("default"), "text", 9, NOW),
        HybridQuery(Scope("default"), EAST, "text", 9, NOW),
    ):
        found = await store.search(query)
        assert sorted(hit.memory.id for hit in found) == ["before", "elsewhere", "old"]
    assert await store.get("default", "a", "h1", now=START) is None
    assert await store.get_many("default", "a", ["h1", "before"], vectors=False) == [(kept[0], None)]
    assert await store.count_by_type(Scope("default"), limit=9, now=NOW) == []
    [around] = await store.around(AroundQuery([kept[0]], 9, 60.0, NOW))
    assert {one.id for one in (*around.before, *around.behind)} == {"elsewhere"}
    assert await store.agents_above(keep=2) == []
    aside = [structs.replace(one, rewound=True) for one in hidden]
    assert await store.lookup(hidden) == aside
    assert sorted(map(identity, await scan_all(store))) == sorted(map(identity, [*kept, foreign, *hidden]))

    await store.set_aside(EVER, nothing)
    assert await store.lookup(hidden) == hidden
    assert sorted(await names(store)) == ["before", "elsewhere", "h1"]
    assert sorted(await with_records(store)) == ["before", "elsewhere", "h1", "r"]
    again = await store.get_many("default", "b", ["h2"], vectors=True)
    np.testing.assert_allclose(again[0][1], EAST, atol=1e-6)
    [found] = await store.search(KeywordQuery(Scope("default", ("b",)), "h2", 9, NOW))
    assert found.memory == hidden[1]


async def test_a_memory_can_be_stored_as_set_aside_from_the_start(store):
    await put(store, after_start("h", rewound=True), after_start("shown"))
    assert await names(store) == ["shown"]
    await store.set_aside(EVER, nothing)
    assert sorted(await names(store)) == ["h", "shown"]


@pytest.mark.parametrize("kind", [SubjectKind.AGENT, SubjectKind.PLAYER])
async def test_erasures_deletions_and_the_sweep_reach_what_is_set_aside(store, kind):
    subject = "a" if kind is SubjectKind.AGENT else "k1:x"
    await put(
        store,
        after_start("h", player="k1:x"),
        after_start("dead"),
        after_start("past", agent_id="c", expires_at=NOW - 1),
        after_start("left", agent_id="c"),
    )
    await store.put_tombstones([Tombstone("default", "a", "dead", NOW)])
    await store.set_aside(EVER, late)
    assert AgentKey("default", "a") in await store.erase(Erasure("e", "default", kind, (subject,), START + 1))
    assert await store.sweep(expired_before=NOW, tombstones_before=START, limit=9) == 1
    await store.set_aside(EVER, nothing)
    assert await names(store) == []
    assert await names(store, "c") == ["left"]
    assert await store.lookup([after_start("dead")]) == [Tombstone("default", "a", "dead", NOW)]


async def test_an_id_that_is_set_aside_can_be_given_again(store):
    await put(store, after_start("m", text="the world that is gone"), memory("kept", server=S))
    await store.set_aside(EVER, late)
    again = [
        after_start("m", text="a new life", accepted_at=START + 9),
        memory("kept", server=S, text="another"),
    ]
    await put(store, *again)
    assert await names(store) == ["kept"], "only where it is asked for"
    await give_again(store, *again)
    assert await store.lookup(again) == [again[0], memory("kept", server=S)]
    await store.set_aside(EVER, lambda one: START < one.accepted_at <= START + 1)
    assert sorted(await names(store)) == ["kept", "m"]
    [hit, _] = await store.search(nearest(9))
    assert hit.memory.server == S


async def test_what_the_memory_superseded_that_was_replaced_is_back_and_what_supersedes_the_id_stays(store):
    """Also where the replaced one has been swept, and where the rewind has been undone before."""
    first = [
        after_start("stays", supersedes="x"),
        after_start("swept", supersedes="y", expires_at=NOW - 1),
        memory("chain", supersedes="stays", accepted_at=START + 20, expires_at=NOW - 1),
    ]
    await put(store, memory("x"), memory("y"), *first)
    assert await store.sweep(expired_before=NOW, tombstones_before=0, limit=9) == 2
    assert await names(store) == []
    late_one = memory("z", superseded_by=tuple(one.correction() for one in first[:2]))
    again = [after_start(name, accepted_at=START + 9, supersedes="w") for name in ("stays", "swept")]
    for _ in range(2):
        await give_again(store, *again)
        assert sorted(await names(store)) == ["swept", "x", "y"]
    await give_again(store, late_one, memory("w"))
    assert sorted(await names(store)) == ["swept", "x", "y", "z"]
    await give_again(store, *first)
    assert await store.lookup(again) == [
        structs.replace(again[0], superseded_by=(first[2].correction(),)),
        again[1],
    ]


async def test_a_deleted_id_cannot_be_given_again(store):
    await put(store, after_start("m"))
    await store.put_tombstones([Tombstone("default", "a", "m", NOW)])
    await give_again(store, after_start("m", accepted_at=START + 9))
    assert await names(store) == []


async def test_what_another_worker_stores_meanwhile_is_not_set_aside(store, monkeypatch):
    """Between the scan for what is to be hidden and the write."""
    rewind = replace(EVER, to=START, accepted_at=START + 5)
    await put(store, after_start("m"), after_start("n"))
    again, read = after_start("m", accepted_at=START + 9, text="a new life"), store._engine.vectors

    async def vectors_later(ids):
        found = await read(ids)
        await give_again(store, again)
        return found

    monkeypatch.setattr(store._engine, "vectors", vectors_later)
    await store.set_aside(rewind, rewind.covers)
    assert await store.lookup([again]) == [again]
    assert await names(store) == ["m"]


async def test_only_the_memories_that_the_rewind_is_about_are_marked(store):
    times = {"at": 0.0, "after": 1e-6, "until": 5.0, "later": 5.0 + 1e-6}
    await put(store, *(after_start(name, accepted_at=START + late_by) for name, late_by in times.items()))
    rewind = replace(EVER, to=START, accepted_at=START + 5)
    await store.set_aside(rewind, rewind.covers)
    assert sorted(await names(store)) == ["at", "later"]
    await store.set_aside(rewind, nothing)
    assert len(await names(store)) == 4
