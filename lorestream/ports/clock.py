"""The port of the clock."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The time of day. It may jump when the system clock is set; measure durations with time.monotonic()."""

    def now(self) -> float:
        """Unix time in seconds. Does not block or raise."""
        ...
