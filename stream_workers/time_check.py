"""Whether the clock can be believed when things are removed for their age.

A clock that jumps ahead makes everything look expired: memories with a lifetime, and the log. So nothing is removed
while the clock of the system and the monotonic clock disagree. Readers do not depend on the removal.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lorestream.ports import Clock

MAX_JUMP_S = 3600.0
"""How far the clock may be ahead of the time that has passed since the last check."""
MAX_ABSENCE_S = 86_400.0
"""With a newest record older than this the first removal waits: the process was not running, or the clock is wrong."""
SETTLE_S = 3600.0
"""How long it waits then: enough for the clock to be set from the network."""


def elapsed() -> float:
    """Seconds on a clock that nobody sets. On Linux one that includes the time while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class TimeCheck:
    """Compares a clock with a monotonic one. One instance for a process, from its start."""

    def __init__(
        self, clock: Clock, *, newest: float = 0.0, monotonic: Callable[[], float] = elapsed
    ) -> None:
        """`newest`: the Unix time of the newest record of the log, 0 = unknown."""
        self._clock = clock
        self._monotonic = monotonic
        self._wall, self._at = clock.now(), monotonic()
        absent = bool(newest) and self._wall - newest > MAX_ABSENCE_S
        self._not_before = self._at + SETTLE_S if absent else self._at

    def problem(self) -> str | None:
        """Why nothing should be removed for its age now, in one line; None while the clocks agree."""
        now, at = self._clock.now(), self._monotonic()
        ahead = now - (self._wall + at - self._at)
        if ahead > MAX_JUMP_S:
            return (
                f"the clock was set ahead by {ahead / 3600:.1f} hours: nothing is removed for its age until it is set back."
                " If the time is right now, restart this process"
            )
        self._wall, self._at = now, at  # small steps, and any step back, are corrections
        if at < self._not_before:
            return (
                "the newest record of the log is older than a day: nothing is removed for its age in the first hour,"
                " in case the clock is wrong"
            )
        return None
