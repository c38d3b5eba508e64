"""The gauges of the size of the active collection."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorestream.errors import Unavailable
from stream_workers.store_gauges import StoreGauges
from tests import folds
from tests.parts import open_parts, pipeline_over, put, records


def allocated(data: Path) -> int:
    """What the files of the stores in a data directory take on the disk, in bytes."""
    stores = [one.parent for one in data.rglob("shard") if one.is_dir()]
    return sum(one.stat().st_blocks * 512 for store in stores for one in store.rglob("*") if one.is_file())


async def test_memories_records_and_bytes_of_the_store(tmp_path: Path) -> None:
    async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
        gauges = StoreGauges(runtime.store, runtime.clock, runtime.metrics, lambda: True)
        value = runtime.metrics.registry.get_sample_value
        await gauges.measure()
        assert value("lorestream_store_memories") == 0
        pipeline = pipeline_over(runtime)
        written = records(put("one", event_id="1"), put("", event_id="2", type="tool", recall=False))
        await pipeline.apply(await pipeline.prepare(written))
        await gauges.measure()
        assert value("lorestream_store_memories") == 2
        assert value("lorestream_store_bytes") == allocated(tmp_path) > 0


async def test_documents_are_counted_without_deleted_ones(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        gauges = StoreGauges(runtime.store, runtime.clock, runtime.metrics, lambda: True)
        pipeline = pipeline_over(runtime)
        written = [folds.put({"name": "Ada"}), folds.put({"a": 1}, type="notes", at=101.0)]
        await pipeline.apply(await pipeline.prepare(records(*written)))
        await gauges.measure()
        value = runtime.metrics.registry.get_sample_value
        assert (value("lorestream_store_documents"), value("lorestream_store_memories")) == (2, 0)
        deleted = records(folds.write("delete", at=102.0), first=2)
        await pipeline.apply(await pipeline.prepare(deleted))
        await gauges.measure()
        assert value("lorestream_store_documents") == 1


async def test_a_store_of_another_process_and_an_outage_leave_the_gauges_alone(tmp_path: Path) -> None:
    class Server:
        async def size(self, *, now: float) -> int:
            del now
            return 7

        async def documents(self) -> int:
            return 0

        async def disk_bytes(self) -> None:
            return None

    class Down(Server):
        async def size(self, *, now: float) -> int:
            del now
            raise Unavailable("down")

    async with open_parts(tmp_path) as runtime:
        value = runtime.metrics.registry.get_sample_value
        await StoreGauges(Server(), runtime.clock, runtime.metrics, lambda: True).measure()  # type: ignore[arg-type]
        assert (value("lorestream_store_memories"), value("lorestream_store_bytes")) == (7, 0)
        with pytest.raises(Unavailable):
            await StoreGauges(Down(), runtime.clock, runtime.metrics, lambda: True).measure()  # type: ignore[arg-type]
        assert value("lorestream_store_memories") == 7
