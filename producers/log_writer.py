"""Writes to the log: acceptance times that strictly increase in the order of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from lorestream.errors import Unavailable
from lorestream.ports import Clock, EventLog, NewRecord

WRITE_TIMEOUT_S = 1.9
"""Limit of a write to the log and to the ledger: below the 2 s within which callers get an answer, and above the limits
of the calls in it (lorestream/adapters/kafka), which know best what failed and have to note it."""

_STEP_S = 1e-6
"""The smallest step between two acceptance times. Doubles of this century are 0.24 microseconds apart."""


class LogWriter:
    """Assigns acceptance times and appends records for one gateway.

    Between `next_accepted_at` and `append` the caller must not await: then the order of the times is the order of
    the log.
    """

    def __init__(self, log: EventLog, clock: Clock, *, last_accepted_at: float) -> None:
        """`last_accepted_at`: the latest acceptance time of earlier processes, in Unix seconds."""
        self._log = log
        self._clock = clock
        self._last = last_accepted_at

    def next_accepted_at(self) -> float:
        """The time now in Unix seconds, but later than every time before, even when the clock was set back."""
        self._last = max(self._clock.now(), self._last + _STEP_S)
        return self._last

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Append, and return when all are durable: the highest offset per partition written. {} for no records.

        Raises Overloaded when nothing was written, and Unavailable when the log does not answer in time, which it
        measures itself. After Unavailable the records may still be written; the caller sends them again under the
        same ids.
        """
        return await self._log.append(records) if records else {}


@asynccontextmanager
async def write_timeout(seconds: float, target: str) -> AsyncGenerator[None]:
    """Raise Unavailable after `seconds`. `target` names what is written to, for the message."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unavailable(f"{target} accepted no write within {seconds} s") from None
