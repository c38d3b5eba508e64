"""Shard keys on a Qdrant server: which shards a call asks, and what is stored where."""

import pytest
from msgspec import structs
from qdrant_client import grpc as wire

from lorestream.adapters.qdrant.agents import agents_of
from lorestream.adapters.qdrant.conditions import ALWAYS, Group, Ids, Match, Range, scope_clause
from lorestream.adapters.qdrant.payload import agent_keyword, point_of
from lorestream.adapters.qdrant.server.collection import (
    CollectionMetadata,
    CollectionOptions,
    create_with_indexes,
)
from lorestream.adapters.qdrant.server.sharding import Sharding, shard_of
from lorestream.collections.catalogue import Model
from lorestream.errors import Misconfigured
from lorestream.memories import HybridQuery, PageQuery, Scope
from lorestream.ports import Tombstone
from tests.contracts.stored import EAST, NOW, START, everything, memory, names, put, vectors

KEYS = 5
A, B = agent_keyword("t", "a"), agent_keyword("t", "b")


@pytest.fixture
async def sharded(qdrant):
    async with qdrant.store(shard_keys=KEYS) as store:
        yield store


@pytest.mark.parametrize(
    ("must", "agents"),
    [
        ([scope_clause(Scope("t", ("a",)))], {A}),
        ([Range("t", lte=5), scope_clause(Scope("t", ("a", "b")))], {A, B}),
        ([scope_clause(Scope("t", ("a",), records=True)), Range("t", lte=5)], {A}),
        ([scope_clause(Scope("t"))], None),
        ([scope_clause(Scope("t", records=True))], None),
        ([Group(must=(Match("type", ("x",)), Match("owner", (A,))))], {A}),
        ([Group(should=(Match("agent", (A,)), Match("type", ("x",))))], None),
        ([Group(must_not=(Match("agent", (A,)),))], None),
        ([Match("agent", (A, B)), Match("agent", (A,))], {A}),
        ([Ids(frozenset(("1",)))], None),
        ([Ids(frozenset(("1",)), frozenset((A,)))], {A}),
        ([ALWAYS], None),
        ([], None),
    ],
)
def test_the_agents_that_conditions_name(must, agents):
    assert agents_of(must) == agents


def test_a_read_of_one_agent_asks_one_shard_and_one_of_a_tenant_asks_all():
    sharding = Sharding(KEYS)
    [one] = sharding.of_reads([Match("agent", (A,))]).shard_keys
    assert one.number == shard_of(A, KEYS)
    assert sharding.of_reads([Match("tenant", ("t",))]) is None
    assert [one.number for one in sharding.every().shard_keys] == list(range(KEYS))
    assert Sharding(0).every() is Sharding(0).of_reads([Match("agent", (A,))]) is None


def test_agents_are_spread_and_stay_where_they_are():
    agents = [agent_keyword("default", f"npc:{number}") for number in range(1000)]
    counts = [[shard_of(one, 8) for one in agents].count(shard) for shard in range(8)]
    assert min(counts) > 90
    # Another hash would make what is stored unfindable.
    assert [shard_of(one, 8) for one in agents[:6]] == [0, 3, 6, 7, 5, 3]


async def test_a_search_of_an_agent_sees_its_shard_only(sharded):
    """What lies in another shard is not found, by no step of the search: that shard was not asked."""
    here, there = "a", next(name for name in "bcdefgh" if _shard(name) != _shard("a"))
    await put(sharded, memory("kept", agent_id=here, text="oak and pine"))
    lost = memory("lost", agent_id=here, text="oak and elm")
    point = sharded._build_point(point_of(lost), lost, vectors(EAST, 1)[0])
    await sharded._engine._upsert([point], _shard(there), None, wire.UpdateMode.InsertOnly)
    assert await names(sharded, agent=here) == ["kept"]
    query = HybridQuery(Scope("default", (here,)), text="oak", vector=EAST, k=5, now=NOW)
    assert [hit.memory.id for hit in await sharded.search(query)] == ["kept"]
    assert await sharded.count(everything(here)) == 1
    assert await sharded.count(PageQuery(Scope("default"), 10, NOW)) == 2


async def test_a_memory_and_its_tombstone_under_another_name_of_the_player(sharded):
    """With a new player key the stored name of the agent changes, and the id of the memory does not."""
    before = memory("m", agent_id="player:k1:x", agent_player="k1:x")
    after = structs.replace(before, agent_id=_elsewhere("player:k1:x"), lasting_agent="player:k1:x")
    await put(sharded, before)
    await put(sharded, after)
    assert await sharded.count(PageQuery(Scope("default"), 10, NOW)) == 1
    fresh = structs.replace(after, id="n")
    await put(sharded, fresh)
    await sharded.put_tombstones([Tombstone("default", "player:k1:x", "n", NOW)])
    assert await names(sharded, agent=after.agent_id) == []
    await put(sharded, fresh)
    assert await names(sharded, agent=after.agent_id) == []


async def test_an_id_that_is_given_again_after_a_rewind_under_another_name_of_the_player(sharded):
    before = memory("m", agent_id="player:k1:x", agent_player="k1:x")
    after = structs.replace(
        before, agent_id=_elsewhere("player:k1:x"), lasting_agent="player:k1:x", accepted_at=NOW
    )
    await put(sharded, before)
    for _ in range(2):
        await sharded.insert(
            [after], vectors(EAST, 1), replaces=lambda old, new: old.accepted_at < new.accepted_at
        )
        assert await sharded.count(PageQuery(Scope("default"), 10, NOW)) == 1
    assert await sharded.lookup([after]) == [after]


async def test_a_replay_into_another_collection_has_the_keys_of_the_settings(qdrant):
    alias = "test-shard-keys"
    made = []
    try:
        for keys in (2, 3):
            async with qdrant.catalogue(alias, options=CollectionOptions(shard_keys=keys)) as catalogue:
                if keys == 2:
                    made.append((await catalogue.ensure_active(Model("hash", 4))).name)
                else:
                    await catalogue.create(alias + "-second", Model("hash", 4), "run")
                    made.append(alias + "-second")
                for name in made:
                    store = await catalogue.open(name)
                    await put(store, memory(f"with {keys}"))
                    assert f"with {keys}" in await names(store, agent="a")
        async with qdrant.connection() as connection:
            for name, expected in zip(made, (2, 3), strict=True):
                request = wire.CollectionClusterInfoRequest(collection_name=name)
                found = await connection.call(connection.collections.CollectionClusterInfo, request)
                assert len(found.local_shards) + len(found.remote_shards) == expected
    finally:
        await qdrant.drop(*made)


async def test_keys_that_a_crash_left_out_are_created(qdrant, monkeypatch):
    name, metadata = "test-shard-keys-crash", CollectionMetadata("hash", 4, shard_keys=3)
    async with qdrant.connection() as connection:
        try:
            calls = []
            usual = connection.call

            async def dying(method, request, **more):
                if isinstance(request, wire.CreateShardKeyRequest):
                    calls.append(request)
                    if len(calls) == 2:
                        raise KeyboardInterrupt
                return await usual(method, request, **more)

            monkeypatch.setattr(connection, "call", dying)
            with pytest.raises(KeyboardInterrupt):
                await create_with_indexes(connection, name, metadata, CollectionOptions())
            await create_with_indexes(connection, name, metadata, CollectionOptions())
            assert [one.request.shard_key.number for one in calls] == [0, 1, 1, 2]
        finally:
            await qdrant.drop(name)


async def test_a_server_without_cluster_mode_is_named_in_the_error(qdrant, monkeypatch):
    name, metadata = "test-shard-keys-single", CollectionMetadata("hash", 4, shard_keys=3)
    async with qdrant.connection() as connection:
        usual = connection.call

        async def refusing(method, request, **more):
            if isinstance(request, wire.CreateShardKeyRequest):
                raise Misconfigured("Qdrant rejects the request: Distributed mode disabled")
            return await usual(method, request, **more)

        monkeypatch.setattr(connection, "call", refusing)
        with pytest.raises(Misconfigured, match=r"LORESTREAM_STORE__SHARD_KEYS=3.*CLUSTER__ENABLED"):
            await create_with_indexes(connection, name, metadata, CollectionOptions())
        listed = await usual(connection.collections.List, wire.ListCollectionsRequest())
    assert name not in [one.name for one in listed.collections]


def _shard(agent):
    return shard_of(agent_keyword("default", agent), KEYS)


def _elsewhere(agent):
    return next(name for n in range(20) if _shard(name := f"player:k2:{n}") != _shard(agent))


async def test_a_correction_is_noted_in_the_shard_of_its_agent(sharded):
    old, new = (
        memory("old", agent_id="b"),
        memory("new", agent_id="b", supersedes="old", accepted_at=START + 1),
    )
    await put(sharded, old, new)
    assert await names(sharded, "b") == ["new"]
    await sharded.put_tombstones([Tombstone("default", "b", "new", NOW)])
    assert await names(sharded, "b") == ["old"]
