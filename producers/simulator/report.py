"""What a simulated load found out: latencies in bounded memory, and the figures of a whole run."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec

_FINEST_S = 1e-6
_STEP = math.log(1.02)
"""Latencies are kept to within two percent."""

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class Latencies:
    """A histogram of durations in seconds, as long as a run may take."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._longest = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[int(math.log(max(seconds, _FINEST_S) / _FINEST_S) / _STEP)] += 1
        self._longest = max(self._longest, seconds)

    def __len__(self) -> int:
        return self._counts.total()

    def at(self, share: float) -> float:
        """The duration that this share of them does not exceed, 0 without any."""
        wanted, passed = share * len(self), 0
        for step, count in sorted(self._counts.items()):
            passed += count
            if passed >= wanted:
                return min(_FINEST_S * math.exp((step + 1) * _STEP), self._longest)
        return self._longest

    def milliseconds(self) -> dict[str, float]:
        """p50, p90, p99, p999 and max."""
        figures = {name: self.at(share) for name, share in PERCENTILES.items()} | {"max": self._longest}
        return {name: round(seconds * 1000, 3) for name, seconds in figures.items()}


class EventFigures(msgspec.Struct):
    """What became of the events.

    `lost` are the scheduled ones that were not accepted: rejected (one by one, for good), refused (their whole
    request, for good), or left when the time was over. `unsure`: those of the left ones that were sent at least
    once, so that they may have been accepted all the same. `resent`: accepted a second time, on purpose;
    `retried`: sent again because their request had failed.
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
        """How many of the scheduled events were not accepted."""
        return self.scheduled - self.accepted


class RequestFigures(msgspec.Struct):
    """What became of the requests, those that were tried again included. `errors` counts attempts by kind."""

    sent: int = 0
    accepted: int = 0
    retried: int = 0
    errors: dict[str, int] = {}


class QueryFigures(msgspec.Struct):
    """What became of the questions. `cache`: answers by hit, miss, off."""

    asked: int = 0
    answered: int = 0
    cache: dict[str, int] = {}
    errors: dict[str, int] = {}


class Indexed(msgspec.Struct):
    """Whether everything accepted can be found, and how long that took from the last acceptance on."""

    findable: bool
    seconds: float


class Report(msgspec.Struct):
    """A whole run. Rates are per second, backlogs in events, latencies in milliseconds.

    latency_ms, from the moments that the plan intended: `event` from when it happened until it was accepted,
    `request` from when its batch was due, `flush_wait` from the event until then, `query` of a question. `answer`
    is one attempt alone, from when it was really sent; `sender_late` how much later than it could the simulator
    sent: where that is not small, it measures itself.

    rate: `intended`; `sent` for the first time; `accepted`. backlog: events that should have been sent and were
    not settled: the most at once (`peak`), when the last had happened (`at_end`), and when all was over (`left`).
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
    """One more of a kind."""
    kinds[kind] = kinds.get(kind, 0) + number
