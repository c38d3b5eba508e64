"""A clock that believes a step ahead only after a while.

The system's clock may be set ahead by mistake, and be put right soon after. What was done by the wrong time stays:
memories removed as expired, events that count as accepted in the future. So a step ahead of more than an hour is
believed when the clock has kept the new time for a settling time; until then the time goes on from before the step.
Smaller steps, and any step back, are believed at once.

    clock = SteadyClock(system_clock, settle_s=300)
    clock.now()      # Unix time in seconds
    clock.problem()  # None, or that the clock was set ahead
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorestream.ports import Clock

MAX_STEP_S = 3600.0
"""A step ahead of at most this many seconds is believed at once."""


def elapsed() -> float:
    """Seconds on a clock that nobody sets. On Linux and Windows it includes the time while the machine is suspended."""
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class SteadyClock:
    """A Clock over another one, which it compares with a monotonic clock at each call."""

    def __init__(self, clock: Clock, *, settle_s: float, monotonic: Callable[[], float] = elapsed) -> None:
        """`settle_s`: how long the clock has to keep the time after a step ahead, in seconds."""
        self._clock = clock
        self._settle_s = settle_s
        self._monotonic = monotonic
        self._believed = clock.now() - monotonic()
        """The Unix time at the zero of the monotonic clock."""
        self._stepped = self._believed
        """The same by the clock after its step ahead."""
        self._stepped_at: float | None = None
        """The monotonic time since which it is so; None while the clock is believed."""

    def now(self) -> float:
        """The time to go by, in Unix seconds."""
        at, _ = self._look()
        return self._believed + at

    def ahead_s(self) -> float:
        """By how many seconds the clock is ahead of the time to go by; 0.0 while it is believed."""
        return self._look()[1]

    def problem(self) -> str | None:
        """That the clock was set ahead, and what follows, in one line; None while it is believed."""
        ahead = self.ahead_s()
        if not ahead:
            return None
        return (
            f"the clock was set ahead by {ahead / 3600:.1f} hours: the time from before counts until it has kept the new"
            f" one for {self._settle_s / 60:.0f} minutes"
        )

    def _look(self) -> tuple[float, float]:
        """The monotonic time, and by how much the clock is ahead."""
        wall, at = self._clock.now(), self._monotonic()
        found = wall - at
        if found - self._believed <= MAX_STEP_S:
            self._believed, self._stepped_at = found, None
            return at, 0.0
        if self._stepped_at is None or abs(found - self._stepped) > MAX_STEP_S:
            self._stepped_at = at
        self._stepped = found
        if at - self._stepped_at >= self._settle_s:
            self._believed, self._stepped_at = found, None
            return at, 0.0
        return at, found - self._believed
