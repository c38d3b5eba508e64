"""A clock for tests that compare durations: it stands still while the machine is busy with something else."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds on a processor, nanoseconds ready to run without one, number of time slices."""


def own_time() -> float:
    """Seconds of this thread's life, without those in which it was ready to run but no processor was free.

    A wait (for an answer, a timeout, a lock) counts, so that a wait that is too long is found on a busy machine too.
    For upper bounds only: a wait that ended while no processor was free is shorter here than it was, so a test that
    something waits long enough takes the monotonic clock.
    Where the kernel does not say how long a thread waited for a processor, this is the monotonic clock.
    """
    try:
        delayed_ns = int(_SCHEDSTAT.read_bytes().split()[1])
    except (OSError, IndexError):
        delayed_ns = 0
    return time.monotonic() - delayed_ns / 1e9
