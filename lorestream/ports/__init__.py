"""The ports: the interfaces between Lorestream and its backends, as protocols that adapters implement.

    log         EventLog, Subscription, LogReader, RebalanceListener, records and dead letters
    watermarks  WatermarkReader and WatermarkPublisher: which offsets are finished
    erasures    ErasureLedger: which agents and players were erased
    rewinds     RewindLedger, a part of it: which servers were rewound, and to when
    webhooks    Webhooks, a part of it, too: addresses that get memories; WebhookPost: the requests to them
    store       MemoryReader, MemoryWriter, StoreMaintenance: memories and their vectors
    rows        RowReader, RowWriter: keyed values in the same collection
    cache       Cache: search answers
    accesses    AccessTimes: when memories were last returned
    embedder    Embedder: texts to vectors
    reranker    Reranker: how well texts answer a question
    clock       Clock

The docstrings of the protocols are the contract: whether a call may wait, what it raises, when data is durable, which
order holds. tests/contracts has one suite per port that runs over all of its adapters (`lorestream.adapters`); a new
adapter is complete when it passes that suite.

What holds for all ports: methods are called from one event loop and may be called concurrently. Adapters translate
the errors of their backends. They raise only errors of `lorestream.errors`: `Unavailable` in an outage (the caller may
repeat the call), `Misconfigured` for what an operator has to correct, and what a docstring names besides. A call
that is cancelled leaves the adapter usable.

    await log.append([NewRecord(key, value, headers)])  # durable when it returns
    async with log.subscribe("indexer", listener) as subscription:
        batch = await subscription.read(limit=256, max_bytes=2**20, wait_s=0.5)
        ...  # process the batch
        await subscription.commit({0: batch[-1].offset + 1})
"""

from lorestream.ports.accesses import AccessTimes
from lorestream.ports.cache import Cache
from lorestream.ports.clock import Clock
from lorestream.ports.embedder import Embedder, Embeddings, Priority, Role, StoredVectors
from lorestream.ports.erasures import ErasureLedger, ErasureState
from lorestream.ports.log import (
    DeadLetter,
    EventLog,
    LogReader,
    NewRecord,
    OnLost,
    RebalanceListener,
    Record,
    RecordId,
    Resolution,
    StoredDeadLetter,
    Subscription,
)
from lorestream.ports.reranker import Reranker
from lorestream.ports.rewinds import RewindLedger, RewindState
from lorestream.ports.rows import RowReader, RowWriter
from lorestream.ports.store import (
    MemoryReader,
    MemoryWriter,
    Reclaimable,
    StoreMaintenance,
    Tombstone,
    VectorStore,
)
from lorestream.ports.watermarks import WatermarkPublisher, WatermarkReader, Watermarks
from lorestream.ports.webhooks import WebhookPost, Webhooks

__all__ = [
    "AccessTimes",
    "Cache",
    "Clock",
    "DeadLetter",
    "Embedder",
    "Embeddings",
    "ErasureLedger",
    "ErasureState",
    "EventLog",
    "LogReader",
    "MemoryReader",
    "MemoryWriter",
    "NewRecord",
    "OnLost",
    "Priority",
    "RebalanceListener",
    "Reclaimable",
    "Record",
    "RecordId",
    "Reranker",
    "Resolution",
    "RewindLedger",
    "RewindState",
    "Role",
    "RowReader",
    "RowWriter",
    "StoreMaintenance",
    "StoredDeadLetter",
    "StoredVectors",
    "Subscription",
    "Tombstone",
    "VectorStore",
    "WatermarkPublisher",
    "WatermarkReader",
    "Watermarks",
    "WebhookPost",
    "Webhooks",
]
