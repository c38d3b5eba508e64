"""Compares the collections of a deployment with the fold of the log, and with each other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import numpy as np

from deploy.local.cluster import Cluster
from lorestream.memories import Memory
from lorestream.ports import Tombstone, VectorStore
from lorestream.settings import load_settings
from lorestream.wiring import WorkerParts, open_worker
from stream_workers.rebuild.quality_gate import records_behind
from tests.log_fold import differences, fold, stored

CATCH_UP_TIMEOUT_S = 120


@contextlib.asynccontextmanager
async def opened(cluster: Cluster, partitions: int) -> AsyncIterator[WorkerParts]:
    """The parts of a worker of this cluster, to read its collections. The cluster must use the hash embedder."""
    assert cluster.store is not None
    chosen = load_settings(
        log={"bootstrap": cluster.kafka.bootstrap, "partitions": partitions},
        store={"url": cluster.store.url, "grpc_port": cluster.store.grpc_port},
        cache={"kind": "off"},
        embedder={"kind": "hash"},
    )
    async with open_worker(chosen) as parts:
        yield parts


async def compared(cluster: Cluster, names: Sequence[str]) -> int:
    """`compare` for a cluster whose log has four partitions."""
    async with opened(cluster, 4) as parts:
        return await compare(parts, names, tombstones=0)


async def contents(store: VectorStore, now: float) -> dict[tuple[str, str], Memory | Tombstone]:
    """All memories that have not expired, and all tombstones, by (agent id, memory id)."""
    found: dict[tuple[str, str], Memory | Tombstone] = {}
    after: str | None = None
    while True:
        page, after = await store.scan(after, 1000)
        for one in page:
            if isinstance(one, Tombstone):
                found[one.agent_id, one.memory_id] = one
            elif one.expires_at is None or one.expires_at > now:
                found[one.agent_id, one.id] = one
        if after is None:
            return found


async def compare(parts: WorkerParts, names: Sequence[str], *, tombstones: int = 60) -> int:
    """Assert that all collections have caught up, equal the fold of the log, and equal each other.

    `tombstones`: how many of them there must be at least. Returns the number of memories.
    """
    collections = parts.collections
    listed = {one.name: one for one in await collections.refresh()}
    opened = [await collections.ensure_open(listed[name]) for name in names]
    for collection in opened:
        assert await records_behind(parts, collection, CATCH_UP_TIMEOUT_S) == 0
    now = parts.clock.now()
    truth = await fold(parts.log, f"fold-{time.monotonic_ns()}")
    assert differences(truth, await stored(opened[0].store, now), {}, now) == []
    first = await contents(opened[0].store, now)
    memories = [one for one in first.values() if isinstance(one, Memory)]
    assert sum(isinstance(one, Tombstone) for one in first.values()) >= tombstones
    for collection in opened[1:]:
        found = await contents(collection.store, now)
        assert found.keys() == first.keys(), collection.name
        assert [one for one in first if found[one] != first[one]] == [], collection.name
        if collection.embedder.model_id != opened[0].embedder.model_id:
            continue
        there, here = (
            await opened[0].store.reusable_vectors(memories),
            await collection.store.reusable_vectors(memories),
        )
        pairs = [(a[0], b[0]) for a, b in zip(there, here, strict=True) if a is not None and b is not None]
        assert len(pairs) == len(memories)
        assert max(np.abs(a - b).max() for a, b in pairs) < 1e-3
    return len(memories)
