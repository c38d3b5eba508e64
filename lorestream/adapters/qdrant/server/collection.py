"""A collection on a Qdrant server: its creation with indexes, its metadata, and the server's aliases.

The metadata names the model whose vectors the collection holds, so that no other model is used with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from lorestream.adapters.qdrant.payload import FLOAT_INDEX_KEYS, READABLE_SCHEMAS, SCHEMA_VERSION
from lorestream.adapters.qdrant.server.protocol import wire
from lorestream.adapters.qdrant.words import FIRST_LAYOUT
from lorestream.errors import LorestreamError, Misconfigured, ModelMismatch

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.server.connection import Connection

DENSE_VECTOR = "dense"
SPARSE_VECTOR = "words"
"""The names of the vectors of a point, as stored."""

_FIELD_TYPES: Mapping[str | None, Any] = {
    "keyword_index_params": wire.FieldType.FieldTypeKeyword,
    "integer_index_params": wire.FieldType.FieldTypeInteger,
    "float_index_params": wire.FieldType.FieldTypeFloat,
}
_CLUSTER_TIMEOUT_S = 60.0
"""Deadline of calls on which all nodes of a cluster have to agree: collections, indexes, aliases."""


@dataclass(frozen=True, slots=True)
class CollectionOptions:
    """How a new collection is created; 0 means the server's default."""

    shards: int = 0
    replication: int = 0
    write_consistency: int = 0
    on_disk_payload: bool = True
    scalar_quantization: bool = False
    half_precision: bool = False
    """Vectors are stored as float16."""
    shard_keys: int = 0
    """Custom sharding with so many shard keys, each with `shards` shards; 0: the server distributes the points."""


@dataclass(frozen=True, slots=True)
class ExistingCollection:
    """A collection on the server."""

    name: str
    metadata: CollectionMetadata
    replicated: bool
    """Its points are stored on several nodes."""
    missing_indexes: frozenset[str] = frozenset()
    """The payload keys that have no index yet, because an older version created the collection."""


class CollectionMetadata(msgspec.Struct, frozen=True):
    """What Lorestream stores as the metadata of a collection (Qdrant 1.16 and newer)."""

    model_id: str
    dim: int
    schema: int = SCHEMA_VERSION
    kind: str = ""
    model: str = ""
    """`kind` and `model` say how to load the model; empty for the model of the settings."""
    run: str = ""
    """The id of the replay that created the collection; empty for the first one."""
    words: str = FIRST_LAYOUT
    """The layout of the words, an argument of `open_words`."""
    shard_keys: int = 0
    """As in CollectionOptions. The setting may have changed since."""


def physical_name(alias: str, metadata: CollectionMetadata) -> str:
    """The name of the first collection behind an alias, made of the alias and the model."""
    slug = re.sub("[^a-z0-9]+", "-", metadata.model_id.lower()).strip("-")[:60]
    identity = [metadata.model_id, metadata.dim, metadata.schema]
    digest = hashlib.sha256(msgspec.json.encode(identity)).hexdigest()
    return f"{alias}__{slug}__{digest[:8]}"


async def first_collection(
    connection: Connection, alias: str, metadata: CollectionMetadata, options: CollectionOptions
) -> ExistingCollection:
    """The collection behind the alias; collection and alias are created if the alias does not exist.

    Several processes may call this at the same time. If two of them start with different models, each may create a
    collection, because Qdrant cannot create an alias conditionally; the alias then leads to one of the two.
    Raises ModelMismatch when the collection was filled by another model and does not say how to load it,
    Misconfigured when the alias is the name of a collection, Unavailable.
    """
    physical = await resolve_alias(connection, alias)
    if physical is None:
        physical = physical_name(alias, metadata)
        await _create_with_alias(connection, alias, physical, metadata, options)
        # Another process may have set the alias to its own collection: the alias decides for both.
        physical = await resolve_alias(connection, alias) or physical
    found = await find_collection(connection, alias, physical)
    stored = found.metadata
    if not stored.kind and (stored.model_id, stored.dim) != (metadata.model_id, metadata.dim):
        raise ModelMismatch(
            f"the collection behind {alias} was filled by {stored.model_id} ({stored.dim} dimensions), not"
            f" by {metadata.model_id} ({metadata.dim}): start with that model, or with another"
            " LORESTREAM_STORE__COLLECTION"
        )
    return found


async def find_collection(connection: Connection, alias: str, physical: str) -> ExistingCollection:
    """The collection of that name; `alias` is used in messages only.

    Raises Unavailable, and Misconfigured when Lorestream did not create it or another schema version did.
    """
    info = await _info(connection, physical)
    return ExistingCollection(
        physical,
        _parse_metadata(alias, info.config.metadata),
        replicated=info.config.params.replication_factor > 1,
        missing_indexes=frozenset(_indexes()) - frozenset(info.payload_schema),
    )


async def list_aliases(connection: Connection) -> dict[str, str]:
    """All aliases of the server: alias -> collection. Raises Unavailable."""
    listed: Any = await connection.call(connection.collections.ListAliases, wire.ListAliasesRequest())
    return {one.alias_name: one.collection_name for one in listed.aliases}


async def list_collections(connection: Connection) -> set[str]:
    """The names of all collections of the server. Raises Unavailable."""
    listed: Any = await connection.call(connection.collections.List, wire.ListCollectionsRequest())
    return {one.name for one in listed.collections}


def markers(aliases: Mapping[str, str], alias: str, kind: str) -> dict[str, str]:
    """The marker aliases ALIAS.KIND.REST of one kind (see `catalogue`): REST -> collection."""
    prefix = marker_name(alias, kind, "")
    return {name.removeprefix(prefix): one for name, one in aliases.items() if name.startswith(prefix)}


def marker_name(alias: str, kind: str, rest: str) -> str:
    """The name of a marker alias."""
    return f"{alias}.{kind}.{rest}"


def deletion_marker(alias: str, name: str, at: float) -> str:
    """The marker that has the collection `name` deleted, made at the Unix time `at`. In the future: if it stays."""
    return marker_name(alias, "deleted", f"{at:.0f}.{name}")


async def resolve_alias(connection: Connection, alias: str) -> str | None:
    """The collection behind an alias; None if the alias does not exist. Raises Unavailable."""
    return (await list_aliases(connection)).get(alias)


async def update_aliases(
    connection: Connection, *, remove: Iterable[str] = (), set_: Mapping[str, str] | None = None
) -> None:
    """Remove aliases and set others (alias -> collection), in one atomic step. Raises Unavailable."""
    actions = [wire.AliasOperations(delete_alias=wire.DeleteAlias(alias_name=name)) for name in remove]
    for name, physical in (set_ or {}).items():
        create = wire.CreateAlias(collection_name=physical, alias_name=name)
        actions.append(wire.AliasOperations(create_alias=create))
    await connection.call(
        connection.collections.UpdateAliases,
        wire.ChangeAliases(actions=actions),
        timeout_s=_CLUSTER_TIMEOUT_S,
    )


async def create_with_indexes(
    connection: Connection, physical: str, metadata: CollectionMetadata, options: CollectionOptions
) -> None:
    """Create a collection, its shard keys and its payload indexes, as far as they do not exist yet.

    Raises Unavailable, and Misconfigured when the server has no shard keys.
    """
    await create_collection(connection, physical, metadata, options)
    info = await _info(connection, physical)
    await _create_shard_keys(connection, physical, _parse_metadata(physical, info.config.metadata).shard_keys)
    await create_indexes(connection, physical, frozenset(_indexes()) - frozenset(info.payload_schema))


async def _create_shard_keys(connection: Connection, physical: str, keys: int) -> None:
    """Create the shard keys that the collection lacks; it is deleted where the server has no shard keys."""
    if not keys:
        return
    request = wire.CollectionClusterInfoRequest(collection_name=physical)
    found: Any = await connection.call(connection.collections.CollectionClusterInfo, request)
    present = {one.shard_key.number for one in (*found.local_shards, *found.remote_shards)}
    for number in range(keys):
        if number in present:
            continue
        key = wire.CreateShardKey(shard_key=wire.ShardKey(number=number))
        wanted = wire.CreateShardKeyRequest(collection_name=physical, request=key)
        try:
            await connection.call(connection.collections.CreateShardKey, wanted, timeout_s=_CLUSTER_TIMEOUT_S)
        except Misconfigured as error:
            if not number:
                await delete_collection(connection, physical)
            raise Misconfigured(
                f"LORESTREAM_STORE__SHARD_KEYS={keys}: shard key {number} cannot be created ({error}). A Qdrant has shard"
                " keys in cluster mode only: start it with QDRANT__CLUSTER__ENABLED=true, or set 0"
            ) from error


async def create_indexes(connection: Connection, physical: str, fields: frozenset[str]) -> None:
    """Create the indexes of these payload keys. One that exists stays as it is. Raises Unavailable."""
    for field, parameters in _indexes().items():
        if field in fields:
            await _create_index(connection, physical, field, parameters)


async def create_collection(
    connection: Connection, physical: str, metadata: CollectionMetadata, options: CollectionOptions
) -> None:
    """Create a collection without indexes, if there is none of that name. Raises Unavailable."""
    if physical in await list_collections(connection):
        return
    request = _create_request(physical, metadata, options)
    try:
        await connection.call(connection.collections.Create, request, timeout_s=_CLUSTER_TIMEOUT_S)
    except LorestreamError:
        # Another process may have created it between the two calls.
        if physical not in await list_collections(connection):
            raise


async def delete_collection(connection: Connection, physical: str) -> None:
    """Remove a collection with its points and its aliases. Raises Unavailable."""
    request = wire.DeleteCollection(collection_name=physical)
    await connection.call(connection.collections.Delete, request, timeout_s=_CLUSTER_TIMEOUT_S)


async def _info(connection: Connection, name: str) -> wire.CollectionInfo:
    request = wire.GetCollectionInfoRequest(collection_name=name)
    answer: Any = await connection.call(connection.collections.Get, request)
    return answer.result


async def _create_with_alias(
    connection: Connection,
    alias: str,
    physical: str,
    metadata: CollectionMetadata,
    options: CollectionOptions,
) -> None:
    """The alias is created last: after a crash in between, the next process finishes the work."""
    if alias in await list_collections(connection):
        raise Misconfigured(
            f"{alias} is a collection of its own on {connection.target}, and lorestream needs that name for an alias:"
            " choose another LORESTREAM_STORE__COLLECTION, or rename the collection"
        )
    await create_with_indexes(connection, physical, metadata, options)
    # Setting an alias that exists would point it to our collection.
    if await resolve_alias(connection, alias) is None:
        await update_aliases(connection, set_={alias: physical})


def _create_request(
    physical: str, metadata: CollectionMetadata, options: CollectionOptions
) -> wire.CreateCollection:
    # Some of these fields are deprecated in Qdrant 1.20; 1.17 to 1.19 know only these.
    quantization = None
    if options.scalar_quantization:
        scalar = wire.ScalarQuantization(type=wire.QuantizationType.Int8, always_ram=True)
        quantization = wire.QuantizationConfig(scalar=scalar)
    dense = wire.VectorParams(
        size=metadata.dim,
        distance=wire.Distance.Cosine,
        on_disk=True if options.scalar_quantization else None,
        datatype=wire.Datatype.Float16 if options.half_precision else None,
    )
    values: dict[str, Any] = msgspec.to_builtins(metadata)
    return wire.CreateCollection(
        collection_name=physical,
        vectors_config=wire.VectorsConfig(params_map=wire.VectorParamsMap(map={DENSE_VECTOR: dense})),
        sparse_vectors_config=wire.SparseVectorConfig(
            map={SPARSE_VECTOR: wire.SparseVectorParams(modifier=wire.Modifier.Idf)}
        ),
        hnsw_config=wire.HnswConfigDiff(m=0, payload_m=16),
        quantization_config=quantization,
        on_disk_payload=options.on_disk_payload,
        sharding_method=wire.ShardingMethod.Custom if metadata.shard_keys else None,
        shard_number=options.shards or None,
        replication_factor=options.replication or None,
        write_consistency_factor=options.write_consistency or None,
        # Strict mode would refuse filters on metadata keys, which have no index.
        strict_mode_config=wire.StrictModeConfig(enabled=False),
        metadata={
            key: wire.Value(string_value=value) if isinstance(value, str) else wire.Value(integer_value=value)
            for key, value in values.items()
        },
    )


def _indexes() -> Mapping[str, wire.PayloadIndexParams]:
    def keyword(*, tenant: bool = False) -> wire.PayloadIndexParams:
        return wire.PayloadIndexParams(keyword_index_params=wire.KeywordIndexParams(is_tenant=tenant))

    def integer(*, lookup: bool) -> wire.PayloadIndexParams:
        # Ordering by a key needs an index with `range`.
        parameters = wire.IntegerIndexParams(lookup=lookup, range=not lookup)
        return wire.PayloadIndexParams(integer_index_params=parameters)

    return {
        "agent": keyword(tenant=True),
        "tenant": keyword(),
        "type": keyword(),
        "server": keyword(),
        "player": keyword(),
        "agent_player": keyword(),
        "owner": keyword(),
        "group": keyword(),
        "facts": integer(lookup=True),
        "t": integer(lookup=False),
        "accepted": integer(lookup=False),
        "expires": integer(lookup=False),
        "row_expires": integer(lookup=False),
        "deleted": integer(lookup=False),
        **{
            key: wire.PayloadIndexParams(float_index_params=wire.FloatIndexParams())
            for key in FLOAT_INDEX_KEYS
        },
    }


async def _create_index(
    connection: Connection, physical: str, field: str, parameters: wire.PayloadIndexParams
) -> None:
    request = wire.CreateFieldIndexCollection(
        collection_name=physical,
        wait=True,
        field_name=field,
        field_type=_FIELD_TYPES[parameters.WhichOneof("index_params")],
        field_index_params=parameters,
    )
    await connection.call(connection.points.CreateFieldIndex, request, timeout_s=_CLUSTER_TIMEOUT_S)


def _parse_metadata(alias: str, stored: Mapping[str, wire.Value]) -> CollectionMetadata:
    values = {key: getattr(one, one.WhichOneof("kind") or "string_value") for key, one in stored.items()}
    try:
        metadata = msgspec.convert(values, CollectionMetadata)
    except msgspec.ValidationError as error:
        raise Misconfigured(
            f"the collection behind {alias} was not made by lorestream:"
            " choose another LORESTREAM_STORE__COLLECTION, or remove the alias"
        ) from error
    if metadata.schema not in READABLE_SCHEMAS:
        raise Misconfigured(
            f"the collection behind {alias} has schema {metadata.schema}, this lorestream writes {SCHEMA_VERSION}:"
            " start the version that made it, or with another LORESTREAM_STORE__COLLECTION"
        )
    return metadata
