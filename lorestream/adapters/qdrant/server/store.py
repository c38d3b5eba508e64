"""The store on a Qdrant server or Qdrant Cloud, shared by any number of processes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Literal, Self

from qdrant_client import grpc as wire

from lorestream.adapters.qdrant.server.collection import About, Found, Shape, first_collection
from lorestream.adapters.qdrant.server.connection import Connection
from lorestream.adapters.qdrant.server.engine import ServerEngine
from lorestream.adapters.qdrant.server.filters import substring_match
from lorestream.adapters.qdrant.store import QdrantStore


class QdrantServerStore(QdrantStore[wire.PointStruct]):
    """A VectorStore in a collection of a server. What a call has written stands in the server's own log."""

    def __init__(self, connection: Connection, found: Found, *, substring: str | None) -> None:
        """`substring`: how the server's version says it (see `server_filters`)."""
        engine = ServerEngine(connection, found.name, substring=substring, replicated=found.replicated)
        super().__init__(engine, dim=found.about.dim)
        self.physical = found.name
        """The collection itself, whatever stands behind an alias."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        model_id: str,
        dim: int,
        collection: str = "agent_memories",
        grpc_port: int = 6334,
        api_key: str | None = None,
        timeout_s: float = 5.0,
        shards: int = 0,
        replication: int = 0,
        write_consistency: int = 0,
        on_disk_payload: bool = True,
        quantization: Literal["none", "scalar"] = "none",
    ) -> AsyncGenerator[Self]:
        """Connect, and find the collection behind the alias `collection`; both are made where there are none.

        `timeout_s` is the deadline of each call. `shards`, `replication`, `write_consistency` (0 = the
        server's own default), `on_disk_payload` and `quantization` are those of a collection that has to be
        made.
        Raises ModelMismatch when another model fills it, Misconfigured for a wrong address, key, version or
        alias, Unavailable when the server cannot be reached.
        """
        shape = Shape(shards, replication, write_consistency, on_disk_payload, quantization == "scalar")
        async with Connection.open(
            url, grpc_port=grpc_port, api_key=api_key, timeout_s=timeout_s
        ) as connection:
            substring = substring_match(await connection.version())
            found = await first_collection(connection, collection, About(model_id, dim), shape)
            yield cls(connection, found, substring=substring)
