"""What a process runs on: the parts of each service, open and ready."""

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
    from lorestream.ports import Cache, Clock, Embedder, ErasureLedger, EventLog, VectorStore, WatermarkReader
    from lorestream.settings import Settings
    from lorestream.telemetry import Metrics


class SystemClock:
    """The time of day as the machine has it."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What every service has."""

    settings: Settings
    log: EventLog
    ledger: ErasureLedger
    watermarks: WatermarkReader
    metrics: Metrics
    clock: Clock


@dataclass(frozen=True, kw_only=True)
class GatewayParts(Parts):
    """What a gateway needs."""

    pseudonyms: Pseudonyms
    authenticator: Authenticator
    limits: RateLimits
    last_accepted_at: float
    """No acceptance may be stamped earlier, whatever the clock says."""


@dataclass(frozen=True, kw_only=True)
class StoreParts(Parts):
    """What those have who speak to the store. `collections` holds all collections; the rest is of the searched one."""

    collections: OpenCollections
    cache: Cache | None

    @property
    def store(self) -> VectorStore:
        """The collection that is searched at the moment."""
        return self.collections.current.store

    @property
    def embedder(self) -> Embedder:
        """The model that fills it."""
        return self.collections.current.embedder

    @property
    def group(self) -> str:
        """The consumers that feed it."""
        return self.collections.current.group


@dataclass(frozen=True, kw_only=True)
class WorkerParts(StoreParts):
    """What a worker needs."""

    trim: Callable[[], Awaitable[int]] | None
    """Removes what is past its retention from log and ledger, and returns how many records went; None where
    they see to it themselves."""


@dataclass(frozen=True, kw_only=True)
class QueryParts(StoreParts):
    """What a query service needs."""

    pseudonyms: Pseudonyms
    authenticator: Authenticator
    limits: RateLimits


@dataclass(frozen=True, kw_only=True)
class Runtime(GatewayParts, WorkerParts, QueryParts):
    """All of them in one process."""
