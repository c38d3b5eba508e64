"""The way into the log: stamps that rise strictly, in the order in which the records are appended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from lorestream.errors import Unavailable
from lorestream.ports import Clock, EventLog, NewRecord

APPEND_TIMEOUT_S = 1.8
"""Callers are promised their 503 within 2 s."""

_STEP_S = 1e-6
"""Doubles of this century are 0.24 microseconds apart."""


class Acceptance:
    """Stamps and appends for one gateway.

    Whoever stamps builds the records and appends them without awaiting anything in between: then the order
    of the stamps is the order of the log.
    """

    def __init__(self, log: EventLog, clock: Clock, *, floor: float) -> None:
        """`floor`: the newest stamp of an earlier life, in Unix seconds."""
        self._log = log
        self._clock = clock
        self._last = floor

    def stamp(self) -> float:
        """Unix seconds, greater than every stamp before, even when the clock was set back."""
        self._last = max(self._clock.now(), self._last + _STEP_S)
        return self._last

    async def append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        """Return once all are durable: the highest offset of every partition touched. {} for no records.

        Raises Overloaded when nothing was taken, and Unavailable when the log does not answer in time; then
        they may still be written, and come again under the same ids.
        """
        if not records:
            return {}
        async with within(APPEND_TIMEOUT_S, "the log"):
            return await self._log.append(records)


@asynccontextmanager
async def within(seconds: float, part: str) -> AsyncGenerator[None]:
    """Give up after `seconds`: raises Unavailable."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unavailable(f"{part} took no write for {seconds} s") from None
