"""The Watermarks in the memory of one process: a dictionary, and an event that wakes waiting callers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class LocalWatermarks:
    """Watermarks (lorestream.ports.watermarks) for one event loop.

    Empty at first: when it starts, the indexer publishes what its group has committed.
    """

    def __init__(self) -> None:
        self._finished: dict[int, int] = {}
        self._raised = asyncio.Event()

    async def publish(self, positions: Mapping[int, int]) -> None:
        """Raise the watermarks (partition -> first offset that is not finished). Never lowers one."""
        higher = {
            partition: position
            for partition, position in positions.items()
            if position > self._finished.get(partition, -1)
        }
        if higher:
            self._finished |= higher
            self._raised.set()
            self._raised = asyncio.Event()

    async def reached(self, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is finished, waiting at most `timeout_s`.

        A partition without a published watermark counts as not finished.
        """
        if not self._finished_past(offsets) and timeout_s > 0:
            try:
                async with asyncio.timeout(timeout_s):
                    while not self._finished_past(offsets):
                        await self._raised.wait()
            except TimeoutError:
                pass
        return self._finished_past(offsets)

    async def finished(self) -> Mapping[int, int]:
        """The published watermarks: partition -> first offset that is not finished."""
        return dict(self._finished)

    def _finished_past(self, positions: Mapping[int, int]) -> bool:
        return all(self._finished.get(partition, 0) > offset for partition, offset in positions.items())
