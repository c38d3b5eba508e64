"""Variables of the original documents that Lorestream does not read.

A user of those documents may have them in the environment or in `.env` and expect an effect. One warning at start
names them, and the page that says what to set instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import structlog
from dotenv import dotenv_values

PAGE = "docs/differences.md"
PREFIXES = ("DB_", "MONGODB_")
NAMES = frozenset({"CLEANUP_INTERVAL_HOURS", "MAX_RECENT_MESSAGES", "MEMORY_NAMESPACE", "MEMORY_TYPE"})

_log = structlog.get_logger("lorestream")


def unread(names: Iterable[str]) -> list[str]:
    """The names that only the original documents know, sorted."""
    return sorted(name for name in names if name in NAMES or name.startswith(PREFIXES))


def warn_of_unread(env_file: Path = Path(".env")) -> None:
    """Log one warning if the environment or the `.env` file sets such variables. Values are never logged."""
    found = unread({*os.environ, *dotenv_values(env_file)})
    if found:
        _log.warning(
            f"these variables have no effect: Lorestream does not read them, see {PAGE} for what to set instead",
            variables=found,
        )
