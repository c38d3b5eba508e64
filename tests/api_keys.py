"""Keys for tests: a file of them, and services that follow it quickly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorestream.access import key_file
from lorestream.access.authentication import Authenticator, Unauthenticated
from lorestream.access.key_file import KeyScope

SOON_S = 0.02
"""How often the tests' services look at their key file."""


class ShiftedClock:
    """The time of day, and what it is ahead of that."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead


def bearer(path: Path, *scopes: KeyScope, **fields: Any) -> str:
    """The Authorization of a new key; it may do everything unless told otherwise."""
    made = key_file.create(path, **{"tenant": "default", "scopes": scopes or tuple(KeyScope), **fields})
    return f"Bearer {made.credential}"


def key_id(authorization: str) -> str:
    """The id of a key that `bearer` made."""
    return authorization.removeprefix("Bearer ").partition(".")[0]


def lets_in(authenticator: Authenticator, authorization: str | None) -> bool:
    """Whether the key is valid."""
    try:
        authenticator.authenticate(authorization)
    except Unauthenticated:
        return False
    return True


async def until(holds: Callable[[], bool]) -> None:
    """Fails when it does not hold within some seconds."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
