"""The port of the clock."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The time of day."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...
