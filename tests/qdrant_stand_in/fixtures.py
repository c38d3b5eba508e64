"""A Qdrant server for tests: the one that LORESTREAM_TEST_QDRANT_URL names, else the stand-in.

LORESTREAM_TEST_QDRANT_GRPC_PORT (6334) and LORESTREAM_TEST_QDRANT_API_KEY belong to it. On a server that others use, tests
make collections of names of their own, and drop them.
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
    from lorestream.adapters.qdrant.server.store import QdrantServerStore

TIMEOUT_S = 30.0
"""The machines that run tests may be busy."""


@dataclass(frozen=True)
class Qdrant:
    """Where a server is."""

    url: str
    grpc_port: int
    api_key: str | None = None

    @contextlib.asynccontextmanager
    async def store(self, **how: Any) -> AsyncIterator[QdrantServerStore]:
        """A store in a collection of its own, dropped at the end unless it was named."""
        from lorestream.adapters.qdrant.server.store import QdrantServerStore  # noqa: PLC0415 (takes a second)

        alias = how.pop("collection", None)
        options = {"model_id": "hash", "dim": 4, "timeout_s": TIMEOUT_S, "api_key": self.api_key} | how
        name = alias or f"test-{uuid.uuid4().hex}"
        async with QdrantServerStore.open(
            self.url, grpc_port=self.grpc_port, collection=name, **options
        ) as store:
            try:
                yield store
            finally:
                if alias is None:
                    await self.drop(store.physical)

    @contextlib.asynccontextmanager
    async def catalogue(self, alias: str) -> AsyncIterator[ServerCatalogue]:
        """The collections of one alias."""
        from lorestream.adapters.qdrant.server.catalogue import ServerCatalogue  # noqa: PLC0415 (takes a second)
        from lorestream.adapters.qdrant.server.collection import Shape  # noqa: PLC0415

        async with ServerCatalogue.open_on(
            self.url,
            alias=alias,
            grpc_port=self.grpc_port,
            api_key=self.api_key,
            timeout_s=TIMEOUT_S,
            shape=Shape(),
        ) as catalogue:
            yield catalogue

    async def drop(self, *collections: str) -> None:
        """Delete collections; their aliases go with them."""
        from qdrant_client import grpc as wire  # noqa: PLC0415 (takes a second)

        async with self.connection() as connection:
            for one in collections:
                await connection.call(
                    connection.collections.Delete, wire.DeleteCollection(collection_name=one)
                )

    def connection(self) -> contextlib.AbstractAsyncContextManager[Connection]:
        """The bare wire."""
        from lorestream.adapters.qdrant.server.connection import Connection  # noqa: PLC0415 (takes a second)

        return Connection.open(self.url, grpc_port=self.grpc_port, api_key=self.api_key, timeout_s=TIMEOUT_S)


def at(stand_in: StandIn) -> Qdrant:
    """The address of a stand-in."""
    return Qdrant(stand_in.url, stand_in.grpc_port, stand_in.api_key)


@pytest.fixture(scope="session")
def qdrant() -> Iterator[Qdrant]:
    """A server for the whole session. Nobody stops it: the next test wants it too."""
    if url := os.environ.get("LORESTREAM_TEST_QDRANT_URL"):
        port = int(os.environ.get("LORESTREAM_TEST_QDRANT_GRPC_PORT", "6334"))
        yield Qdrant(url, port, os.environ.get("LORESTREAM_TEST_QDRANT_API_KEY"))
        return
    with tempfile.TemporaryDirectory(prefix="qdrant-") as folder, StandIn(Path(folder)) as stand_in:
        yield at(stand_in)


@pytest.fixture
def own_qdrant(tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in of the test's own, to stop, kill and freeze."""
    stand_in = StandIn(tmp_path / "qdrant")
    try:
        yield stand_in.start()
    finally:
        stand_in.kill()
