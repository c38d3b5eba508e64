"""The adapters that the suites of the store run over."""

import pytest

from engram.adapters.qdrant_edge import EdgeStore


@pytest.fixture(params=["edge", "memory"])
async def store(request, tmp_path):
    """An empty store for vectors of four dimensions."""
    path = tmp_path / "store" if request.param == "edge" else None
    async with EdgeStore.open(path, model_id="hash", dim=4) as opened:
        yield opened
