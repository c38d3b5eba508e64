"""Whether a service can do its job: the checks behind /ready, and the gauge of the same checks in /metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from lorestream import supervision
from lorestream.telemetry import Metrics

CHECK_TIMEOUT_S = 1.9
"""Limit of one check: callers of /ready expect an answer within 2 s. Longer than the calls in a check may take, which say
more about what is missing."""
MAX_AGE_S = 1.0
"""How old a result may be. /ready and /metrics are open to everybody and must not become a load for what they check."""

OK = "ok"


@dataclass(frozen=True, slots=True)
class ReadinessCheck:
    """One thing that a service uses. `problem` returns None, or a text that says what is missing."""

    name: str
    problem: Callable[[], Awaitable[str | None]]
    needed: bool = True
    """Whether the service cannot do its job without it. Without one that is not needed, /ready still answers 200."""


class ReadinessChecks:
    """The checks of one service. `lorestream_dependency_up` always shows the last results."""

    def __init__(
        self,
        checks: Sequence[ReadinessCheck],
        metrics: Metrics,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = checks
        self._metrics = metrics
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._results: Mapping[str, str] = {}
        self._checked_at = float("-inf")

    async def results(self) -> Mapping[str, str]:
        """For each check "ok" or its problem, at most `MAX_AGE_S` old. Returns within about `CHECK_TIMEOUT_S`."""
        async with self._lock:
            if self._monotonic() - self._checked_at > MAX_AGE_S:
                problems = await supervision.run_all(*(_problem(check) for check in self._checks))
                self._results = {
                    check.name: problem or OK for check, problem in zip(self._checks, problems, strict=True)
                }
                self._checked_at = self._monotonic()
                for name, result in self._results.items():
                    self._metrics.dependency_up.labels(name).set(result == OK)
            return self._results

    def is_ready(self, results: Mapping[str, str]) -> bool:
        """Whether the service can do its job with these results."""
        return all(results[check.name] == OK for check in self._checks if check.needed)


async def _problem(check: ReadinessCheck) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check.problem()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S} s"
