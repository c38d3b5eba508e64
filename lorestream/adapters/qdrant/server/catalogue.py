"""The collections of one alias on a Qdrant server. Their states are stored as further aliases, called markers.

    ALIAS                           the active collection, the one that is searched
    ALIAS.fed.NAME                  NAME belongs to this catalogue and is to be indexed
    ALIAS.complete.NAME             NAME is complete
    ALIAS.replaced.SECONDS          the previously active collection; Unix time at which it was replaced
    ALIAS.switching.NAME            the alias is about to switch from or to NAME
    ALIAS.deleted.SECONDS.NAME      NAME was marked as deleted at that Unix time

One call reads all states, and one call changes several of them in an atomic step that all processes see.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Self

import msgspec
import structlog

from lorestream.adapters.qdrant.server import collection
from lorestream.adapters.qdrant.server.collection import (
    CollectionMetadata,
    CollectionOptions,
    ExistingCollection,
)
from lorestream.adapters.qdrant.server.connection import Connection
from lorestream.adapters.qdrant.server.messages import substring_field
from lorestream.adapters.qdrant.server.store import ServerStore
from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT, warn_of_other_layout
from lorestream.collections.catalogue import (
    CREATION_TIMEOUT_S,
    REFILLED,
    CheckpointOf,
    Collection,
    Model,
    no_checkpoint,
    refilled_run,
)
from lorestream.errors import OperationRefused

_log = structlog.get_logger("lorestream.store")


class ServerCatalogue:
    """A Catalogue over one connection, which all of its stores share."""

    def __init__(
        self,
        connection: Connection,
        alias: str,
        options: CollectionOptions,
        *,
        substring_field: str | None,
        has_checkpoint: CheckpointOf,
        words: str,
    ) -> None:
        """Use `open_on`."""
        self._connection = connection
        self._alias = alias
        self._options = options
        self._substring_field = substring_field
        self._has_checkpoint = has_checkpoint
        self._words = words
        self._found: dict[str, ExistingCollection] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def open_on(
        cls,
        url: str,
        *,
        alias: str,
        grpc_port: int,
        api_key: str | None,
        timeout_s: float,
        options: CollectionOptions,
        has_checkpoint: CheckpointOf = no_checkpoint,
        words: str = DEFAULT_LAYOUT,
    ) -> AsyncGenerator[Self]:
        """Connect. `options`, and `words`, the layout of the words, are those of collections that are created.

        `timeout_s`: the deadline of each call.

        Raises Misconfigured for a wrong address, key or version, Unavailable when the server cannot be reached.
        """
        async with Connection.open(
            url, grpc_port=grpc_port, api_key=api_key, timeout_s=timeout_s
        ) as connection:
            field = substring_field(await connection.version())
            yield cls(
                connection,
                alias,
                options,
                substring_field=field,
                has_checkpoint=has_checkpoint,
                words=words,
            )

    async def ensure_active(self, model: Model) -> Collection:
        """The active collection; collection and alias are created if the alias does not exist."""
        metadata = CollectionMetadata(
            model.model_id, model.dim, words=self._words, shard_keys=self._options.shard_keys
        )
        if await collection.resolve_alias(self._connection, self._alias) is None and (
            await self._has_checkpoint(collection.physical_name(self._alias, metadata), "")
        ):
            metadata = msgspec.structs.replace(metadata, run=refilled_run())
            _log.warning(
                "the store is new and the log is not: the store is filled from the log, as far as that goes back; until"
                " it is done searches find only a part",
                collection=self._alias,
            )
        found = await collection.first_collection(self._connection, self._alias, metadata, self._options)
        self._found[found.name] = found
        return next(one for one in await self.list_all() if one.active)

    async def list_all(self) -> Sequence[Collection]:
        """All collections that are not marked as deleted, the active one first."""
        aliases = await collection.list_aliases(self._connection)
        active = aliases.get(self._alias)
        fed = self._markers(aliases, "fed")
        replaced = {name: float(at) for at, name in self._markers(aliases, "replaced").items()}
        complete = self._markers(aliases, "complete").values()
        switching = self._markers(aliases, "switching").values()
        names = {*fed.values(), *replaced, *([active] if active else [])}
        # A collection that disappeared may be created again under its name with another model.
        self._found = {name: found for name, found in self._found.items() if name in names}
        listed: list[Collection] = []
        for name in sorted(names, key=lambda name: (name != active, name)):
            metadata = (await self._find(name)).metadata
            model = Model(metadata.model_id, metadata.dim, metadata.kind or None, metadata.model or None)
            listed.append(
                Collection(
                    name,
                    model,
                    metadata.run,
                    active=name == active,
                    complete=not metadata.run or metadata.run.startswith(REFILLED) or name in complete,
                    replaced_at=replaced.get(name),
                    switching=name in switching,
                )
            )
        return listed

    async def create(self, name: str, model: Model, run: str) -> None:
        """Create an empty collection that is to be indexed. Raises OperationRefused for a name that is in use."""
        if name in await self.pending_deletions():
            raise OperationRefused(f"{name} is just being created or dropped: try again in some minutes")
        taken = {
            *await collection.list_collections(self._connection),
            *await collection.list_aliases(self._connection),
        }
        if name in taken:
            raise OperationRefused(
                f"the server already has a collection or alias {name}: choose another name, or drop it first"
            )
        metadata = CollectionMetadata(
            model.model_id,
            model.dim,
            kind=model.kind or "",
            model=model.name or "",
            run=run,
            words=self._words,
            shard_keys=self._options.shard_keys,
        )
        # If this process dies before the `fed` marker is set, this marker has the collection deleted later.
        unfinished = collection.deletion_marker(self._alias, name, time.time() + CREATION_TIMEOUT_S)
        await collection.create_collection(self._connection, name, metadata, self._options)
        await collection.update_aliases(self._connection, set_={unfinished: name})
        await collection.create_with_indexes(self._connection, name, metadata, self._options)
        await collection.update_aliases(
            self._connection, remove=[unfinished], set_={self._marker("fed", name): name}
        )

    async def open(self, name: str) -> ServerStore:
        """The store of one collection, after creating the indexes that it lacks."""
        found = await self._find(name)
        if found.missing_indexes:
            await collection.create_indexes(self._connection, name, found.missing_indexes)
            self._found[name] = found = replace(found, missing_indexes=frozenset())
        store = ServerStore(self._connection, found, substring_field=self._substring_field)
        warn_of_other_layout(name, store.words.layout, self._words)
        return store

    async def close(self, name: str) -> None:
        """Drop the cached metadata of the collection. The connection is shared and stays open."""
        self._found.pop(name, None)

    async def mark_complete(self, name: str) -> None:
        """Mark the collection as complete."""
        await collection.update_aliases(self._connection, set_={self._marker("complete", name): name})

    async def announce_switch(self, names: Sequence[str]) -> None:
        """Mark these collections, and no others, as the ones between which the alias is about to switch."""
        marked = self._markers(await collection.list_aliases(self._connection), "switching")
        outdated = [self._marker("switching", name) for name in marked]
        if outdated or names:
            set_ = {self._marker("switching", name): name for name in names}
            await collection.update_aliases(self._connection, remove=outdated, set_=set_)

    async def swap(self, name: str, at: float) -> None:
        """Switch the alias to the collection, and mark the previous one as replaced at `at` (Unix seconds)."""
        aliases = await collection.list_aliases(self._connection)
        outdated = [self._marker("replaced", one) for one in self._markers(aliases, "replaced")]
        set_ = {self._alias: name, self._marker("fed", name): name}
        if (before := aliases.get(self._alias)) is not None:
            set_ |= {self._marker("replaced", f"{at:.3f}"): before, self._marker("fed", before): before}
        await collection.update_aliases(self._connection, remove=[*outdated, self._alias], set_=set_)

    async def mark_deleted(self, name: str, at: float) -> None:
        """Replace all markers of the collection by the one that marks it as deleted."""
        aliases = await collection.list_aliases(self._connection)
        outdated = [
            alias
            for alias, target in aliases.items()
            if target == name and alias.startswith(f"{self._alias}.")
        ]
        if outdated:
            marker = collection.deletion_marker(self._alias, name, at)
            await collection.update_aliases(self._connection, remove=outdated, set_={marker: name})

    async def pending_deletions(self) -> Mapping[str, float]:
        """The collections that are marked as deleted, each with the Unix time of its marker."""
        marked = self._markers(await collection.list_aliases(self._connection), "deleted")
        return {name: float(rest.partition(".")[0]) for rest, name in marked.items()}

    async def delete(self, name: str) -> None:
        """Remove the collection from the server, if it is marked as deleted."""
        await self.close(name)
        if name in await self.pending_deletions():
            await collection.delete_collection(self._connection, name)

    async def _find(self, name: str) -> ExistingCollection:
        """What the server knows of a collection. It does not change, so it is requested once."""
        if name not in self._found:
            self._found[name] = await collection.find_collection(self._connection, self._alias, name)
        return self._found[name]

    def _marker(self, kind: str, rest: str) -> str:
        return collection.marker_name(self._alias, kind, rest)

    def _markers(self, aliases: Mapping[str, str], kind: str) -> dict[str, str]:
        return collection.markers(aliases, self._alias, kind)
