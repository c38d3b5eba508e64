"""Snapshots of a collection on a server: real Kafka, the stand-in of Qdrant, the parts of a worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.local.process import free_port
from lorestream.adapters.qdrant.server.snapshots import SnapshotApi
from lorestream.admin import Outcome, Remark, Report, snapshot_manifest
from lorestream.errors import Misconfigured, ModelMismatch, OperationRefused, Unavailable
from lorestream.events import encode
from lorestream.memories import PageQuery, Scope
from lorestream.settings import Settings, load_settings
from lorestream.wiring import WorkerParts, open_worker, restores
from lorestream.wiring.snapshots import snapshots_over
from stream_workers.worker import Worker
from tests.parts import put
from tests.qdrant_stand_in.catalogue import Catalogue
from tests.qdrant_stand_in.serving import serve_rest


@dataclass
class ServerSetup:
    """The servers, settings and alias of one test."""

    settings: Settings
    qdrant: Any
    alias: str

    @contextlib.asynccontextmanager
    async def parts(self) -> AsyncIterator[WorkerParts]:
        async with open_worker(self.settings) as parts:
            yield parts

    async def collections(self) -> set[str]:
        async with self.qdrant.catalogue(self.alias) as catalogue:
            return {one.name for one in await catalogue.list_all()}

    async def restore(self, snapshot: Path, **how: Any) -> tuple[dict[str, Any], list[Report]]:
        reports = [one async for one in restores.restore(self.settings, snapshot, ledger_from=None, **how)]
        outcome = reports.pop()
        assert isinstance(outcome, Outcome)
        return outcome.value, reports


@pytest.fixture
def servers(kafka: Any, qdrant: Any, unique: str, tmp_path: Path) -> ServerSetup:
    store = {"kind": "qdrant", "url": qdrant.url, "grpc_port": qdrant.grpc_port, "collection": unique}
    loaded = load_settings(
        data_dir=tmp_path / "data",
        log={
            "kind": "kafka",
            "bootstrap": kafka.bootstrap,
            "topic": f"{unique}.events",
            "erasures_topic": f"{unique}.erasures",
            "dlq_topic": f"{unique}.dlq",
            "partitions": 2,
            "group_prefix": unique,
        },
        store=store | {"api_key": qdrant.api_key, "timeout_s": 30},
        cache={"kind": "off"},
        embedder={"kind": "hash", "dim": 8},
        player_key="k1:test",
    )
    return ServerSetup(loaded, qdrant, unique)


async def fill(parts: WorkerParts, first: int, count: int) -> None:
    await parts.log.append(
        [
            encode(put(f"text {n}", agent=f"a{n % 5}", event_id=f"e{n}", at=1000.0 + n))
            for n in range(first, first + count)
        ]
    )
    await Worker(parts).run(burst=True)


async def texts(parts: WorkerParts) -> list[str]:
    query = PageQuery(Scope("default"), 1000, parts.clock.now(), oldest_first=True)
    return [one.text for one in await parts.store.page(query)]


async def take(parts: WorkerParts) -> Path:
    reports = [one async for one in snapshots_over(parts).take(None)]
    outcome = reports[-1]
    assert isinstance(outcome, Outcome)
    return Path(outcome.value["snapshot"])


async def test_restore_of_a_lost_collection(servers: ServerSetup) -> None:
    async with servers.parts() as parts:
        await fill(parts, 0, 30)
        snapshot = await take(parts)
        manifest = snapshot_manifest.read(snapshot)
        assert sum(manifest.offsets.values()) == 30
        assert sorted(manifest.files) == ["collection.snapshot"]
        lost = parts.collections.current.name
    await servers.qdrant.drop(lost)
    outcome, reports = await servers.restore(snapshot)
    assert outcome["searched"]
    assert not [one for one in reports if isinstance(one, Remark)]
    async with servers.parts() as parts:
        assert parts.collections.current.name == outcome["collection"] != lost
        assert await texts(parts) == [f"text {n}" for n in range(30)]
        # The consumer group continues at the offsets of the snapshot.
        assert await parts.log.committed(parts.group) == manifest.offsets
        await fill(parts, 30, 5)
        assert await texts(parts) == [f"text {n}" for n in range(35)]
        assert (
            parts.metrics.registry.get_sample_value("lorestream_embed_texts_total", {"source": "model"}) == 5
        )
        await servers.qdrant.drop(parts.collections.current.name)


async def test_a_collection_restored_beside_an_active_one_needs_a_swap(servers: ServerSetup) -> None:
    async with servers.parts() as parts:
        await fill(parts, 0, 10)
        snapshot = await take(parts)
        present = parts.collections.current.name
        outcome, reports = await servers.restore(snapshot)
        assert not outcome["searched"]
        [remark] = [one.text for one in reports if isinstance(one, Remark)]
        assert "lorestream alias swap" in remark
        assert await servers.collections() == {present, outcome["collection"]}
        assert parts.collections.current.name == present
        await servers.qdrant.drop(*await servers.collections())


async def test_a_failed_restore_changes_nothing(servers: ServerSetup) -> None:
    async with servers.parts() as parts:
        await fill(parts, 0, 3)
        snapshot = await take(parts)
        before = await servers.collections()
    file = snapshot / "collection.snapshot"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(OperationRefused, match="damaged"):
        await servers.restore(snapshot)
    file.write_bytes(whole)
    other = servers.settings.model_copy(
        update={"embedder": servers.settings.embedder.model_copy(update={"dim": 16})}
    )
    with pytest.raises(ModelMismatch, match="8 dimensions"):
        await ServerSetup(other, servers.qdrant, servers.alias).restore(snapshot)
    embedded = load_settings(data_dir=servers.settings.data_dir / "new", embedder={"kind": "hash", "dim": 8})
    with pytest.raises(OperationRefused, match="of the distributed shape"):
        [_ async for _ in restores.restore(embedded, snapshot, ledger_from=None)]
    assert not embedded.data_dir.exists()
    assert await servers.collections() == before
    await servers.qdrant.drop(*before)


async def test_a_restore_that_fails_after_the_upload_leaves_a_collection_that_is_deleted_later(
    servers: ServerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with servers.parts() as parts:
        await fill(parts, 0, 3)
        snapshot = await take(parts)
        before = await servers.collections()

    async def fail(*_: object) -> None:
        raise Unavailable("the broker is away")

    monkeypatch.setattr(restores, "commit_start_offsets", fail)
    with pytest.raises(Unavailable, match="the broker is away"):
        await servers.restore(snapshot)
    assert await servers.collections() == before
    async with servers.qdrant.catalogue(servers.alias) as catalogue:
        [left] = await catalogue.pending_deletions()
        assert left not in before
        await catalogue.delete(left)
    await servers.qdrant.drop(*before)


async def test_rest_errors(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await SnapshotApi(f"http://127.0.0.1:{free_port()}", None).fetch("c", "s", tmp_path / "file")
    assert not (tmp_path / "file").exists()
    server = await serve_rest("127.0.0.1", port := free_port(), Catalogue(tmp_path), "secret")
    try:
        with pytest.raises(Misconfigured, match="API_KEY"):
            await SnapshotApi(f"http://127.0.0.1:{port}", "wrong").fetch("c", "s", tmp_path / "file")
        with pytest.raises(Unavailable, match="404"):
            await SnapshotApi(f"http://127.0.0.1:{port}", "secret").fetch("c", "s", tmp_path / "file")
    finally:
        server.close()
