"""The store on a Qdrant server or Qdrant Cloud, shared by any number of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorestream.adapters.qdrant.rows import QdrantRows
from lorestream.adapters.qdrant.server.engine import ServedCollection, ServerEngine
from lorestream.adapters.qdrant.server.one_request import LargeAgents, OneRequest
from lorestream.adapters.qdrant.server.protocol import wire
from lorestream.adapters.qdrant.server.sharding import Sharding
from lorestream.adapters.qdrant.store import QdrantStore
from lorestream.adapters.qdrant.words import open_words

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.server.collection import ExistingCollection
    from lorestream.adapters.qdrant.server.connection import Connection
    from lorestream.ports import MemoryReader, RowReader


def rows_behind(connection: Connection, alias: str) -> RowReader:
    """The rows of the collection that the alias names at the time of each call; Unavailable while it names none."""
    served = ServedCollection(connection, alias, substring_field=None, replicated=False, sharding=Sharding(0))
    return QdrantRows(ServerEngine(served))


class ServerStore(QdrantStore[wire.PointStruct]):
    """A VectorStore in one collection of a server. A write that has returned is in the server's own log."""

    def __init__(
        self, connection: Connection, collection: ExistingCollection, *, substring_field: str | None
    ) -> None:
        """`substring_field`: see `messages.substring_field`, for the version of this server."""
        self._served = ServedCollection(
            connection,
            collection.name,
            substring_field=substring_field,
            replicated=collection.replicated,
            sharding=Sharding(collection.metadata.shard_keys),
        )
        words = open_words(collection.metadata.words)
        super().__init__(ServerEngine(self._served), dim=collection.metadata.dim, words=words)
        self._large = LargeAgents()
        self.physical = collection.name
        """The name of the collection itself, not of an alias."""

    def for_request(self, anchors: int, span: int) -> MemoryReader:
        """A reader that asks the server for nothing twice."""
        return self._over(OneRequest(self._served, self._large, anchors, span))
