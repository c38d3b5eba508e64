"""The parts of each service: its open adapters, settings and metrics, as one frozen value."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorestream.access.authentication import Authenticator
    from lorestream.access.rate_limits import RateLimits
    from lorestream.collections.open_collections import OpenCollections
    from lorestream.identity import Pseudonyms
    from lorestream.ports import (
        AccessTimes,
        Cache,
        Clock,
        Embedder,
        ErasureLedger,
        EventLog,
        Reranker,
        RowReader,
        VectorStore,
        WatermarkReader,
        WebhookPost,
    )
    from lorestream.settings import Settings
    from lorestream.steady_clock import SteadyClock
    from lorestream.telemetry import Metrics


ACCEPTANCE_SETTLE_S = 300.0
"""How long the system clock has to keep its time after a step ahead before events are accepted at that time.

As long as a wrong clock is usually wrong before it is set from the network. Not longer, because after a right step
(a machine that was paused) events seem to be accepted before the step until then.
"""


class SystemClock:
    """The system clock."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of every service."""

    settings: Settings
    log: EventLog
    ledger: ErasureLedger
    watermarks: WatermarkReader
    metrics: Metrics
    clock: Clock
    ping_redis: Callable[[], Awaitable[object]] | None
    """Asks Redis for a sign of life; raises Unavailable. None without Redis."""


@dataclass(frozen=True, kw_only=True)
class GatewayParts(Parts):
    """The parts of a gateway."""

    pseudonyms: Pseudonyms
    authenticator: Authenticator
    limits: RateLimits
    steady_clock: SteadyClock
    """The clock for times of acceptance."""
    last_accepted_at: float
    """Unix seconds. No event may get an earlier acceptance time, even if the clock is set back."""
    rows: RowReader
    """The rows of the collection that is searched."""
    webhook_post: WebhookPost
    """Sends requests that try webhooks out."""


@dataclass(frozen=True, kw_only=True)
class StoreParts(Parts):
    """The parts of services with a store. `collections` has all open collections; the properties are of the active one."""

    collections: OpenCollections
    cache: Cache | None

    @property
    def store(self) -> VectorStore:
        """The store of the active collection. It changes when the alias is switched."""
        return self.collections.current.store

    @property
    def embedder(self) -> Embedder:
        """The embedding model of the active collection."""
        return self.collections.current.embedder

    @property
    def group(self) -> str:
        """The consumer group of the active collection."""
        return self.collections.current.group


@dataclass(frozen=True, kw_only=True)
class WorkerParts(StoreParts):
    """The parts of a worker."""

    log_identity: str
    """Identifies the log in which the offsets of rows count."""
    trim: Callable[[], Awaitable[int]] | None
    """Removes records past their retention from log and ledger, and returns their number. None: they do it themselves."""
    webhook_post: WebhookPost
    """Sends memories to webhooks."""


@dataclass(frozen=True, kw_only=True)
class QueryParts(StoreParts):
    """The parts of a query service."""

    accesses: AccessTimes
    pseudonyms: Pseudonyms
    authenticator: Authenticator
    limits: RateLimits
    cross_encoder: Reranker | None
    """The reranker of the settings; None: that of the embedding model is used."""


@dataclass(frozen=True, kw_only=True)
class Runtime(GatewayParts, WorkerParts, QueryParts):
    """All parts, for one process with all services."""
