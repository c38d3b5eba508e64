"""The store on a server: creation and discovery of its collection, concurrent opening, model checks."""

import asyncio
import contextlib
import uuid

import numpy as np
import pytest
import structlog
from qdrant_client import grpc as wire

from lorestream.adapters.qdrant.payload import FLOAT_INDEX_KEYS, READABLE_SCHEMAS, SCHEMA_VERSION
from lorestream.adapters.qdrant.server.collection import (
    CollectionMetadata,
    CollectionOptions,
    first_collection,
    physical_name,
)
from lorestream.adapters.qdrant.server.store import rows_behind
from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT, FIRST_LAYOUT
from lorestream.collections.catalogue import Model
from lorestream.errors import InvalidEvent, Misconfigured, ModelMismatch, Unavailable
from lorestream.memories import HybridQuery, KeywordQuery, Scope
from tests.contracts.stored import NOW, START, everything, memory, names, nearest, put
from tests.contracts.test_store_rows import GROUP, row


@pytest.fixture
async def alias(qdrant):
    """A unique alias; collections created behind it are dropped at the end."""
    name = f"test-{uuid.uuid4().hex}"
    yield name
    async with qdrant.connection() as connection:
        listed = await connection.call(connection.collections.List, wire.ListCollectionsRequest())
    await qdrant.drop(*(one.name for one in listed.collections if one.name.startswith(name)))


async def change_alias(qdrant, alias, target):
    create = wire.CreateAlias(collection_name=target, alias_name=alias)
    async with qdrant.connection() as connection:
        await connection.call(
            connection.collections.UpdateAliases,
            wire.ChangeAliases(actions=[wire.AliasOperations(create_alias=create)]),
        )


async def described(qdrant, name):
    async with qdrant.connection() as connection:
        request = wire.GetCollectionInfoRequest(collection_name=name)
        return (await connection.call(connection.collections.Get, request)).result


# --- the collection ----------------------------------------------------------------------------------------


async def test_the_collection_is_named_after_alias_and_model(qdrant, alias):
    async with qdrant.store(collection=alias, model_id="sentence-transformers/all-MiniLM-L6-v2@1") as store:
        assert store.physical == physical_name(
            alias, CollectionMetadata("sentence-transformers/all-MiniLM-L6-v2@1", 4)
        )
        assert store.physical.startswith(f"{alias}__sentence-transformers-all-minilm-l6-v2-1__")
        await put(store, memory("m"))
    async with qdrant.store(collection=alias, model_id="sentence-transformers/all-MiniLM-L6-v2@1") as store:
        assert await names(store) == ["m"]


def test_different_models_have_different_collections():
    models = [
        CollectionMetadata("a/b", 4),
        CollectionMetadata("a-b", 4),
        CollectionMetadata("a/b", 8),
        CollectionMetadata("a/b", 4, schema=SCHEMA_VERSION + 1),
    ]
    assert len({physical_name("x", one) for one in models}) == len(models)
    assert all(len(physical_name("x" * 128, CollectionMetadata("m" * 300, 4))) < 255 for _ in models)


async def test_options_of_a_new_collection(qdrant, alias):
    options = {"shards": 2, "on_disk_payload": True, "scalar_quantization": True, "half_precision": True}
    async with qdrant.store(collection=alias, **options) as store:
        info = await described(qdrant, store.physical)
        await put(store, memory("m"))
        assert await names(store) == ["m"]
    assert info.config.params.shard_number == 2
    assert info.config.params.on_disk_payload
    assert (info.config.hnsw_config.m, info.config.hnsw_config.payload_m) == (0, 16)
    assert info.config.quantization_config.scalar.always_ram
    assert info.config.params.vectors_config.params_map.map["dense"].size == 4
    assert info.config.params.vectors_config.params_map.map["dense"].datatype == wire.Datatype.Float16
    indexed = {key: wire.PayloadSchemaType.Name(one.data_type) for key, one in info.payload_schema.items()}
    keywords = ["agent", "tenant", "type", "server", "player", "agent_player", "owner", "group"]
    whole = ["facts", "t", "accepted", "expires", "row_expires", "deleted"]
    expected = {"Keyword": keywords, "Integer": whole, "Float": FLOAT_INDEX_KEYS}
    assert indexed == {key: kind for kind, keys in expected.items() for key in keys}
    assert info.config.params.sparse_vectors_config.map["words"].modifier == wire.Modifier.Idf


async def test_another_model_is_rejected(qdrant, alias):
    async with qdrant.store(collection=alias, model_id="minilm@1"):
        pass
    for model, dim in (("minilm@2", 4), ("minilm@1", 8)):
        with pytest.raises(
            ModelMismatch, match=r"filled by minilm@1 \(4 dimensions\).*COLLECTION"
        ) as refused:
            async with qdrant.store(collection=alias, model_id=model, dim=dim):
                pass
        assert "\n" not in str(refused.value)


async def test_a_collection_with_the_name_of_the_alias_is_rejected(qdrant, alias):
    vectors = wire.VectorsConfig(
        params_map=wire.VectorParamsMap(
            map={"dense": wire.VectorParams(size=4, distance=wire.Distance.Cosine)}
        )
    )
    create = wire.CreateCollection(collection_name=alias, vectors_config=vectors)
    async with qdrant.connection() as connection:
        await connection.call(connection.collections.Create, create)
    with pytest.raises(Misconfigured, match=f"{alias} is a collection of its own.*COLLECTION"):
        async with qdrant.store(collection=alias):
            pass
    other = f"{alias}-2"
    await change_alias(qdrant, other, alias)
    with pytest.raises(Misconfigured, match="not made by lorestream"):
        async with qdrant.store(collection=other):
            pass


async def test_an_unfinished_collection_is_completed(qdrant, alias):
    """The process was killed after it created the collection: indexes and alias are missing."""
    async with qdrant.store(collection=alias) as store:
        made = (await described(qdrant, store.physical)).config
        await qdrant.drop(store.physical)
    bare = wire.CreateCollection(
        sparse_vectors_config=made.params.sparse_vectors_config,
        collection_name=store.physical,
        vectors_config=made.params.vectors_config,
        metadata=made.metadata,
    )
    async with qdrant.connection() as connection:
        await connection.call(connection.collections.Create, bare)
    async with qdrant.store(collection=alias) as store:
        assert len((await described(qdrant, store.physical)).payload_schema) == 18
        await put(store, memory("m"))
        assert await names(store) == ["m"]


@pytest.mark.parametrize("models", [["one"] * 4, ["one", "other", "one", "other"]])
async def test_concurrent_opening(qdrant, alias, models):
    """Processes with one model share one collection; with two models, the alias leads to one of two."""

    async def opened(model):
        async with qdrant.store(collection=alias, model_id=model) as store:
            return model, store.physical

    results = await asyncio.gather(*map(opened, models), return_exceptions=True)
    found = [one for one in results if isinstance(one, tuple)]
    assert found
    assert len(set(found)) == len({model for model, _ in found})
    refused = [one for one in results if not isinstance(one, tuple)]
    assert all(isinstance(one, ModelMismatch) for one in refused), refused
    assert bool(refused) <= (len(set(models)) > 1)
    later = await asyncio.gather(*map(opened, set(models)), return_exceptions=True)
    assert [type(one) for one in later].count(tuple) == 1


async def test_an_open_store_keeps_its_collection_when_the_alias_switches(qdrant, alias):
    """Otherwise a query could be embedded by one model and searched in the collection of another."""
    async with qdrant.store(collection=alias) as store, qdrant.store() as other:
        await put(store, memory("m"))
        await change_alias(qdrant, alias, other.physical)
        assert await names(store) == ["m"]


# --- points ------------------------------------------------------------------------------------------------


async def test_a_large_insert_writes_each_point_once(qdrant):
    async with qdrant.store() as store:
        many = [memory(f"m{n:04}", timestamp=START + n) for n in range(1000)]
        await put(store, *many, *many[:300])
        await put(store, *(memory(one.id, text="second") for one in many))
        assert await store.page(everything()) == many[::-1]


async def test_a_collection_of_an_earlier_schema_is_rejected(qdrant, alias):
    async with qdrant.store(collection=alias) as store:
        made = (await described(qdrant, store.physical)).config
    known = {**made.metadata, "schema": wire.Value(integer_value=READABLE_SCHEMAS[0] - 1)}
    older = wire.CreateCollection(
        collection_name=f"{alias}__older", vectors_config=made.params.vectors_config, metadata=known
    )
    async with qdrant.connection() as connection:
        await connection.call(connection.collections.Create, older)
    await change_alias(qdrant, alias, f"{alias}__older")
    with pytest.raises(Misconfigured, match=f"schema {READABLE_SCHEMAS[0] - 1}.*COLLECTION"):
        async with qdrant.store(collection=alias):
            pass


async def test_a_collection_of_schema_3_is_used_with_its_words_until_it_is_replaced(qdrant, alias):
    older = CollectionMetadata("hash", 4, schema=3)
    async with qdrant.connection() as connection:
        await first_collection(connection, alias, older, CollectionOptions())
    async with qdrant.catalogue(alias) as catalogue:
        first = await catalogue.ensure_active(Model("hash", 4))
        with structlog.testing.capture_logs() as lines:
            store = await catalogue.open(first.name)
        assert [line["log_level"] for line in lines if "lorestream replay" in line["event"]] == ["warning"]
        await put(store, memory("m", text="The smith sold swords"))
        assert store.words.layout == FIRST_LAYOUT
        for text, found in (("swords", ["m"]), ("sword", [])):
            hits = await store.search(KeywordQuery(Scope("default"), text, 5, NOW))
            assert [hit.memory.id for hit in hits] == found
        await catalogue.create(f"{alias}-new", Model("hash", 4), "run")
        assert (await catalogue.open(f"{alias}-new")).words.layout == DEFAULT_LAYOUT


async def test_a_point_rejected_by_the_server_is_an_invalid_event(qdrant):
    """The caller bisects the batch, and so writes the other points."""
    async with qdrant.store() as store:
        engine = store._engine
        bad = engine.point(str(uuid.uuid4()), {}, np.ones(3, np.float32), None)
        good = engine.point(str(uuid.uuid4()), {"tenant": "default"}, np.ones(4, np.float32), None)
        with pytest.raises(InvalidEvent, match="dim"):
            await engine.upsert([bad, good], insert_only=True)


async def test_a_missing_collection_is_an_outage_that_names_it(qdrant):
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(qdrant.store(collection=f"test-{uuid.uuid4().hex}"))
        await qdrant.drop(store.physical)
        for call in (lambda: put(store, memory()), lambda: store.search(nearest(1))):
            with pytest.raises(Unavailable, match=store.physical):
                await call()


async def test_rows_behind_an_alias(qdrant, alias):
    """A gateway reads the rows of whichever collection is searched at that moment."""
    async with qdrant.connection() as connection:
        reader = rows_behind(connection, f"{alias}-x")
        with pytest.raises(Unavailable):
            await reader.rows([row().key])
        for number, name in enumerate((f"{alias}-1", f"{alias}-2")):
            async with qdrant.store(collection=name) as store:
                await store.put_rows([row(offset=number)])
                await change_alias(qdrant, f"{alias}-x", store.physical)
            assert await reader.rows([row().key]) == [row(offset=number)]
            assert await reader.owners(GROUP) == ["a"]
            assert (await reader.row_page(GROUP, "a", after=None, limit=10))[0] == [row(offset=number)]


async def test_a_collection_of_an_older_version_gets_its_indexes_when_it_is_opened(qdrant, alias):
    model = Model("hash", 4)
    async with qdrant.catalogue(alias) as catalogue:
        name = (await catalogue.ensure_active(model)).name
    async with qdrant.connection() as connection:
        for key in ("owner", "group", "row_expires", "accepted"):
            request = wire.DeleteFieldIndexCollection(collection_name=name, wait=True, field_name=key)
            await connection.call(connection.points.DeleteFieldIndex, request)
    assert len((await described(qdrant, name)).payload_schema) == 14
    async with qdrant.catalogue(alias) as catalogue:
        await catalogue.ensure_active(model)
        store = await catalogue.open(name)
        assert len((await described(qdrant, name)).payload_schema) == 18
        await store.put_rows([row()])
        assert await store.owners(GROUP) == ["a"]


async def test_a_hybrid_search_makes_three_calls(qdrant, monkeypatch):
    """Both lists in one call, the scores that each list lacks in one, the memories in one: each call costs 0.5 ms of CPU."""
    async with qdrant.store(dim=4) as store:
        rng = np.random.default_rng(1)
        rows = rng.standard_normal((120, 4)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        await store.insert([memory(f"m{n}", text=f"oak {n} by the lake {n % 7}") for n in range(120)], rows)
        calls = []
        usual = store._engine._call

        async def counted(method, request):
            calls.append(type(request).__name__)
            return await usual(method, request)

        monkeypatch.setattr(store._engine, "_call", counted)
        query = HybridQuery(Scope("default", ("a",)), text="lake 3", vector=tuple(rows[0]), k=3, now=NOW)
        assert len(await store.search(query)) == 3
    assert calls == ["QueryBatchPoints", "QueryBatchPoints", "GetPoints"]
