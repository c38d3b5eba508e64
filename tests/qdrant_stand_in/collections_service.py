"""The gRPC service Collections: creation, description, aliases."""

from __future__ import annotations

import qdrant_edge as edge
from qdrant_client import grpc as wire

from tests.qdrant_stand_in.catalogue import Catalogue
from tests.qdrant_stand_in.refusals import allow_fields, unimplemented

_TYPES = {
    edge.PayloadSchemaType.Keyword: wire.PayloadSchemaType.Keyword,
    edge.PayloadSchemaType.Integer: wire.PayloadSchemaType.Integer,
    edge.PayloadSchemaType.Float: wire.PayloadSchemaType.Float,
}


class CollectionsService(wire.CollectionsServicer):
    """Every method is called as `method(request)` by `serving._with_handlers`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def Get(self, request: wire.GetCollectionInfoRequest) -> wire.GetCollectionInfoResponse:  # noqa: N802
        found = self._catalogue.get(request.collection_name)
        made, info = found.created, found.shard.info()
        params = wire.CollectionParams(
            shard_number=made.shard_number or 1,
            on_disk_payload=made.on_disk_payload,
            vectors_config=made.vectors_config,
            sparse_vectors_config=made.sparse_vectors_config,
            replication_factor=made.replication_factor or 1,
            write_consistency_factor=made.write_consistency_factor or 1,
        )
        config = wire.CollectionConfig(params=params, hnsw_config=made.hnsw_config, metadata=made.metadata)
        if made.HasField("quantization_config"):
            config.quantization_config.CopyFrom(made.quantization_config)
        schema = {
            key: wire.PayloadSchemaInfo(data_type=_TYPES[index.data_type], points=index.points)
            for key, index in info.payload_schema.items()
        }
        result = wire.CollectionInfo(
            status=wire.CollectionStatus.Green,
            optimizer_status=wire.OptimizerStatus(ok=True),
            segments_count=info.segments_count,
            points_count=info.points_count,
            config=config,
            payload_schema=schema,
        )
        return wire.GetCollectionInfoResponse(result=result)

    def List(self, request: wire.ListCollectionsRequest) -> wire.ListCollectionsResponse:  # noqa: N802
        listed = [wire.CollectionDescription(name=name) for name in self._catalogue.names]
        return wire.ListCollectionsResponse(collections=listed)

    def Create(self, request: wire.CreateCollection) -> wire.CollectionOperationResponse:  # noqa: N802
        self._catalogue.create(request)
        return wire.CollectionOperationResponse(result=True)

    def Delete(self, request: wire.DeleteCollection) -> wire.CollectionOperationResponse:  # noqa: N802
        allow_fields(request, "collection_name")
        return wire.CollectionOperationResponse(result=self._catalogue.delete(request.collection_name))

    def CreateShardKey(self, request: wire.CreateShardKeyRequest) -> wire.CreateShardKeyResponse:  # noqa: N802
        allow_fields(request, "collection_name", "request")
        allow_fields(request.request, "shard_key")
        if request.request.shard_key.WhichOneof("key") != "number":
            raise unimplemented("a shard key that is no number")
        self._catalogue.create_shard_key(request.collection_name, request.request.shard_key.number)
        return wire.CreateShardKeyResponse(result=True)

    def CollectionClusterInfo(  # noqa: N802
        self, request: wire.CollectionClusterInfoRequest
    ) -> wire.CollectionClusterInfoResponse:
        keys = self._catalogue.shard_keys(self._catalogue.get(request.collection_name).name)
        shards = [
            wire.LocalShardInfo(shard_id=number, shard_key=wire.ShardKey(number=key))
            for number, key in enumerate(keys)
        ]
        return wire.CollectionClusterInfoResponse(shard_count=len(keys), local_shards=shards)

    def UpdateAliases(self, request: wire.ChangeAliases) -> wire.CollectionOperationResponse:  # noqa: N802
        allow_fields(request, "actions")
        self._catalogue.change_aliases(request)
        return wire.CollectionOperationResponse(result=True)

    def ListAliases(self, request: wire.ListAliasesRequest) -> wire.ListAliasesResponse:  # noqa: N802
        listed = [
            wire.AliasDescription(alias_name=alias, collection_name=target)
            for alias, target in self._catalogue.aliases.items()
        ]
        return wire.ListAliasesResponse(aliases=listed)
