"""Below a floor of free space nothing is written: the engine's mapped files would end the process on a full disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from lorestream import free_space, os_support
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.cli.serve import readiness
from lorestream.errors import Misconfigured, Unavailable
from lorestream.events import encode
from lorestream.free_space import FreeSpace
from lorestream.memories import Erasure, SubjectKind
from lorestream.wiring.data_directory import MEMORY_FLOOR_BYTES
from lorestream.wiring.snapshots import snapshots_over
from stream_workers.worker import Worker
from tests.contracts.stored import memory, names
from tests.contracts.stored import put as insert
from tests.http_gateway import open_http_gateway
from tests.parts import open_parts, put, texts

MIB = 2**20
FLOOR = 10 * MIB
SetFree = Callable[[int], None]


@pytest.fixture
def set_free(monkeypatch: pytest.MonkeyPatch) -> SetFree:
    """Makes the disk report that many free bytes."""

    def set_(free: int) -> None:
        monkeypatch.setattr(free_space, "free_bytes", lambda _directory: free)

    set_(FLOOR)
    return set_


def test_the_free_bytes_are_those_of_the_disk(tmp_path: Path) -> None:
    assert FreeSpace(tmp_path, 1).problem() is None
    assert FreeSpace(tmp_path, 0).problem() is None
    with pytest.raises(
        Unavailable, match=rf"{tmp_path}.*LORESTREAM_MIN_FREE_BYTES.*free some space"
    ) as refused:
        FreeSpace(tmp_path, 2**60).require()
    assert refused.value.retry_after_ms > 0
    assert FreeSpace(tmp_path / "missing", 2**60).problem() is None


def test_the_default_floor_leaves_a_small_disk_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 MiB on a tmpfs of 64 MiB would refuse every start and every write."""
    for size, floor in ((64 * MIB, int(6.4 * MIB)), (1000 * 2**30, 200 * MIB)):
        monkeypatch.setattr(os_support, "disk_bytes", lambda _path, now=(size, floor + 4096): now)
        assert FreeSpace(tmp_path, None).check_start() is None
        monkeypatch.setattr(os_support, "disk_bytes", lambda _path, now=(size, floor - 4096): now)
        assert FreeSpace(tmp_path, None).problem() is not None


async def test_a_store_in_memory_has_a_small_floor_of_its_own(tmp_path: Path, set_free: SetFree) -> None:
    """Its temporary files often lie on a small tmpfs, and nothing of them is kept."""
    set_free(MEMORY_FLOOR_BYTES)
    async with open_parts(tmp_path, store={"kind": "memory"}) as runtime:
        await runtime.log.append([encode(put("x"))])
        set_free(MEMORY_FLOOR_BYTES - 1)
        with pytest.raises(Unavailable, match="free some space"):
            await runtime.log.append([encode(put("y"))])


async def test_writes_wait_for_space_and_reads_go_on(tmp_path: Path, set_free: SetFree) -> None:
    """Below the floor: 503 with a time to wait, /ready says it, reads answer; then all goes on by itself."""
    async with open_http_gateway(tmp_path, min_free_bytes=FLOOR) as service:
        runtime, http = service.runtime, service.http
        [log_check] = [one for one in readiness.of_embedded(runtime, Worker(runtime)) if one.name == "log"]
        await service.send({"agent_id": "a", "text": "before"})
        await service.index()
        assert await log_check.problem() is None
        set_free(FLOOR - 1)
        for refused in (
            await http.post("/v1/events", json={"events": [{"agent_id": "a", "text": "late"}]}),
            await http.post("/memory/put", json={"agent_id": "a", "text": "late"}),
            await http.delete("/v1/agents/a"),
        ):
            assert refused.status_code == 503
            assert refused.json()["retry_after_ms"] > 0
            assert "free some space" in refused.json()["error"]["message"]
        assert "LORESTREAM_MIN_FREE_BYTES" in str(await log_check.problem())
        assert await texts(runtime) == ["before"]
        set_free(FLOOR)
        await service.send({"agent_id": "a", "text": "after"})
        await service.index()
        assert await log_check.problem() is None
        assert await texts(runtime) == ["after", "before"]


async def test_the_store_is_not_written_below_the_floor(tmp_path: Path, set_free: SetFree) -> None:
    """The indexer retries what raises Unavailable, and says what it waits for."""
    require = FreeSpace(tmp_path, FLOOR).require
    async with EdgeStore.open(None, model_id="hash", dim=4, require_space=require) as store:
        await insert(store, memory("m"))
        set_free(FLOOR - 1)
        with pytest.raises(Unavailable, match="free some space"):
            await insert(store, memory("n"))
        assert await names(store) == ["m"]
        set_free(FLOOR)
        await insert(store, memory("n"))
        assert len(await names(store)) == 2


async def test_the_start_says_it_and_makes_no_store(tmp_path: Path, set_free: SetFree) -> None:
    edge = {"kind": "edge"}
    set_free(FLOOR - 1)
    with pytest.raises(Unavailable, match="free some space"):
        async with open_parts(tmp_path, store=edge, min_free_bytes=FLOOR):
            pass
    set_free(FLOOR)
    async with open_parts(tmp_path, store=edge, min_free_bytes=FLOOR):
        pass
    set_free(FLOOR // 2 - 1)
    with pytest.raises(Misconfigured, match=r"free some space on it, at least 5 MiB for a start"):
        async with open_parts(tmp_path, store=edge, min_free_bytes=FLOOR):
            pass
    set_free(FLOOR - 1)
    with structlog.testing.capture_logs() as lines:
        async with open_parts(tmp_path, store=edge, min_free_bytes=FLOOR) as runtime:
            assert await texts(runtime) == []
            with pytest.raises(Unavailable):
                await runtime.log.append([encode(put("x"))])
    assert [line["log_level"] for line in lines if "nearly full" in line["event"]] == ["warning"]


async def test_a_copy_needs_no_space_for_what_was_removed(tmp_path: Path, set_free: SetFree) -> None:
    """A compaction frees the space of removed memories, so it must be possible when they are what fills the disk."""
    async with open_parts(tmp_path, store={"kind": "edge"}, min_free_bytes=FLOOR) as runtime:
        collections, store = runtime.collections, runtime.store
        await insert(store, *(memory(f"m{n}") for n in range(99)), vector=(1.0,) * 384)
        await insert(store, memory("stays", agent_id="b"), vector=(1.0,) * 384)
        used = os_support.used_bytes(tmp_path / "store" / collections.current.name)
        set_free(FLOOR + used // 2)
        with pytest.raises(Unavailable, match="a copy of"):
            await collections.catalogue.create("second", collections.current.collection.model, "run")
        await store.erase(Erasure("1", "default", SubjectKind.AGENT, ("a",), 2e9))
        await collections.catalogue.create("second", collections.current.collection.model, "run")


async def test_a_copy_of_the_store_leaves_the_floor_free(tmp_path: Path, set_free: SetFree) -> None:
    """Compaction, replay and snapshot would fill the disk, and so stop all writes: they are refused before."""
    async with open_parts(tmp_path, store={"kind": "edge"}, min_free_bytes=FLOOR) as runtime:
        set_free(FLOOR + 1000)
        catalogue, model = runtime.collections.catalogue, runtime.collections.current.collection.model
        with pytest.raises(Unavailable, match=r"a copy of .* free some space"):
            await catalogue.create("second", model, "run")
        with pytest.raises(Unavailable, match=r"a copy of .* free some space"):
            async for _ in snapshots_over(runtime).take(None):
                pass
        assert not list((tmp_path / "snapshots").glob("*"))
        await runtime.log.append([encode(put("x"))])
