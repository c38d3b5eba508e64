"""How many files and connections this process may still open."""

from __future__ import annotations

import resource
from pathlib import Path

_ENOUGH = 65_536


def free_files() -> int:
    """How many more files the process may open. Raises its soft limit to the hard one first, or to what is enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY:
        return _ENOUGH
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(0, soft - sum(1 for _ in Path("/proc/self/fd").iterdir()))
