"""A clock that jumps: Python imports this file at its start where its folder is in PYTHONPATH.

SOAK_CLOCK names a file that holds how many seconds `time.time` is ahead. Monotonic clocks go on as they are.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_real = time.time
_READ_INTERVAL_S = 0.2


class _Clock:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._ahead = 0.0
        self._read_at = 0.0

    def time(self) -> float:
        now = time.monotonic()
        if now - self._read_at > _READ_INTERVAL_S:
            self._read_at = now
            self._ahead = float(self._file.read_text() or 0)
        return _real() + self._ahead

    def time_ns(self) -> int:
        return int(self.time() * 1e9)


if "SOAK_CLOCK" in os.environ:
    _clock = _Clock(Path(os.environ["SOAK_CLOCK"]))
    time.time = _clock.time
    time.time_ns = _clock.time_ns
