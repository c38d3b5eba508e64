"""The adapters that the suites of the store run over."""

import contextlib
import tempfile
from pathlib import Path

import pytest

from lorestream.adapters.qdrant.edge.store import EdgeStore

STORES = ["edge", "memory", "server"]


@contextlib.asynccontextmanager
async def open_store(kind, path, qdrant, dim=4):
    """An empty store of that kind."""
    if kind == "server":
        async with qdrant.store(dim=dim) as opened:
            yield opened
        return
    async with EdgeStore.open(path if kind == "edge" else None, model_id="hash", dim=dim) as opened:
        yield opened


@pytest.fixture(params=STORES)
async def store(request, qdrant):
    """An empty store for vectors of four dimensions."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(request.param, Path(folder), qdrant) as opened:
            yield opened
