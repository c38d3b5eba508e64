"""Turns for other tasks in work that runs long on the event loop."""

from __future__ import annotations

import asyncio
from time import monotonic

HOLD_S = 0.005
"""Seconds that a loop over many items may run before other tasks get a turn.

Not CPU seconds: Linux tells those by a system call, which takes up to 4 microseconds, as long as many an item.
"""


class Turns:
    """Call `next` after each item of a long loop: it lets other tasks run once HOLD_S have passed."""

    def __init__(self) -> None:
        self._since = monotonic()

    async def next(self) -> None:
        """Let other tasks run if this loop has run for HOLD_S since they last could; else return at once."""
        if monotonic() - self._since >= HOLD_S:
            await asyncio.sleep(0)
            self._since = monotonic()
