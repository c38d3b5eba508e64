"""The stand-in itself: it rejects everything that it does not implement, and names it."""

import urllib.error
import urllib.request
import uuid

import grpc
import pytest
from qdrant_client import grpc as wire

from tests.qdrant_stand_in.fixtures import at
from tests.qdrant_stand_in.process import StandIn


def match(**kind):
    return wire.Condition(field=wire.FieldCondition(key="type", match=wire.Match(**kind)))


def counting(condition):
    return wire.CountPoints(exact=True, filter=wire.Filter(must=[condition]))


def upsert(**more):
    return wire.UpsertPoints(wait=True, **more)


ID = wire.PointId(uuid=str(uuid.uuid4()))
UNKNOWN = {
    "substring, which is newer than 1.18": ("Count", counting(match(substring="x"))),
    "boolean": ("Count", counting(match(boolean=True))),
    "except_keywords": ("Count", counting(match(except_keywords=wire.RepeatedStrings(strings=["x"])))),
    "has_vector": ("Count", counting(wire.Condition(has_vector=wire.HasVectorCondition(has_vector="dense")))),
    "is_null": ("Count", counting(wire.Condition(is_null=wire.IsNullCondition(key="type")))),
    "values_count": (
        "Count",
        counting(
            wire.Condition(
                field=wire.FieldCondition(
                    key="a", range=wire.Range(gt=1), values_count=wire.ValuesCount(gt=1)
                )
            )
        ),
    ),
    "min_should": ("Count", wire.CountPoints(filter=wire.Filter(min_should=wire.MinShould(min_count=1)))),
    "payload of ids": (
        "DeletePayload",
        wire.DeletePayloadPoints(points_selector=wire.PointsSelector(points=wire.PointsIdsList())),
    ),
    "read_consistency": ("Query", wire.QueryPoints(limit=1, read_consistency=wire.ReadConsistency(factor=2))),
    "fusion": ("Query", wire.QueryPoints(limit=1, query=wire.Query(fusion=wire.Fusion.RRF))),
    "a whole method": ("SetPayload", wire.SetPayloadPoints()),
}
WRONG = {
    "no vectors": ("Upsert", upsert(points=[wire.PointStruct(id=ID)])),
    "a field without an index": ("Facet", wire.FacetCounts(key="nowhere", limit=1)),
    "no limit": ("Query", wire.QueryPoints(query=wire.Query(order_by=wire.OrderBy(key="t")))),
    "an order without an index": (
        "Query",
        wire.QueryPoints(limit=1, query=wire.Query(order_by=wire.OrderBy(key="nowhere"))),
    ),
}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """Always the stand-in, even if a real server is configured."""
    with StandIn(tmp_path_factory.mktemp("qdrant")) as started:
        yield at(started)


async def status(qdrant, name, request):
    async with qdrant.store() as store, qdrant.connection() as connection:
        request.collection_name = store.physical
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await connection.send(getattr(connection.points, name), request)
        return failed.value.code()


@pytest.mark.parametrize("what", UNKNOWN)
async def test_unknown_requests_are_unimplemented(stand_in, what):
    assert await status(stand_in, *UNKNOWN[what]) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("what", WRONG)
async def test_requests_that_a_server_rejects(stand_in, what):
    assert await status(stand_in, *WRONG[what]) is grpc.StatusCode.INVALID_ARGUMENT


def test_health_routes(own_qdrant):
    for path in ("/", "/readyz", "/healthz", "/livez"):
        with urllib.request.urlopen(own_qdrant.url + path, timeout=5) as answer:
            assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(f"{own_qdrant.url}/collections", timeout=5)


async def test_collections_and_aliases_survive_a_kill(own_qdrant):
    qdrant = at(own_qdrant)
    async with qdrant.store(collection="kept") as store:
        physical = store.physical
    async with qdrant.store() as other:
        await qdrant.drop(other.physical)
        own_qdrant.kill()
        own_qdrant.start()
        async with qdrant.connection() as connection:
            listed = await connection.call(connection.collections.ListAliases, wire.ListAliasesRequest())
            assert [(one.alias_name, one.collection_name) for one in listed.aliases] == [("kept", physical)]
            created = wire.CreateCollection(collection_name=physical)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await connection.send(connection.collections.Create, created)
            assert failed.value.code() is grpc.StatusCode.ALREADY_EXISTS
