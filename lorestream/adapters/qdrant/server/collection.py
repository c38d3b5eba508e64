"""A collection on a Qdrant server: made, found behind its alias, and known by the model that fills it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from qdrant_client import grpc as wire

from lorestream.adapters.qdrant.payload import FLOAT_INDEX_KEYS, SCHEMA_VERSION
from lorestream.errors import LorestreamError, Misconfigured, ModelMismatch

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.server.connection import Connection

VECTOR = "dense"
WORDS = "words"
"""The names of the vectors."""

_FIELD_TYPES: Mapping[str | None, Any] = {
    "keyword_index_params": wire.FieldType.FieldTypeKeyword,
    "integer_index_params": wire.FieldType.FieldTypeInteger,
    "float_index_params": wire.FieldType.FieldTypeFloat,
}
_MAKING_S = 60.0
"""How long a cluster may take to agree on a new collection."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a collection is made that is not there; 0 = the server's own default."""

    shards: int = 0
    replication: int = 0
    write_consistency: int = 0
    on_disk_payload: bool = True
    scalar_quantization: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A collection that is there."""

    name: str
    about: About
    replicated: bool
    """Its points lie on several nodes."""


class About(msgspec.Struct, frozen=True):
    """Who fills a collection: kept as its metadata (Qdrant 1.16 and newer)."""

    model_id: str
    dim: int
    schema: int = SCHEMA_VERSION
    kind: str = ""
    model: str = ""
    """How to load the model, where a replay has chosen it."""
    run: str = ""
    """The replay that made it."""


def physical_name(alias: str, about: About) -> str:
    """The collection that this model fills, if it is the first behind the alias."""
    slug = re.sub("[^a-z0-9]+", "-", about.model_id.lower()).strip("-")[:60]
    digest = hashlib.sha256(msgspec.json.encode([about.model_id, about.dim, about.schema])).hexdigest()
    return f"{alias}__{slug}__{digest[:8]}"


async def first_collection(connection: Connection, alias: str, about: About, shape: Shape) -> Found:
    """The collection behind the alias; both are made where there is no alias.

    Several processes may do this at once. Two models that start together where nothing is may each get a
    collection, since an alias cannot be made on condition; whoever opens it later finds one of them.
    Raises ModelMismatch when another model fills the collection and it does not say how to load that,
    Misconfigured when the alias is a collection's own name, Unavailable.
    """
    physical = await behind(connection, alias)
    if physical is None:
        physical = physical_name(alias, about)
        await _make(connection, alias, physical, about, shape)
        # Another process may have begun with another model: what the alias says now holds for both.
        physical = await behind(connection, alias) or physical
    found = await find_collection(connection, alias, physical)
    if not found.about.kind and (found.about.model_id, found.about.dim) != (about.model_id, about.dim):
        raise ModelMismatch(
            f"the collection behind {alias} was filled by {found.about.model_id} ({found.about.dim} dimensions), not"
            f" by {about.model_id} ({about.dim}): start with that model, or with another LORESTREAM_STORE__COLLECTION"
        )
    return found


async def find_collection(connection: Connection, alias: str, physical: str) -> Found:
    """What there is to know of a collection of this alias. Raises Unavailable, Misconfigured."""
    config = (await _info(connection, physical)).config
    return Found(physical, _about(alias, config.metadata), config.params.replication_factor > 1)


async def aliases(connection: Connection) -> dict[str, str]:
    """The collection that each alias of the server stands for. Raises Unavailable."""
    listed: Any = await connection.call(connection.collections.ListAliases, wire.ListAliasesRequest())
    return {one.alias_name: one.collection_name for one in listed.aliases}


async def names(connection: Connection) -> set[str]:
    """The collections of the server. Raises Unavailable."""
    listed: Any = await connection.call(connection.collections.List, wire.ListCollectionsRequest())
    return {one.name for one in listed.collections}


def marked(found: Mapping[str, str], alias: str, kind: str) -> dict[str, str]:
    """Of an alias' markers of one kind, ALIAS.KIND.REST: the rest, and the collection."""
    prefix = marker(alias, kind, "")
    return {name.removeprefix(prefix): one for name, one in found.items() if name.startswith(prefix)}


def marker(alias: str, kind: str, rest: str) -> str:
    """The name of a marker."""
    return f"{alias}.{kind}.{rest}"


async def behind(connection: Connection, alias: str) -> str | None:
    """The collection that an alias stands for, None while it stands for none. Raises Unavailable."""
    return (await aliases(connection)).get(alias)


async def change(
    connection: Connection, *, remove: Iterable[str] = (), set_: Mapping[str, str] | None = None
) -> None:
    """Remove aliases and turn others to collections, in one step that readers see whole. Raises Unavailable."""
    actions = [wire.AliasOperations(delete_alias=wire.DeleteAlias(alias_name=name)) for name in remove]
    for name, physical in (set_ or {}).items():
        create = wire.CreateAlias(collection_name=physical, alias_name=name)
        actions.append(wire.AliasOperations(create_alias=create))
    await connection.call(
        connection.collections.UpdateAliases, wire.ChangeAliases(actions=actions), timeout_s=_MAKING_S
    )


async def make_collection(connection: Connection, physical: str, about: About, shape: Shape) -> None:
    """Make a collection with its indexes, or go on with what a killed process left. Raises Unavailable."""
    await create_collection(connection, physical, about, shape)
    present = await _info(connection, physical)
    for field, parameters in _indexes().items():
        if field not in present.payload_schema:
            await _index(connection, physical, field, parameters)


async def create_collection(connection: Connection, physical: str, about: About, shape: Shape) -> None:
    """Make a collection without its indexes, if there is none of that name. Raises Unavailable."""
    if physical in await names(connection):
        return
    request = _collection(physical, about, shape)
    try:
        await connection.call(connection.collections.Create, request, timeout_s=_MAKING_S)
    except LorestreamError:
        # Whatever it was that went wrong, somebody else may have made it a moment before.
        if physical not in await names(connection):
            raise


async def delete_collection(connection: Connection, physical: str) -> None:
    """Remove a collection, its points and its aliases. Raises Unavailable."""
    request = wire.DeleteCollection(collection_name=physical)
    await connection.call(connection.collections.Delete, request, timeout_s=_MAKING_S)


async def _info(connection: Connection, name: str) -> wire.CollectionInfo:
    request = wire.GetCollectionInfoRequest(collection_name=name)
    answer: Any = await connection.call(connection.collections.Get, request)
    return answer.result


async def _make(connection: Connection, alias: str, physical: str, about: About, shape: Shape) -> None:
    """A process that dies in between leaves what the next one goes on with: the alias comes last."""
    if alias in await names(connection):
        raise Misconfigured(
            f"{alias} is a collection of its own on {connection.target}, and lorestream needs that name for an alias:"
            " choose another LORESTREAM_STORE__COLLECTION, or rename the collection"
        )
    await make_collection(connection, physical, about, shape)
    if await behind(connection, alias) is None:  # creating one that is there would turn it to our collection
        await change(connection, set_={alias: physical})


def _collection(physical: str, about: About, shape: Shape) -> wire.CreateCollection:
    # The names that are deprecated in 1.20 are those that 1.17 to 1.19 know.
    quantization = None
    if shape.scalar_quantization:
        scalar = wire.ScalarQuantization(type=wire.QuantizationType.Int8, always_ram=True)
        quantization = wire.QuantizationConfig(scalar=scalar)
    dense = wire.VectorParams(
        size=about.dim,
        distance=wire.Distance.Cosine,
        on_disk=True if shape.scalar_quantization else None,
    )
    known: dict[str, Any] = msgspec.to_builtins(about)
    return wire.CreateCollection(
        collection_name=physical,
        vectors_config=wire.VectorsConfig(params_map=wire.VectorParamsMap(map={VECTOR: dense})),
        sparse_vectors_config=wire.SparseVectorConfig(
            map={WORDS: wire.SparseVectorParams(modifier=wire.Modifier.Idf)}
        ),
        hnsw_config=wire.HnswConfigDiff(m=0, payload_m=16),
        quantization_config=quantization,
        on_disk_payload=shape.on_disk_payload,
        shard_number=shape.shards or None,
        replication_factor=shape.replication or None,
        write_consistency_factor=shape.write_consistency or None,
        # A filter may name any field of the metadata, and only a few have an index.
        strict_mode_config=wire.StrictModeConfig(enabled=False),
        metadata={
            key: wire.Value(string_value=value) if isinstance(value, str) else wire.Value(integer_value=value)
            for key, value in known.items()
        },
    )


def _indexes() -> Mapping[str, wire.PayloadIndexParams]:
    def keyword(*, tenant: bool = False) -> wire.PayloadIndexParams:
        return wire.PayloadIndexParams(keyword_index_params=wire.KeywordIndexParams(is_tenant=tenant))

    def integer(*, lookup: bool) -> wire.PayloadIndexParams:
        # Only an index with `range` can be ordered by.
        parameters = wire.IntegerIndexParams(lookup=lookup, range=not lookup)
        return wire.PayloadIndexParams(integer_index_params=parameters)

    return {
        "agent": keyword(tenant=True),
        "tenant": keyword(),
        "type": keyword(),
        "server": keyword(),
        "player": keyword(),
        "agent_player": keyword(),
        "facts": integer(lookup=True),
        "t": integer(lookup=False),
        "expires": integer(lookup=False),
        "deleted": integer(lookup=False),
        **{
            key: wire.PayloadIndexParams(float_index_params=wire.FloatIndexParams())
            for key in FLOAT_INDEX_KEYS
        },
    }


async def _index(
    connection: Connection, physical: str, field: str, parameters: wire.PayloadIndexParams
) -> None:
    request = wire.CreateFieldIndexCollection(
        collection_name=physical,
        wait=True,
        field_name=field,
        field_type=_FIELD_TYPES[parameters.WhichOneof("index_params")],
        field_index_params=parameters,
    )
    await connection.call(connection.points.CreateFieldIndex, request, timeout_s=_MAKING_S)


def _about(alias: str, metadata: Mapping[str, wire.Value]) -> About:
    stored = {
        key: getattr(value, value.WhichOneof("kind") or "string_value") for key, value in metadata.items()
    }
    try:
        found = msgspec.convert(stored, About)
    except msgspec.ValidationError as error:
        raise Misconfigured(
            f"the collection behind {alias} was not made by lorestream:"
            " choose another LORESTREAM_STORE__COLLECTION, or remove the alias"
        ) from error
    if found.schema != SCHEMA_VERSION:
        raise Misconfigured(
            f"the collection behind {alias} has schema {found.schema}, this lorestream writes {SCHEMA_VERSION}:"
            " start the version that made it, or with another LORESTREAM_STORE__COLLECTION"
        )
    return found
