"""Turns for other tasks in work that runs long on the event loop."""

from __future__ import annotations

import asyncio
import time

HOLD_S = 0.005
"""CPU seconds that a loop over many items may run before other tasks get a turn."""


class Turns:
    """Call `next` after each item of a long loop: it lets other tasks run once HOLD_S of CPU time have passed."""

    def __init__(self) -> None:
        self._since = time.thread_time()

    async def next(self) -> None:
        """Let other tasks run if this loop has run for HOLD_S since they last could; else return at once."""
        if time.thread_time() - self._since >= HOLD_S:
            await asyncio.sleep(0)
            self._since = time.thread_time()
