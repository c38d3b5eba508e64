"""Whether the clock can be believed when things are removed for their age.

A clock that jumps ahead makes everything look expired: memories with a lifetime, and the log. So nothing is removed
until the clock has kept its new time for an hour. Readers do not depend on the removal.
"""

from __future__ import annotations

from collections.abc import Callable

from lorestream.ports import Clock
from lorestream.steady_clock import SteadyClock, elapsed

MAX_ABSENCE_S = 86_400.0
"""With a newest record older than this the first removal waits: the process was not running, or the clock is wrong."""
SETTLE_S = 3600.0
"""How long it waits then, and after a step ahead: enough for the clock to be set right from the network, or by a person
who sees it in /ready. Nothing is lost by waiting, and what was removed is gone."""


class TimeCheck:
    """Compares a clock with a monotonic one. One instance for a process, from its start."""

    def __init__(
        self, clock: Clock, *, newest: float = 0.0, monotonic: Callable[[], float] = elapsed
    ) -> None:
        """`newest`: the Unix time of the newest record of the log, 0 = unknown."""
        self._clock = SteadyClock(clock, settle_s=SETTLE_S, monotonic=monotonic)
        self._monotonic = monotonic
        absent = bool(newest) and clock.now() - newest > MAX_ABSENCE_S
        self._not_before = monotonic() + (SETTLE_S if absent else 0.0)

    def problem(self) -> str | None:
        """Why nothing should be removed for its age now, in one line; None while the clocks agree."""
        if ahead := self._clock.ahead_s():
            return (
                f"the clock was set ahead by {ahead / 3600:.1f} hours: nothing is removed for its age until it is set back,"
                " or has kept the new time for an hour"
            )
        if self._monotonic() < self._not_before:
            return (
                "the newest record of the log is older than a day: nothing is removed for its age in the first hour,"
                " in case the clock is wrong"
            )
        return None
