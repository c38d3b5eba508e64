"""Watermarks of one process: a dictionary, and an event for those who wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class LocalWatermarks:
    """Watermarks within one event loop. Empty at first: the runner publishes what the log has committed."""

    def __init__(self) -> None:
        self._finished: dict[int, int] = {}
        self._risen = asyncio.Event()

    async def publish(self, positions: Mapping[int, int]) -> None:
        """Everything below these offsets is finished. Never lowered."""
        higher = {
            partition: position
            for partition, position in positions.items()
            if position > self._finished.get(partition, -1)
        }
        if higher:
            self._finished |= higher
            self._risen.set()
            self._risen = asyncio.Event()

    async def reached(self, positions: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is finished, waiting at most `timeout_s`.

        A partition of which nothing was published is not finished.
        """
        if not self._finished_past(positions) and timeout_s > 0:
            try:
                async with asyncio.timeout(timeout_s):
                    while not self._finished_past(positions):
                        await self._risen.wait()
            except TimeoutError:
                pass
        return self._finished_past(positions)

    def positions(self) -> Mapping[int, int]:
        """What has been published: the first unfinished offset of each partition."""
        return dict(self._finished)

    def _finished_past(self, positions: Mapping[int, int]) -> bool:
        return all(self._finished.get(partition, 0) > offset for partition, offset in positions.items())
