"""What all writes of a gateway pass: the rate limit, the append with its metrics, the wait for the worker."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lorestream.access.authentication import Principal
from lorestream.access.rate_limits import RateLimits
from lorestream.errors import Overloaded, RateLimited, Unavailable
from lorestream.http.request import Headers
from lorestream.ports import NewRecord, WatermarkReader
from lorestream.telemetry import Metrics
from lorestream.tracing import current_traceparent
from producers.log_writer import LogWriter

_TRACEPARENT = re.compile(
    rb"(?:00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    rb"|(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]{0,200})?)"
)


@dataclass(frozen=True, slots=True)
class Intake:
    """Counts events, and appends them to the log."""

    log_writer: LogWriter
    watermarks: WatermarkReader
    metrics: Metrics

    async def check_rate(self, limits: RateLimits, principal: Principal, count: int) -> None:
        """Count events against the caller's rate limit. Raises RateLimited; then none of them may be accepted."""
        try:
            await limits.count_events(principal, count)
        except RateLimited:
            self.metrics.ingest_events.labels("refused", "rate_limited").inc(count)
            raise

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Append, as `LogWriter.append`, and count the records as accepted or refused."""
        counter = self.metrics.ingest_events.labels
        try:
            with self.metrics.ingest_duration.time():
                positions = await self.log_writer.append(records)
        except Overloaded:
            counter("refused", "overloaded").inc(len(records))
            raise
        except Unavailable:
            counter("refused", "unavailable").inc(len(records))
            raise
        counter("accepted", "").inc(len(records))
        return positions

    def count_rejected(self, code: str) -> None:
        """Count an event that can never be accepted."""
        self.metrics.ingest_events.labels("rejected", code).inc()

    async def wait_until_processed(self, positions: dict[int, int], timeout_s: float) -> bool:
        """Whether the log was processed past these offsets within `timeout_s`.

        Never raises Unavailable, and returns False when it is cancelled, as it is when the process stops: the events
        are accepted all the same, and their sender must learn that.
        """
        try:
            return await self.watermarks.reached(positions, timeout_s)
        except (Unavailable, asyncio.CancelledError):
            return False


def traceparent(headers: Headers) -> bytes | None:
    """The W3C traceparent of the request's span, or that of its header; None where that is missing or invalid."""
    if (current := current_traceparent()) is not None:
        return current
    given = headers.get(b"traceparent", b"")
    return given if _TRACEPARENT.fullmatch(given) else None
