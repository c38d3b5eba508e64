"""API keys for tests: a key file, and helpers for services that read it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorestream.access import key_file
from lorestream.access.authentication import Authenticator, Unauthenticated
from lorestream.access.key_file import KeyScope

POLL_INTERVAL_S = 0.02
"""The poll interval of key files in tests."""


class ShiftedClock:
    """A clock that is `ahead` seconds ahead of the system clock."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead


def bearer(path: Path, *scopes: KeyScope, **fields: Any) -> str:
    """The Authorization of a new key; by default it has all scopes."""
    made = key_file.create(path, **{"tenant": "default", "scopes": scopes or tuple(KeyScope), **fields})
    return f"Bearer {made.credential}"


def key_id(authorization: str) -> str:
    """The id of a key that `bearer` made."""
    return authorization.removeprefix("Bearer ").partition(".")[0]


def is_valid(authenticator: Authenticator, authorization: str | None) -> bool:
    """Whether the key is valid."""
    try:
        authenticator.authenticate(authorization)
    except Unauthenticated:
        return False
    return True


async def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until it holds; fails after 10 s."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
