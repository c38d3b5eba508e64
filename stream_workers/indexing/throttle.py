"""Limits on the work for a collection that is filled in the background, so that queries and new events go first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

BACKGROUND_CPU_SHARE = 0.5
"""Of one processor, at most."""
MAX_PAUSE_S = 1.0
CHUNK_SIZE = 8
"""Memories read or written at once: that blocks an embedded store for about a millisecond."""

T = TypeVar("T")


class Throttle:
    """Pauses after work in the background; does nothing in the foreground."""

    def __init__(self, is_foreground: Callable[[], bool] = lambda: True) -> None:
        """`is_foreground` is asked again before each piece of work."""
        self.is_foreground = is_foreground

    async def pause(self, worked_s: float) -> None:
        """After `worked_s` seconds of work: sleep until they are `BACKGROUND_CPU_SHARE` of the time passed."""
        if not self.is_foreground():
            await asyncio.sleep(min(MAX_PAUSE_S, worked_s * (1 / BACKGROUND_CPU_SHARE - 1)))

    async def in_chunks(self, items: Sequence[T], work: Callable[[Sequence[T]], Awaitable[None]]) -> None:
        """Call `work` on all items, in order. In the background by chunks of `CHUNK_SIZE`, with a pause after each."""
        start, end = 0, len(items)
        while start < end:
            chunk = items[start:] if self.is_foreground() else items[start : start + CHUNK_SIZE]
            began = time.perf_counter()
            await work(chunk)
            await self.pause(time.perf_counter() - began)
            start += len(chunk)
