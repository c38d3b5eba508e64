"""Latency histograms in bounded memory, and the report of a simulated load."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec

_MIN_S = 1e-6
_LOG_BUCKET_WIDTH = math.log(1.02)
"""Logarithm of the bucket width: latencies are precise to two percent."""

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class Latencies:
    """A histogram of durations in seconds."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._max = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[int(math.log(max(seconds, _MIN_S) / _MIN_S) / _LOG_BUCKET_WIDTH)] += 1
        self._max = max(self._max, seconds)

    def __len__(self) -> int:
        return self._counts.total()

    def quantile(self, share: float) -> float:
        """The quantile `share` (0 to 1) in seconds; 0 for an empty histogram."""
        rank, passed = share * len(self), 0
        for step, count in sorted(self._counts.items()):
            passed += count
            if passed >= rank:
                return min(_MIN_S * math.exp((step + 1) * _LOG_BUCKET_WIDTH), self._max)
        return self._max

    def milliseconds(self) -> dict[str, float]:
        """p50, p90, p99, p999 and max in milliseconds."""
        figures = {name: self.quantile(share) for name, share in PERCENTILES.items()} | {"max": self._max}
        return {name: round(seconds * 1000, 3) for name, seconds in figures.items()}


class EventFigures(msgspec.Struct):
    """Counts of events.

    `lost`: scheduled events that were not accepted. These were rejected (one event), refused (the whole request), or
    left over at the end. `unsure`: events left over that were sent at least once, and may have been accepted.
    `resent`: accepted a second time, on purpose. `retried`: sent again because the request had failed.
    """

    scheduled: int = 0
    accepted: int = 0
    rejected: int = 0
    refused: int = 0
    left: int = 0
    unsure: int = 0
    resent: int = 0
    retried: int = 0
    rejects: dict[str, int] = {}

    @property
    def lost(self) -> int:
        """The number of scheduled events that were not accepted."""
        return self.scheduled - self.accepted


class RequestFigures(msgspec.Struct):
    """Counts of requests, including retries. `errors`: failed attempts by kind."""

    sent: int = 0
    accepted: int = 0
    retried: int = 0
    errors: dict[str, int] = {}


class QueryFigures(msgspec.Struct):
    """Counts of searches. `cache`: answers by hit, miss, off."""

    asked: int = 0
    answered: int = 0
    cache: dict[str, int] = {}
    errors: dict[str, int] = {}


class Indexed(msgspec.Struct):
    """Whether everything accepted can be found, and the seconds from the last acceptance until then."""

    findable: bool
    seconds: float


class Report(msgspec.Struct):
    """The report of a run. Rates are per second, backlogs in events, latencies in milliseconds.

    latency_ms, measured from the times that the plan intended: `event` from its occurrence until it was accepted;
    `request` from when its batch was due until it was accepted; `flush_wait` from the occurrence until the batch was
    due; `query` of a search. `answer`: one attempt, from when it was sent. `sender_late`: how late the simulator sent
    a batch; if that is not small, the simulator itself is the bottleneck.

    rate: `intended`; `sent` for the first time; `accepted`. backlog: events that should have been sent and were not
    completed: the maximum (`peak`), after the last event (`at_end`), and at the end of the run (`left`).
    """

    plan: dict[str, Any]
    seconds: float
    complete: bool
    lost: int
    events: EventFigures
    requests: RequestFigures
    rate: dict[str, float]
    latency_ms: dict[str, dict[str, float]]
    backlog: dict[str, int]
    cpu_share: float
    queries: QueryFigures | None = None
    indexed: Indexed | None = None


def count(kinds: dict[str, int], kind: str, number: int = 1) -> None:
    """Add `number` to the count of `kind`."""
    kinds[kind] = kinds.get(kind, 0) + number
