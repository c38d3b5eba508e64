"""Collections and their aliases in a directory. After a kill, unfinished collections are removed.

collections/NAME/create.pb   the request that created it
collections/NAME/shard       Edge's own files
collections/NAME/shard_keys.json
snapshots/NAME/SNAPSHOT      a tar of such a directory
aliases.json                 alias -> collection
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import grpc
import qdrant_edge as edge
from qdrant_client import grpc as wire

from lorestream import durable
from tests.qdrant_stand_in.refusals import RequestError, allow_fields, invalid, not_found, unimplemented


@dataclass
class Collection:
    """One shard, and the request that created it."""

    name: str
    created: wire.CreateCollection
    shard: edge.EdgeShard
    dirty: bool = False
    """Whether it was changed since the last flush. What was not flushed is replayed, slowly, after a kill."""

    @property
    def sizes(self) -> dict[str, int]:
        """The dimension of each vector."""
        return {name: one.size for name, one in self.created.vectors_config.params_map.map.items()}

    @property
    def custom(self) -> bool:
        """Whether it has shard keys."""
        return self.created.sharding_method == wire.ShardingMethod.Custom

    @property
    def sparse(self) -> frozenset[str]:
        """The names of its sparse vectors."""
        return frozenset(self.created.sparse_vectors_config.map)


class Catalogue:
    """All collections and aliases. Every method may raise RequestError."""

    def __init__(self, directory: Path) -> None:
        self._root = directory / "collections"
        self._alias_file = directory / "aliases.json"
        self.snapshots = directory / "snapshots"
        self._root.mkdir(parents=True, exist_ok=True)
        self._collections: dict[str, Collection] = {}
        for path in self._root.iterdir():
            if path.suffix == ".new":
                shutil.rmtree(path)
                continue
            created = wire.CreateCollection.FromString((path / "create.pb").read_bytes())
            name = unquote(path.name)
            self._collections[name] = Collection(name, created, edge.EdgeShard.load(str(path / "shard")))
        self.aliases: dict[str, str] = (
            json.loads(self._alias_file.read_text()) if self._alias_file.exists() else {}
        )

    @property
    def names(self) -> list[str]:
        return sorted(self._collections)

    def get(self, name: str) -> Collection:
        """A collection by its name or an alias."""
        found = self._collections.get(self.aliases.get(name, name))
        if found is None:
            raise not_found(name)
        return found

    def create(self, sent: wire.CreateCollection) -> None:
        name = sent.collection_name
        if not name or len(name) > 255:
            raise invalid("collection_name: 1 to 255 characters")
        if name in self._collections:
            raise RequestError(
                grpc.StatusCode.ALREADY_EXISTS, f"Wrong input: Collection `{name}` already exists!"
            )
        if name in self.aliases:
            raise invalid(
                f"Can't create collection with name {name}. Alias with the same name already exists"
            )
        path = self._root / quote(name, safe="")
        making = path.with_name(path.name + ".new")
        making.mkdir()
        shard = edge.EdgeShard.create(str(making / "shard"), _config(sent))
        shard.flush()
        shard.close()
        (making / "create.pb").write_bytes(sent.SerializeToString())
        making.rename(path)
        self._collections[name] = Collection(name, sent, edge.EdgeShard.load(str(path / "shard")))

    def shard_keys(self, name: str) -> list[int]:
        """The shard keys of a collection."""
        path = self._shard_keys_file(name)
        return json.loads(path.read_text()) if path.exists() else []

    def create_shard_key(self, name: str, number: int) -> None:
        found = self.get(name)
        if not found.custom:
            raise invalid("Shard Key cannot be created with Auto sharding method")
        if number in (keys := self.shard_keys(found.name)):
            raise invalid(f"Shard key {number} already exists")
        self._shard_keys_file(found.name).write_text(json.dumps([*keys, number]))

    def _shard_keys_file(self, name: str) -> Path:
        return self.directory_of(name) / "shard_keys.json"

    def directory_of(self, name: str) -> Path:
        return self._root / quote(name, safe="")

    def adopt(self, name: str, fill: Callable[[Path], None]) -> None:
        """Add a collection; `fill` writes the files of its directory."""
        if name in self._collections or name in self.aliases:
            raise unimplemented("a snapshot of a collection that is there")
        path = self.directory_of(name)
        making = path.with_name(path.name + ".new")
        making.mkdir()
        fill(making)
        created = wire.CreateCollection.FromString((making / "create.pb").read_bytes())
        created.collection_name = name
        (making / "create.pb").write_bytes(created.SerializeToString())
        making.rename(path)
        self._collections[name] = Collection(name, created, edge.EdgeShard.load(str(path / "shard")))

    def delete(self, name: str) -> bool:
        found = self._collections.pop(name, None)
        if found is None:
            return False
        found.shard.close()
        shutil.rmtree(self._root / quote(name, safe=""))
        self._save_aliases({alias: target for alias, target in self.aliases.items() if target != name})
        return True

    def change_aliases(self, sent: wire.ChangeAliases) -> None:
        """Apply all changes or none. An existing alias is switched to the new collection, as on a server."""
        aliases = dict(self.aliases)
        for action in sent.actions:
            match action.WhichOneof("action"):
                case "create_alias":
                    alias, target = action.create_alias.alias_name, action.create_alias.collection_name
                    if target not in self._collections:
                        raise not_found(target)
                    if alias in self._collections:
                        raise RequestError(
                            grpc.StatusCode.ALREADY_EXISTS,
                            f"Wrong input: Collection `{alias}` already exists!",
                        )
                    aliases[alias] = target
                case "delete_alias":
                    aliases.pop(action.delete_alias.alias_name, None)
                case other:
                    raise unimplemented(f"the alias action {other}")
        self._save_aliases(aliases)

    async def flush(self) -> None:
        """Flush the collections that were changed."""
        for one in [*self._collections.values()]:
            if one.dirty:
                # Edge's flush stops every thread, so most of the data is written to the disk before it.
                await asyncio.to_thread(durable.sync_contents, self._root / quote(one.name, safe=""))
                if self._collections.get(one.name) is one:
                    one.shard.flush()
                    one.dirty = False

    def close(self) -> None:
        for one in self._collections.values():
            one.shard.flush()
            one.shard.close()

    def _save_aliases(self, aliases: dict[str, str]) -> None:
        partial = self._alias_file.with_suffix(".new")
        partial.write_text(json.dumps(aliases))
        partial.rename(self._alias_file)
        self.aliases = aliases


def _config(sent: wire.CreateCollection) -> edge.EdgeConfig:
    allow_fields(
        sent,
        "collection_name",
        "vectors_config",
        "sparse_vectors_config",
        "metadata",
        # The following fields are stored and shown, without effect on one shard with exact search.
        "hnsw_config",
        "quantization_config",
        "on_disk_payload",
        "shard_number",
        "sharding_method",
        "replication_factor",
        "write_consistency_factor",
        "strict_mode_config",
    )
    for name in ("shard_number", "replication_factor", "write_consistency_factor"):
        if sent.HasField(name) and getattr(sent, name) < 1:
            raise invalid(f"{name}: 1 or more")
    if sent.vectors_config.WhichOneof("config") != "params_map":
        raise unimplemented("a vector without a name")
    vectors: dict[str, edge.EdgeVectorParams] = {}
    for name, one in sent.vectors_config.params_map.map.items():
        allow_fields(one, "size", "distance", "on_disk", "datatype")
        if one.distance != wire.Distance.Cosine:
            raise unimplemented("any distance but the cosine")
        half = edge.VectorStorageDatatype.Float16 if one.datatype == wire.Datatype.Float16 else None
        vectors[name] = edge.EdgeVectorParams(one.size, edge.Distance.Cosine, datatype=half)
    sparse: dict[str, edge.EdgeSparseVectorParams] = {}
    for name, params in sent.sparse_vectors_config.map.items():
        allow_fields(params, "modifier")
        if params.modifier != wire.Modifier.Idf:
            raise unimplemented("a sparse vector without the modifier Idf")
        sparse[name] = edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)
    flat = edge.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=10_000)
    return edge.EdgeConfig(vectors, sparse, hnsw_config=flat, max_search_threads=1)
