"""The gRPC service Points: writes and queries, each passed on to Qdrant Edge."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import qdrant_edge as edge
from qdrant_client import grpc as wire
from qdrant_client.conversions.conversion import grpc_to_payload, payload_to_grpc

from tests.qdrant_stand_in import shard_keys
from tests.qdrant_stand_in.catalogue import Catalogue, Collection
from tests.qdrant_stand_in.filters import edge_filter
from tests.qdrant_stand_in.formulas import expression
from tests.qdrant_stand_in.refusals import allow_fields, invalid, unimplemented

_MODES = {
    wire.UpdateMode.Upsert: edge.UpdateMode.Upsert,
    wire.UpdateMode.InsertOnly: edge.UpdateMode.InsertOnly,
    wire.UpdateMode.UpdateOnly: edge.UpdateMode.UpdateOnly,
}
_DIRECTIONS = {wire.Direction.Asc: edge.Direction.Asc, wire.Direction.Desc: edge.Direction.Desc}
_EXACT = edge.SearchParams(exact=True)
_BATCH_SIZE = 8

T = TypeVar("T")


class PointsService(wire.PointsServicer):
    """Every method is called as `method(request)` by `serving._with_handlers`, and awaited if it is a coroutine."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    # --- writing -------------------------------------------------------------------------------------------

    async def Upsert(self, request: wire.UpsertPoints) -> wire.PointsOperationResponse:  # noqa: N802
        allow_fields(
            request,
            "collection_name",
            "wait",
            "points",
            "ordering",
            "update_mode",
            "update_filter",
            "shard_key_selector",
        )
        found, keys = self._found(request, write=True)
        if keys is not None and len(keys) > 1:
            raise unimplemented("the same points in several shards")
        mode = _MODES[request.update_mode]
        condition = edge_filter(request.update_filter) if request.HasField("update_filter") else None
        points: list[edge.Point] = []
        for some in _batches(request.points):
            points += (_point(found, one, keys) for one in some)
            await asyncio.sleep(0)
        if keys is not None:
            shard_keys.refuse_doubles(found, [one.id.uuid for one in request.points], keys[0])
        for some in _batches(points):
            operation = edge.UpdateOperation.upsert_points(list(some), condition=condition, update_mode=mode)
            _update(found, operation, wait=True)
            await asyncio.sleep(0)
        return _updated(wait=request.wait)

    def Delete(self, request: wire.DeletePoints) -> wire.PointsOperationResponse:  # noqa: N802
        allow_fields(request, "collection_name", "wait", "points", "ordering", "shard_key_selector")
        allow_fields(request.points, "points", "filter")
        found, keys = self._found(request, write=True)
        if request.points.HasField("filter"):
            chosen = shard_keys.within(edge_filter(request.points.filter), keys)
            operation = edge.UpdateOperation.delete_points_by_filter(chosen)
        else:
            ids = [_id(one) for one in request.points.points.ids]
            operation = (
                edge.UpdateOperation.delete_points(list(ids))
                if keys is None
                else edge.UpdateOperation.delete_points_by_filter(shard_keys.among(ids, keys))
            )
        return _update(found, operation, wait=request.wait)

    def DeletePayload(self, request: wire.DeletePayloadPoints) -> wire.PointsOperationResponse:  # noqa: N802
        allow_fields(
            request, "collection_name", "wait", "keys", "points_selector", "ordering", "shard_key_selector"
        )
        allow_fields(request.points_selector, "filter")
        found, keys = self._found(request, write=True)
        chosen = shard_keys.within(edge_filter(request.points_selector.filter), keys)
        operation = edge.UpdateOperation.delete_payload_by_filter(chosen, list(request.keys))
        return _update(found, operation, wait=request.wait)

    def OverwritePayload(self, request: wire.SetPayloadPoints) -> wire.PointsOperationResponse:  # noqa: N802
        allow_fields(
            request, "collection_name", "wait", "payload", "points_selector", "ordering", "shard_key_selector"
        )
        allow_fields(request.points_selector, "filter")
        found, keys = self._found(request, write=True)
        payload = grpc_to_payload(request.payload)
        for key in (None,) if keys is None else keys:
            chosen = shard_keys.within(
                edge_filter(request.points_selector.filter), None if key is None else [key]
            )
            own = payload if key is None else {**payload, shard_keys.PAYLOAD_KEY: key}
            _update(found, edge.UpdateOperation.overwrite_payload_by_filter(chosen, own), wait=request.wait)
        return _updated(wait=request.wait)

    def CreateFieldIndex(self, request: wire.CreateFieldIndexCollection) -> wire.PointsOperationResponse:  # noqa: N802
        allow_fields(request, "collection_name", "wait", "field_name", "field_type", "field_index_params")
        found = self._catalogue.get(request.collection_name)
        operation = edge.UpdateOperation.create_field_index(request.field_name, _index(request))
        return _update(found, operation, wait=request.wait)

    def DeleteFieldIndex(self, request: wire.DeleteFieldIndexCollection) -> wire.PointsOperationResponse:  # noqa: N802
        allow_fields(request, "collection_name", "wait", "field_name")
        found = self._catalogue.get(request.collection_name)
        return _update(found, edge.UpdateOperation.delete_field_index(request.field_name), wait=request.wait)

    # --- reading -------------------------------------------------------------------------------------------

    def QueryBatch(self, request: wire.QueryBatchPoints) -> wire.QueryBatchResponse:  # noqa: N802
        allow_fields(request, "collection_name", "query_points")
        results: list[wire.BatchResult] = []
        for one in request.query_points:
            if one.collection_name != request.collection_name:
                raise invalid("every query of a batch names the collection of the batch")
            results.append(wire.BatchResult(result=self._hits(one)))
        return wire.QueryBatchResponse(result=results)

    def Query(self, request: wire.QueryPoints) -> wire.QueryResponse:  # noqa: N802
        return wire.QueryResponse(result=self._hits(request))

    def _hits(self, request: wire.QueryPoints) -> list[wire.ScoredPoint]:
        allow_fields(
            request,
            "collection_name",
            "prefetch",
            "query",
            "using",
            "filter",
            "params",
            "score_threshold",
            "limit",
            "offset",
            "with_payload",
            "with_vectors",
            "shard_key_selector",
        )
        if request.limit < 1:
            raise invalid("limit: 1 or more")
        found, keys = self._found(request)
        names = list(request.with_vectors.include.names)
        allow_fields(request.with_vectors, "include", *([] if request.with_vectors.enable else ["enable"]))
        asked = edge.QueryRequest(
            request.limit,
            offset=request.offset,
            query=_query(found, request),
            prefetches=[_prefetch(found, one, keys) for one in request.prefetch] or None,
            filter=shard_keys.restricted(request, keys),
            score_threshold=_threshold(request),
            params=_EXACT,
            with_payload=_selection(request),
            with_vector=names or False,
        )
        return [_scored(one) for one in found.shard.query(asked)]

    def Scroll(self, request: wire.ScrollPoints) -> wire.ScrollResponse:  # noqa: N802
        allow_fields(
            request, "collection_name", "filter", "offset", "limit", "with_payload", "shard_key_selector"
        )
        if request.limit < 1:
            raise invalid("limit: 1 or more")
        found, keys = self._found(request)
        asked = edge.ScrollRequest(
            offset=_id(request.offset) if request.HasField("offset") else None,
            limit=request.limit,
            filter=shard_keys.restricted(request, keys),
            with_payload=_selection(request),
        )
        records, offset = found.shard.scroll(asked)
        following = None if offset is None else wire.PointId(uuid=str(offset))
        return wire.ScrollResponse(result=map(_retrieved, records), next_page_offset=following)

    def Get(self, request: wire.GetPoints) -> wire.GetResponse:  # noqa: N802
        allow_fields(request, "collection_name", "ids", "with_payload", "with_vectors", "shard_key_selector")
        found, keys = self._found(request)
        names = list(request.with_vectors.include.names)
        ids = [_id(one) for one in request.ids]
        if keys is not None:
            wanted = edge.ScrollRequest(
                limit=len(ids), filter=shard_keys.among(ids, keys), with_payload=False
            )
            ids = [str(one.id) for one in found.shard.scroll(wanted)[0]]
        records = found.shard.retrieve(list(ids), _selection(request), names or False)
        return wire.GetResponse(result=map(_retrieved, records))

    def Count(self, request: wire.CountPoints) -> wire.CountResponse:  # noqa: N802
        allow_fields(request, "collection_name", "filter", "exact", "shard_key_selector")
        found, keys = self._found(request)
        count = found.shard.count(edge.CountRequest(filter=shard_keys.restricted(request, keys)))
        return wire.CountResponse(result=wire.CountResult(count=count))

    def Facet(self, request: wire.FacetCounts) -> wire.FacetResponse:  # noqa: N802
        allow_fields(request, "collection_name", "key", "filter", "limit", "exact", "shard_key_selector")
        found, keys = self._found(request)
        if request.key not in found.shard.info().payload_schema:
            raise invalid(f"a facet needs an index, and {request.key} has none")
        limit = min(request.limit, max(1, found.shard.info().points_count))
        asked = edge.FacetRequest(request.key, limit, exact=True, filter=shard_keys.restricted(request, keys))
        hits = [
            wire.FacetHit(value=wire.FacetValue(string_value=str(hit.value)), count=hit.count)
            for hit in found.shard.facet(asked).hits
        ]
        return wire.FacetResponse(hits=hits)

    def _found(self, request: Any, *, write: bool = False) -> tuple[Collection, list[int] | None]:
        """The collection that a call is for, and the shard keys that it names."""
        found = self._catalogue.get(request.collection_name)
        return found, shard_keys.of_call(self._catalogue, found, request, write=write)


def _batches(points: Sequence[T]) -> Iterator[Sequence[T]]:
    """Slices of the points. Between two of them other calls are served, as a server does during an upsert."""
    return (points[start : start + _BATCH_SIZE] for start in range(0, len(points), _BATCH_SIZE))


def _update(
    found: Collection, operation: edge.UpdateOperation, *, wait: bool
) -> wire.PointsOperationResponse:
    found.shard.update(operation)
    found.dirty = True
    return _updated(wait=wait)


def _updated(*, wait: bool) -> wire.PointsOperationResponse:
    """Without `wait` a server only acknowledges the write; here it is completed in either case."""
    status = wire.UpdateStatus.Completed if wait else wire.UpdateStatus.Acknowledged
    return wire.PointsOperationResponse(result=wire.UpdateResult(status=status))


def _point(found: Collection, sent: wire.PointStruct, keys: Sequence[int] | None) -> edge.Point:
    if not sent.HasField("vectors"):
        raise invalid("Expected some vectors")
    if sent.vectors.WhichOneof("vectors_options") != "vectors":
        raise unimplemented("a vector without a name")
    vectors: dict[str, Any] = {}
    for name, vector in sent.vectors.vectors.vectors.items():
        if name in found.sparse and vector.WhichOneof("vector") == "sparse":
            vectors[name] = _sparse(vector.sparse)
            continue
        if name not in found.sizes:
            raise invalid(f"Not existing vector name error: {name}")
        if vector.WhichOneof("vector") != "dense":
            raise unimplemented("any vector but a dense one")
        if len(vector.dense.data) != found.sizes[name]:
            sizes = f"expected dim: {found.sizes[name]}, got {len(vector.dense.data)}"
            raise invalid(f"Vector dimension error: {sizes}")
        vectors[name] = list(vector.dense.data)
    own = {} if keys is None else {shard_keys.PAYLOAD_KEY: keys[0]}
    return edge.Point(_id(sent.id), vectors, grpc_to_payload(sent.payload) | own)


def _sparse(sent: wire.SparseVector) -> edge.SparseVector:
    if len(sent.indices) != len(sent.values) or len(set(sent.indices)) != len(sent.indices):
        raise invalid("sparse: as many values as indices, and every index once")
    return edge.SparseVector(list(sent.indices), list(sent.values))


def _index(sent: wire.CreateFieldIndexCollection) -> edge.PayloadSchemaParams:
    match sent.field_type, sent.field_index_params.WhichOneof("index_params"):
        case wire.FieldType.FieldTypeKeyword, "keyword_index_params":
            keyword = sent.field_index_params.keyword_index_params
            allow_fields(keyword, "is_tenant")
            return edge.KeywordIndexParams(is_tenant=keyword.is_tenant)
        case wire.FieldType.FieldTypeInteger, "integer_index_params":
            integer = sent.field_index_params.integer_index_params
            allow_fields(integer, "lookup", "range")
            return edge.IntegerIndexParams(lookup=integer.lookup, range=integer.range)
        case wire.FieldType.FieldTypeFloat, "float_index_params":
            allow_fields(sent.field_index_params.float_index_params)
            return edge.FloatIndexParams()
        case other:
            raise unimplemented(f"the index {other}")


def _query(found: Collection, sent: Any) -> edge.Query | edge.OrderBy | edge.Formula:
    """The query of a request, or of a prefetch in it."""
    match sent.query.WhichOneof("variant"):
        case "nearest":
            allow_fields(sent.params, "exact")
            kind = sent.query.nearest.WhichOneof("variant")
            if kind == "sparse" and sent.using in found.sparse:
                return edge.Query.Nearest(_sparse(sent.query.nearest.sparse), sent.using)
            if kind != "dense":
                raise unimplemented(f"a query by {kind} with {sent.using}")
            if sent.using not in found.sizes:
                raise invalid(f"Not existing vector name error: {sent.using}")
            vector = list(sent.query.nearest.dense.data)
            if len(vector) != found.sizes[sent.using]:
                raise invalid(f"Vector dimension error: got {len(vector)}")
            return edge.Query.Nearest(vector, sent.using)
        case "formula":
            allow_fields(sent.query.formula, "expression")
            return edge.Formula(expression(sent.query.formula.expression))
        case "order_by":
            order = sent.query.order_by
            allow_fields(order, "key", "direction", "start_from")
            if order.key not in found.shard.info().payload_schema:
                raise invalid(f"No range index for `order_by` key: `{order.key}`")
            return edge.OrderBy(order.key, _DIRECTIONS[order.direction], _start(order))
        case other:
            raise unimplemented(f"the query {other}")


def _start(order: wire.OrderBy) -> int | None:
    if not order.HasField("start_from"):
        return None
    if order.start_from.WhichOneof("value") != "integer":
        raise unimplemented("a start that is no integer")
    return order.start_from.integer


def _prefetch(found: Collection, sent: wire.PrefetchQuery, keys: Sequence[int] | None) -> edge.Prefetch:
    allow_fields(sent, "query", "using", "filter", "params", "score_threshold", "limit")
    return edge.Prefetch(
        sent.limit,
        query=_query(found, sent),
        filter=shard_keys.restricted(sent, keys),
        params=_EXACT,
        score_threshold=_threshold(sent),
    )


def _threshold(sent: Any) -> float | None:
    return sent.score_threshold if sent.HasField("score_threshold") else None


def _selection(sent: Any) -> bool | list[str]:
    match sent.with_payload.WhichOneof("selector_options"):
        case None:
            return False
        case "enable":
            return sent.with_payload.enable
        case "include":
            return list(sent.with_payload.include.fields)
        case other:
            raise unimplemented(f"the selection {other}")


def _scored(hit: edge.ScoredPoint) -> wire.ScoredPoint:
    payload = payload_to_grpc(hit.payload) if hit.payload else None
    made = wire.ScoredPoint(id=wire.PointId(uuid=str(hit.id)), score=hit.score, payload=payload)
    if isinstance(hit.order_value, int):
        made.order_value.int = hit.order_value
    elif hit.order_value is not None:
        made.order_value.float = hit.order_value
    _show_vectors(made, hit.vector)
    return made


def _retrieved(record: edge.Record) -> wire.RetrievedPoint:
    made = wire.RetrievedPoint(
        id=wire.PointId(uuid=str(record.id)), payload=payload_to_grpc(record.payload or {})
    )
    _show_vectors(made, record.vector)
    return made


def _show_vectors(made: wire.ScoredPoint | wire.RetrievedPoint, vectors: Any) -> None:
    for name, vector in (vectors or {}).items():
        made.vectors.vectors.vectors[name].dense.data.extend(vector)


def _id(sent: wire.PointId) -> str:
    if sent.WhichOneof("point_id_options") != "uuid":
        raise unimplemented("an id that is no UUID")
    return sent.uuid
