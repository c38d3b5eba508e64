"""The adapters that the suites of the store and of the ledger run over."""

import contextlib
import tempfile
from pathlib import Path

import pytest

from lorestream.adapters.qdrant.edge.store import EdgeStore
from tests.contracts.ledgers import kafka_ledger, sqlite_ledger

SHARDED = pytest.param("shard keys", marks=pytest.mark.soak)
"""A server with shard keys: in `make soak`, where the others pass. tests/unit/test_shard_keys.py runs always."""
STORES = ["edge", "server", SHARDED]


@contextlib.asynccontextmanager
async def open_store(kind, path, qdrant, dim=4):
    """An empty store of that kind; an embedded one in `path`, None: in a temporary directory."""
    if kind in ("server", "shard keys"):
        async with qdrant.store(dim=dim, shard_keys=3 if kind == "shard keys" else 0) as opened:
            yield opened
        return
    async with EdgeStore.open(path, model_id="hash", dim=dim) as opened:
        yield opened


@pytest.fixture(params=STORES)
async def store(request, qdrant):
    """An empty store for vectors of four dimensions."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(request.param, Path(folder), qdrant) as opened:
            yield opened


@pytest.fixture(params=["sqlite", "kafka"])
def ledger_opener(request, tmp_path, unique):
    """Opens a ledger of that kind, again and again the same one."""
    if request.param == "kafka":
        return kafka_ledger(request.getfixturevalue("kafka").bootstrap, unique)
    return sqlite_ledger(tmp_path)


@pytest.fixture
async def ledger(ledger_opener):
    """An empty ledger."""
    async with ledger_opener() as opened:
        yield opened
