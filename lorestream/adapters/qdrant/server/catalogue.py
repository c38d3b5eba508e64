"""The collections of one alias on a Qdrant server. Everything that is noted of them stands in aliases.

    ALIAS                           the collection that is searched
    ALIAS.fed.NAME                  NAME belongs to this alias too, and workers feed it
    ALIAS.complete.NAME             NAME holds all that it should
    ALIAS.replaced.SECONDS          the collection searched before, and the Unix time at which it was replaced
    ALIAS.switching.NAME            the alias is about to be switched from NAME or to it
    ALIAS.deleted.SECONDS.NAME      NAME was marked deleted at that Unix time, and is to be removed

So one call tells everything, and one changes it in a single step that all processes see.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Self

from lorestream.adapters.qdrant.server import collection
from lorestream.adapters.qdrant.server.collection import About, Found, Shape
from lorestream.adapters.qdrant.server.connection import Connection
from lorestream.adapters.qdrant.server.filters import substring_match
from lorestream.adapters.qdrant.server.store import QdrantServerStore
from lorestream.collections.catalogue import Collection, Model
from lorestream.errors import OperationRefused

MAKING_S = 900.0
"""How long the making of a collection may take; what is not fed by then was left by a process that died."""


class ServerCatalogue:
    """A Catalogue over one connection, which all its stores share."""

    def __init__(self, connection: Connection, alias: str, shape: Shape, *, substring: str | None) -> None:
        """Use `open_on`."""
        self._connection = connection
        self._alias = alias
        self._shape = shape
        self._substring = substring
        self._found: dict[str, Found] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def open_on(
        cls, url: str, *, alias: str, grpc_port: int, api_key: str | None, timeout_s: float, shape: Shape
    ) -> AsyncGenerator[Self]:
        """Connect. `shape` is that of collections that have to be made, `timeout_s` each call's deadline.

        Raises Misconfigured for a wrong address, key or version, Unavailable when the server cannot be reached.
        """
        async with Connection.open(
            url, grpc_port=grpc_port, api_key=api_key, timeout_s=timeout_s
        ) as connection:
            substring = substring_match(await connection.version())
            yield cls(connection, alias, shape, substring=substring)

    async def ensure_active(self, model: Model) -> Collection:
        """The collection behind the alias; both are made where there is no alias."""
        about = About(model.model_id, model.dim)
        found = await collection.first_collection(self._connection, self._alias, about, self._shape)
        self._found[found.name] = found
        return next(one for one in await self.list_all() if one.active)

    async def list_all(self) -> Sequence[Collection]:
        """All of them, the one that is searched first."""
        aliases = await collection.aliases(self._connection)
        active = aliases.get(self._alias)
        fed = self._marked(aliases, "fed")
        replaced = {name: float(at) for at, name in self._marked(aliases, "replaced").items()}
        complete = self._marked(aliases, "complete").values()
        switching = self._marked(aliases, "switching").values()
        names = {*fed.values(), *replaced, *([active] if active else [])}
        # A name that is not listed may come back with another model.
        self._found = {name: found for name, found in self._found.items() if name in names}
        listed: list[Collection] = []
        for name in sorted(names, key=lambda name: (name != active, name)):
            about = (await self._find(name)).about
            model = Model(about.model_id, about.dim, about.kind or None, about.model or None)
            listed.append(
                Collection(
                    name,
                    model,
                    about.run,
                    active=name == active,
                    complete=not about.run or name in complete,
                    replaced_at=replaced.get(name),
                    switching=name in switching,
                )
            )
        return listed

    async def create(self, name: str, model: Model, run: str) -> None:
        """Make an empty collection, and have it fed. Raises OperationRefused for a name that is taken."""
        if name in await self.pending_deletions():
            raise OperationRefused(f"{name} is just being made or dropped: try again in some minutes")
        taken = {*await collection.names(self._connection), *await collection.aliases(self._connection)}
        if name in taken:
            raise OperationRefused(
                f"there is a {name} on the server already: choose another name, or drop it first"
            )
        about = About(model.model_id, model.dim, kind=model.kind or "", model=model.name or "", run=run)
        # Whatever dies before it is fed leaves one that is deleted some day.
        unfed = self._deletion_marker(name, time.time() + MAKING_S)
        await collection.create_collection(self._connection, name, about, self._shape)
        await collection.change(self._connection, set_={unfed: name})
        await collection.make_collection(self._connection, name, about, self._shape)
        await collection.change(self._connection, remove=[unfed], set_={self._marker("fed", name): name})

    async def open(self, name: str) -> QdrantServerStore:
        """The store of one of them."""
        return QdrantServerStore(self._connection, await self._find(name), substring=self._substring)

    async def close(self, name: str) -> None:
        """Forget it: the connection is shared."""
        self._found.pop(name, None)

    async def mark_complete(self, name: str) -> None:
        """Note that it holds all that it should."""
        await collection.change(self._connection, set_={self._marker("complete", name): name})

    async def announce_switch(self, names: Sequence[str]) -> None:
        """Note between which the alias is about to turn."""
        marked = self._marked(await collection.aliases(self._connection), "switching")
        outdated = [self._marker("switching", name) for name in marked]
        if outdated or names:
            set_ = {self._marker("switching", name): name for name in names}
            await collection.change(self._connection, remove=outdated, set_=set_)

    async def swap(self, name: str, at: float) -> None:
        """Turn the alias to it, and note which one it replaced."""
        aliases = await collection.aliases(self._connection)
        outdated = [self._marker("replaced", one) for one in self._marked(aliases, "replaced")]
        set_ = {self._alias: name, self._marker("fed", name): name}
        if (before := aliases.get(self._alias)) is not None:
            set_ |= {self._marker("replaced", f"{at:.3f}"): before, self._marker("fed", before): before}
        await collection.change(self._connection, remove=[*outdated, self._alias], set_=set_)

    async def mark_deleted(self, name: str, at: float) -> None:
        """Replace all markers of it by the one that says so."""
        aliases = await collection.aliases(self._connection)
        marks = [
            alias
            for alias, target in aliases.items()
            if target == name and alias.startswith(f"{self._alias}.")
        ]
        if marks:
            await collection.change(
                self._connection, remove=marks, set_={self._deletion_marker(name, at): name}
            )

    async def pending_deletions(self) -> Mapping[str, float]:
        """What the marks say is to go."""
        marks = self._marked(await collection.aliases(self._connection), "deleted")
        return {name: float(rest.partition(".")[0]) for rest, name in marks.items()}

    async def delete(self, name: str) -> None:
        """Remove it from the server."""
        await self.close(name)
        if name in await self.pending_deletions():
            await collection.delete_collection(self._connection, name)

    async def _find(self, name: str) -> Found:
        """What does not change of a collection is asked for once."""
        if name not in self._found:
            self._found[name] = await collection.find_collection(self._connection, self._alias, name)
        return self._found[name]

    def _marker(self, kind: str, of: str) -> str:
        return collection.marker(self._alias, kind, of)

    def _deletion_marker(self, name: str, at: float) -> str:
        return self._marker("deleted", f"{at:.0f}.{name}")

    def _marked(self, aliases: Mapping[str, str], kind: str) -> dict[str, str]:
        return collection.marked(aliases, self._alias, kind)
