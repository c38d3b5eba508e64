"""Warnings about variables without an effect: those of other designs (MONGODB_URI), and misspelt LORESTREAM_ ones.

The designs that Lorestream follows name variables that it does not read (docs/differences.md). Somebody who sets them
expects an effect. One warning at start names them, and one names the unknown ones with the prefix LORESTREAM_. Those that
Kubernetes sets by itself, such as LORESTREAM_PORT for a Service called lorestream, are only named at the level debug.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

from lorestream.settings.aliases import ALIASES, SECRETS, environment, from_file, of_kubernetes
from lorestream.settings.load import PREFIX, Settings, setting_names

PAGE = "docs/differences.md"
PREFIXES = ("DB_", "MONGODB_")
NAMES = frozenset({"CLEANUP_INTERVAL_HOURS", "MAX_RECENT_MESSAGES", "MEMORY_NAMESPACE", "MEMORY_TYPE"})
CLIENT = frozenset(
    {"LORESTREAM_URL", "LORESTREAM_QUERY_URL", "LORESTREAM_API_KEY", "LORESTREAM_API_KEY_FILE"}
)
"""The variables of the command line and of the examples; they are no settings of a service."""
_TESTS = "LORESTREAM_TEST_"

_log = structlog.get_logger("lorestream")


def unread(names: Iterable[str]) -> list[str]:
    """The names that only the original documents know, sorted."""
    return sorted(name for name in names if name in NAMES or name.startswith(PREFIXES))


def unknown(names: Iterable[str]) -> list[str]:
    """The names with the prefix LORESTREAM_ that are no settings, sorted, each with the most similar name that is one."""
    known = {*setting_names(Settings, PREFIX), *CLIENT, *(f"{name}_FILE" for name in SECRETS)}
    endings = [name.removeprefix(PREFIX) for name in known]
    found: list[str] = []
    for name in sorted(names):
        plain = name.upper()
        if not plain.startswith(PREFIX) or plain.startswith(_TESTS) or plain in known:
            continue
        similar = difflib.get_close_matches(plain.removeprefix(PREFIX), endings, n=1, cutoff=0.8)
        found.append(f"{name} (similar: {PREFIX}{similar[0]})" if similar else name)
    return found


def of_clients(env_file: Path = Path(".env")) -> list[str]:
    """The variables of the command line and of the clients that only the `.env` file has, where nothing reads them."""
    return sorted(CLIENT & from_file(env_file).keys() - os.environ.keys())


def warn_of_unread(env_file: Path = Path(".env")) -> None:
    """Log one warning for each kind of such variables in the environment or `.env`. Values are never logged.

    Raises Misconfigured if the file cannot be read.
    """
    names = environment(env_file).keys()
    if found := unread(names):
        _log.warning(
            f"these variables have no effect: Lorestream does not read them, see {PAGE} for what to set instead",
            variables=found,
        )
    if found := unknown(names):
        _log.warning(
            "these variables have no effect: there are no such settings. Correct or remove them; `lorestream config"
            " show` lists all settings",
            variables=found,
        )
    if found := of_clients(env_file):
        _log.warning(
            f"these variables have no effect in {env_file}: set them in the environment of the command line or client",
            variables=found,
        )
    if found := of_services(os.environ):
        _log.debug("these variables are ignored: Kubernetes sets them for its Services", variables=found)


def of_services(environ: Mapping[str, str]) -> list[str]:
    """The variables of Kubernetes with the name of a setting or the prefix LORESTREAM_, sorted."""
    return sorted(
        name
        for name, value in environ.items()
        if (name.upper().startswith(PREFIX) or name in ALIASES) and of_kubernetes(name, value)
    )
