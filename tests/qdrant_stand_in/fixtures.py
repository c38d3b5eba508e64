"""A Qdrant server for tests: the one at LORESTREAM_TEST_QDRANT_URL if that is set, else the stand-in.

LORESTREAM_TEST_QDRANT_GRPC_PORT (default 6334) and LORESTREAM_TEST_QDRANT_API_KEY belong to that URL. The server may be in
use by others: tests create collections with random names, and drop them.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.qdrant_stand_in.process import StandIn

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.server.catalogue import ServerCatalogue
    from lorestream.adapters.qdrant.server.connection import Connection
    from lorestream.adapters.qdrant.server.store import ServerStore

TIMEOUT_S = 30.0
"""Deadline of each call: the machines that run tests may be under load."""


@dataclass(frozen=True)
class Qdrant:
    """The address of a server."""

    url: str
    grpc_port: int
    api_key: str | None = None

    @contextlib.asynccontextmanager
    async def store(
        self,
        *,
        collection: str | None = None,
        model_id: str = "hash",
        dim: int = 4,
        timeout_s: float = TIMEOUT_S,
        **options: Any,
    ) -> AsyncIterator[ServerStore]:
        """The store behind the alias `collection`; None: in a new collection that is dropped at the end.

        `options`: the fields of CollectionOptions.
        """
        from lorestream.adapters.qdrant.server.collection import (  # noqa: PLC0415 (the import takes a second)
            CollectionMetadata,
            CollectionOptions,
            delete_collection,
            first_collection,
        )
        from lorestream.adapters.qdrant.server.messages import substring_field  # noqa: PLC0415
        from lorestream.adapters.qdrant.server.store import ServerStore  # noqa: PLC0415
        from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT  # noqa: PLC0415

        alias = collection or f"test-{uuid.uuid4().hex}"
        async with self.connection(timeout_s) as connection:
            field = substring_field(await connection.version())
            chosen = CollectionOptions(**options)
            metadata = CollectionMetadata(model_id, dim, words=DEFAULT_LAYOUT, shard_keys=chosen.shard_keys)
            found = await first_collection(connection, alias, metadata, chosen)
            try:
                yield ServerStore(connection, found, substring_field=field)
            finally:
                if collection is None:
                    await delete_collection(connection, found.name)

    @contextlib.asynccontextmanager
    async def catalogue(self, alias: str, **options: Any) -> AsyncIterator[ServerCatalogue]:
        """The collections of one alias; `options` are those of ServerCatalogue.open_on."""
        from lorestream.adapters.qdrant.server.catalogue import ServerCatalogue  # noqa: PLC0415 (the import takes a second)
        from lorestream.adapters.qdrant.server.collection import CollectionOptions  # noqa: PLC0415

        async with ServerCatalogue.open_on(
            self.url,
            alias=alias,
            grpc_port=self.grpc_port,
            api_key=self.api_key,
            timeout_s=TIMEOUT_S,
            **{"options": CollectionOptions(), **options},
        ) as catalogue:
            yield catalogue

    async def drop(self, *collections: str) -> None:
        """Delete collections; their aliases go with them."""
        from qdrant_client import grpc as wire  # noqa: PLC0415 (the import takes a second)

        async with self.connection() as connection:
            for one in collections:
                await connection.call(
                    connection.collections.Delete, wire.DeleteCollection(collection_name=one)
                )

    def connection(self, timeout_s: float = TIMEOUT_S) -> contextlib.AbstractAsyncContextManager[Connection]:
        """A connection without a store."""
        from lorestream.adapters.qdrant.server.connection import (  # noqa: PLC0415 (the import takes a second)
            Connection,
        )

        return Connection.open(self.url, grpc_port=self.grpc_port, api_key=self.api_key, timeout_s=timeout_s)


def at(stand_in: StandIn) -> Qdrant:
    """The address of a stand-in."""
    return Qdrant(stand_in.url, stand_in.grpc_port, stand_in.api_key)


@pytest.fixture(scope="session")
def qdrant() -> Iterator[Qdrant]:
    """A server that all tests of the session share: do not stop it."""
    if url := os.environ.get("LORESTREAM_TEST_QDRANT_URL"):
        port = int(os.environ.get("LORESTREAM_TEST_QDRANT_GRPC_PORT", "6334"))
        yield Qdrant(url, port, os.environ.get("LORESTREAM_TEST_QDRANT_API_KEY"))
        return
    with tempfile.TemporaryDirectory(prefix="qdrant-") as folder, StandIn(Path(folder)) as stand_in:
        yield at(stand_in)


@pytest.fixture
def own_qdrant(tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in for one test, which may stop, kill and pause it."""
    stand_in = StandIn(tmp_path / "qdrant")
    try:
        yield stand_in.start()
    finally:
        stand_in.kill()
