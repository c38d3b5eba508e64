"""The ports: what Lorestream needs from the outside, and what each adapter promises.

One module per port: `clock`, `log` (event log, subscriptions, dead letters), `watermarks`, `erasures` (the erasure
ledger), `store` (memories and their vectors), `cache` (answers), `embedder`. Adapters lie in `lorestream.adapters`;
tests/contracts holds one suite per port that runs over all of its adapters.

Adapters raise only the errors of `lorestream.errors`: `Unavailable` for an outage (the caller may try again),
`Misconfigured` for what an operator has to mend.

    await log.append([NewRecord(key, value, headers)])  # durable when it returns
    async with log.subscribe("indexer", listener) as subscription:
        batch = await subscription.read(limit=256, max_bytes=2**20, wait_s=0.5)
        ...  # process the batch
        await subscription.commit({0: batch[-1].offset + 1})
"""

from lorestream.ports.cache import Cache
from lorestream.ports.clock import Clock
from lorestream.ports.embedder import Embedder, Embeddings, Priority
from lorestream.ports.erasures import ErasureLedger, ErasureState
from lorestream.ports.log import (
    DeadLetter,
    EventLog,
    NewRecord,
    RebalanceListener,
    Record,
    RecordId,
    Resolution,
    StoredDeadLetter,
    Subscription,
)
from lorestream.ports.store import (
    MemoryReader,
    MemoryWriter,
    Reclaimable,
    StoreMaintenance,
    Tombstone,
    VectorStore,
)
from lorestream.ports.watermarks import WatermarkPublisher, WatermarkReader, Watermarks

__all__ = [
    "Cache",
    "Clock",
    "DeadLetter",
    "Embedder",
    "Embeddings",
    "ErasureLedger",
    "ErasureState",
    "EventLog",
    "MemoryReader",
    "MemoryWriter",
    "NewRecord",
    "Priority",
    "RebalanceListener",
    "Reclaimable",
    "Record",
    "RecordId",
    "Resolution",
    "StoreMaintenance",
    "StoredDeadLetter",
    "Subscription",
    "Tombstone",
    "VectorStore",
    "WatermarkPublisher",
    "WatermarkReader",
    "Watermarks",
]
