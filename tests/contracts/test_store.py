"""Contract of every VectorStore: inserts, tombstones, erasures, sweeping, scopes."""

import asyncio
import functools
import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.errors import InvalidEvent, ModelMismatch
from lorestream.memories import AgentKey, Condition, Erasure, Field, Memory, Op, PageQuery, Scope, SubjectKind
from lorestream.ports import Tombstone
from tests.contracts.stored import EAST, NOW, START, everything, memory, names, nearest, put, vectors

WHOLE = Memory(
    id="6f1c\x00-ä",
    tenant="default",
    agent_id='npc:"wood,cutter"[1]',
    text='A player said "grüß Gott" 🌲\n\ttwice\x1b[0m.',
    timestamp=math.nextafter(1_760_000_000.1, 0),
    accepted_at=math.nextafter(1_760_000_000.4, 2e9),
    server="survival, 1",
    type="chat",
    metadata={
        "count": 3,
        "share": 0.1 + 0.2,
        "tiny": 5e-324,
        "far": -8.1999998092651367,
        "whole": 3.0,
        "big": 2**63 - 1,
        "small": -(2**63),
        "none": None,
        "yes": True,
        "list": [1, "a", None, [2.5, {"x": False}]],
        "dotted.key": 1,
        'quo"ted': {"": {"back\\slash": []}},
        "empty": {},
    },
    pos={"x": 12.300000190734863, "y": -3.0, "z": 0.0},
    tick=8412.5,
    importance=7.25,
    player="k1:ab",
    agent_player="k1:cd",
    expires_at=math.nextafter(NOW, math.inf),
    truncated=True,
)


async def test_a_memory_is_returned_unchanged(store):
    await put(store, WHOLE)
    assert await store.get("default", WHOLE.agent_id, WHOLE.id, now=NOW) == WHOLE
    assert await store.page(everything(WHOLE.agent_id)) == [WHOLE]
    [hit] = await store.search(nearest(5, agent=WHOLE.agent_id))
    assert hit.memory == WHOLE
    back = hit.memory.metadata
    assert [type(back[key]) for key in ("count", "whole", "yes")] == [int, float, bool]


async def test_a_memory_with_required_fields_only(store):
    await put(store, memory("plain", text=""))
    [found] = await store.page(everything())
    assert found == memory("plain", text="")


async def test_a_repeated_insert_does_not_overwrite(store):
    await put(store, memory(text="first"), memory(text="second"))
    await put(store, memory(text="third"), vector=(0, 1, 0, 0))
    [hit] = await store.search(nearest(5))
    assert hit.memory.text == "first"
    assert hit.relevance == pytest.approx(1.0)


@pytest.mark.parametrize("kind", list(SubjectKind))
async def test_inserts_delete_and_erasure_commute(store, kind):
    for order in sorted(set(itertools.permutations(["put", "put", "bury", "erase"]))):
        agent, player = f"agent of {order}", f"player of {order}"
        subject = agent if kind is SubjectKind.AGENT else player
        for step in (*order, "put"):
            if step == "put":
                await put(store, memory(agent_id=agent, player=player))
            elif step == "bury":
                await store.put_tombstones([Tombstone("default", agent, "m", START)])
            else:
                await store.erase(Erasure("e", "default", kind, (subject,), START))
        assert await names(store, agent) == [], order


async def test_a_tombstone_affects_only_its_memory(store):
    same_id = [memory(), memory(agent_id="b"), memory(tenant="other")]
    await put(store, *same_id, memory("n"))
    await store.put_tombstones([Tombstone("default", "a", "m", START)] * 2)
    await store.put_tombstones([Tombstone("default", "a", "never there", START)])
    assert await names(store) == ["n"]
    assert await names(store, "b") == ["m"]
    assert await names(store, tenant="other") == ["m"]
    assert await names(store, None) == ["n", "m"]


AWKWARD = [
    'a"],["b',
    "a,b",
    "[",
    "]",
    '"',
    "\\",
    "a\x00b",
    "木",
    "e\u0301",
    "é",
    " a",
    "a ",
    "A",
    "a",
    "null",
    "'",
]


@given(
    keys=st.sets(
        st.tuples(
            st.sampled_from(AWKWARD), st.one_of(st.sampled_from(AWKWARD), st.text(min_size=1, max_size=4))
        ),
        min_size=2,
        max_size=6,
    )
)
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
async def test_reads_return_only_the_scopes_memories(store, keys):
    # All examples share one store; each uses tenants of its own.
    tenants = {tenant for tenant, _ in keys}
    for tenant in tenants:
        agents = [agent for agent, _ in await store.agents(Scope(tenant), limit=1000, now=NOW)]
        await store.erase(Erasure("e", tenant, SubjectKind.AGENT, tuple(agents), START))
    await put(store, *(memory("m", tenant=tenant, agent_id=agent) for tenant, agent in keys))
    for tenant, agent in keys:
        [hit] = await store.search(nearest(100, agent=agent, tenant=tenant))
        assert (hit.memory.tenant, hit.memory.agent_id) == (tenant, agent)
        assert await names(store, agent, tenant) == ["m"]
        assert await store.get(tenant, agent + "x", "m", now=NOW) is None
    for tenant in tenants:
        own = sorted(agent for other, agent in keys if other == tenant)
        assert await store.agents(Scope(tenant), limit=100, now=NOW) == [(agent, 1) for agent in own]
        hits = await store.search(nearest(100, agent=None, tenant=tenant))
        assert sorted(hit.memory.agent_id for hit in hits) == own
    tenant, agent = first = min(keys)
    assert await store.erase(Erasure("e", tenant, SubjectKind.AGENT, (agent,), START)) == {AgentKey(*first)}
    for tenant, agent in keys:
        assert await names(store, agent, tenant) == ([] if (tenant, agent) == first else ["m"])


async def test_scopes_of_some_agents(store):
    await put(store, *(memory(agent, agent_id=agent, timestamp=START + n) for n, agent in enumerate("abcd")))
    some = Scope("default", ("d", "a", "absent"))
    assert [one.id for one in await store.page(PageQuery(some, 10, NOW))] == ["d", "a"]
    assert await store.agents(some, limit=10, now=NOW) == [("a", 1), ("d", 1)]
    assert await store.page(PageQuery(Scope("default", ()), 10, NOW)) == []
    assert await store.agents(Scope("default", ()), limit=10, now=NOW) == []


async def test_expired_memories_are_not_returned(store):
    await put(
        store,
        memory("past", expires_at=NOW - 1),
        memory("now", expires_at=NOW),
        memory("later", expires_at=math.nextafter(NOW, math.inf)),
        memory("never"),
    )
    assert await names(store) == ["never", "later"]
    assert await names(store, now=NOW - 0.5) == ["now", "never", "later"]
    assert await store.get("default", "a", "now", now=NOW) is None
    assert await store.agents(Scope("default"), limit=5, now=NOW) == [("a", 2)]


async def test_sweep_removes_expired_memories_and_old_tombstones_up_to_the_limit(store):
    await put(store, *(memory(f"m{n:03}", expires_at=START + n) for n in range(700)))
    await store.put_tombstones([Tombstone("default", "a", f"t{n}", START + n) for n in range(5)])
    limits = {"expired_before": START + 599, "tombstones_before": START + 3}
    assert await store.sweep(**limits, limit=10) == 10
    assert len(await names(store, now=START - 1)) == 690
    assert await store.sweep(**limits, limit=1000) == 593
    assert await store.sweep(**limits, limit=1000) == 0
    assert await names(store, now=START - 1) == [f"m{n:03}" for n in range(699, 599, -1)]
    for n in range(5):
        await put(store, memory(f"t{n}"))
    assert [one for one in await names(store) if one[0] == "t"] == [
        "t2",
        "t1",
        "t0",
    ]  # t3 and t4 stay tombstones


async def test_erasing_an_agent_removes_all_stored_forms_up_to_the_erasure(store):
    old, new = {"accepted_at": START}, {"accepted_at": math.nextafter(START, math.inf)}
    await put(
        store,
        memory("a1", agent_id="player:k1:x", **old),
        memory("a2", agent_id="player:k2:x", **old),
        memory("a3", agent_id="player:k1:x", **new),
        memory("a4", agent_id="player:k1:y", **old),
        memory("a5", agent_id="player:k1:x", tenant="other", **old),
    )
    erasure = Erasure("e", "default", SubjectKind.AGENT, ("player:k1:x", "player:k2:x", "absent"), START)
    lost = {AgentKey("default", "player:k1:x"), AgentKey("default", "player:k2:x")}
    assert set(await store.erase(erasure)) == lost
    assert sorted(await names(store, None)) == ["a3", "a4"]
    assert await names(store, None, "other") == ["a5"]
    assert set(await store.erase(erasure)) == set()


async def test_erasing_a_player_removes_memories_of_every_agent(store):
    await put(
        store,
        memory("by him", agent_id="npc", player="k1:x"),
        memory("by his old form", agent_id="npc", player="k2:x"),
        memory("by another", agent_id="npc", player="k1:y"),
        memory("his agent", agent_id="player:k1:x", agent_player="k1:x"),
        memory("his agent by another", agent_id="player:k1:x", agent_player="k1:x", player="k1:y"),
        memory("his other agent", agent_id="s:player:k2:x", agent_player="k2:x"),
        memory("later", agent_id="npc2", player="k1:x", accepted_at=START + 1),
        memory("elsewhere", agent_id="npc", player="k1:x", tenant="other"),
    )
    await store.put_tombstones([Tombstone("default", "npc", "gone", START)])
    lost = await store.erase(Erasure("e", "default", SubjectKind.PLAYER, ("k1:x", "k2:x"), START))
    assert {key.agent_id for key in lost} == {"npc", "player:k1:x", "s:player:k2:x"}
    assert await names(store, None) == ["later", "by another"]
    assert await names(store, None, "other") == ["elsewhere"]
    await put(store, memory("gone", agent_id="npc"))
    assert await names(store, "npc") == ["by another"]


async def test_a_large_erasure(store):
    gone = [memory(f"g{n}", agent_id="a" if n % 2 else "b", player="k1:x") for n in range(1500)]
    stay = [memory(f"s{n}", accepted_at=START + 1, player="k1:x") for n in range(300)]
    await put(store, *itertools.chain(*zip(gone[:300], stay, strict=True)), *gone[300:])
    lost = await store.erase(Erasure("e", "default", SubjectKind.PLAYER, ("k1:x",), START))
    assert set(lost) == {AgentKey("default", "a"), AgentKey("default", "b")}
    assert sorted(await names(store, None)) == sorted(one.id for one in stay)


async def test_agents_are_counted_and_ranked(store):
    sizes = {"z": 3, "b": 2, "a": 2, "c": 2, "y": 1}
    await put(store, *(memory(f"m{n}", agent_id=agent) for agent, size in sizes.items() for n in range(size)))
    await put(store, memory("elsewhere", agent_id="x", tenant="other"))
    ranked = [("z", 3), ("a", 2), ("b", 2), ("c", 2), ("y", 1)]
    for limit in range(7):
        assert await store.agents(Scope("default"), limit=limit, now=NOW) == ranked[:limit]
    assert await store.agents(Scope("nobody"), limit=5, now=NOW) == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"n": math.nan},
        {"n": [math.inf]},
        {"n": 2**63},
        {"n": -(2**63) - 1},
        {"t": "\ud800"},
        {"\ud800": 1},
        {"s": {1, 2}},
        {"deep": functools.reduce(lambda inner, _: [inner], range(70), 1)},
    ],
    ids=["nan", "inf", "big", "small", "surrogate", "surrogate key", "set", "deep"],
)
async def test_a_batch_with_an_invalid_memory_is_rejected_completely(store, metadata):
    with pytest.raises(InvalidEvent):
        await put(store, memory("fine"), memory("broken", metadata=metadata))
    assert await names(store) == []


async def test_metadata_as_deep_as_the_gateway_accepts(store):
    """32 levels, the metadata itself included."""
    deepest = {
        "lists": _nested(30, lambda inner: [inner]),
        "objects": _nested(30, lambda inner: {"a": inner}),
    }
    await put(store, memory("m", metadata={"deep": deepest}))
    assert (await store.get("default", "a", "m", now=NOW)).metadata["deep"] == deepest
    with pytest.raises(InvalidEvent, match="32"):
        await put(store, memory("n", metadata={"deep": {"deeper": deepest}}))


def _nested(levels, wrap):
    return functools.reduce(lambda inner, _: wrap(inner), range(levels), None)


async def test_vectors_of_a_wrong_shape_are_rejected(store):
    with pytest.raises(ModelMismatch):
        await store.insert([memory()], np.ones((1, 3), np.float32))
    with pytest.raises(ModelMismatch):
        await store.insert([memory()], vectors(EAST, 2))
    with pytest.raises(ModelMismatch):
        await store.search(nearest(1, vector=(1.0, 0.0)))
    with pytest.raises(InvalidEvent, match="broken"):
        await store.insert([memory(), memory("broken")], np.float32([EAST, (0, math.nan, 0, 0)]))
    assert await names(store) == []


async def test_empty_calls(store):
    await put(store)
    await store.put_tombstones([])
    assert await names(store) == []
    assert await store.erase(Erasure("e", "default", SubjectKind.PLAYER, (), START)) == set()
    assert await store.sweep(expired_before=NOW, tombstones_before=NOW, limit=10) == 0
    assert await store.search(nearest(0)) == []


async def test_a_large_insert_does_not_block_the_event_loop(store):
    """Another task keeps running during the insert."""
    await put(store, memory("there"))
    writing = asyncio.create_task(put(store, *(memory(f"m{n}") for n in range(2000))))
    steps, before = [], time.thread_time()
    while not writing.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        steps.append(now - before)
        before = now
    await writing
    assert max(steps) < sum(steps) / 5
    assert await store.count(everything()) == 2001


async def test_memories_are_visible_when_insert_returns(store):
    await put(store, memory("there"))
    writing = asyncio.create_task(put(store, *(memory(f"m{n}") for n in range(1000))))
    while not writing.done():
        assert len(await store.search(nearest(1))) == 1
        assert 1 <= await store.count(everything()) <= 1001
        await asyncio.sleep(0)
    await writing


async def test_filters_apply_within_the_scope(store):
    await put(
        store, memory("dig", type="dig"), memory("chat", type="chat"), memory("d", agent_id="b", type="dig")
    )
    digs = Condition(Field(("type",)), Op.EQ, "dig")
    assert [one.id for one in await store.page(everything(filter_=digs))] == ["dig"]
    assert await store.count(everything(None, filter_=digs)) == 2
