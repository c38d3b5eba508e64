"""Callers told apart by the keys of a file, which is read again whenever it changes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import math
import os
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import structlog

from lorestream.access import key_file
from lorestream.access.principals import Principal, Unauthenticated
from lorestream.errors import Misconfigured
from lorestream.ports import Clock

LOOK_S = 1.0
"""How often the file is looked at, in seconds: how long a revoked key may still be good."""

MISSING = "a key is needed: send it as Authorization: Bearer ID.SECRET"
INVALID = "this key is not valid"

_BEARER = re.compile(r"bearer +([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{1,256})", re.IGNORECASE | re.ASCII)

_log = structlog.get_logger("lorestream.keys")


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes = field(repr=False)
    principal: Principal
    expires: float


_NOBODY = _Entry(os.urandom(32), Principal("", frozenset()), -math.inf)
"""In place of a key that does not exist: it costs the same time, and nothing ever opens it."""


class ApiKeys:
    """Access by the keys of a file. Without any key in it, nobody gets in."""

    needs_keys = True

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._complaint = ""
        self._stamp, found = key_file.read(path)
        self._take(found)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path, clock: Clock, *, look_s: float = LOOK_S) -> AsyncGenerator[Self]:
        """The keys of that file, followed until the context ends. Raises Misconfigured."""
        opened = cls(path, clock)
        following = asyncio.create_task(opened._follow(look_s))
        try:
            yield opened
        finally:
            following.cancel()
            await asyncio.wait({following})

    def principal(self, authorization: str | None) -> Principal:
        """Who holds this key. Raises Unauthenticated, in the same words whatever is wrong with it."""
        if authorization is None:
            raise Unauthenticated(MISSING)
        sent = _BEARER.fullmatch(authorization.strip(" \t"))
        if sent is None:
            raise Unauthenticated(INVALID)
        entry = self._entries.get(sent[1], _NOBODY)
        right = hmac.compare_digest(hashlib.sha256(sent[2].encode()).digest(), entry.digest)
        if not right or entry.expires <= self._clock.now():
            raise Unauthenticated(INVALID)
        return entry.principal

    async def _follow(self, look_s: float) -> None:
        while True:
            await asyncio.sleep(look_s)
            await asyncio.to_thread(self._look)  # a disk may be slow, and no call waits for it

    def _look(self) -> None:
        """Read the file again if it changed. One that cannot be read changes nothing, and is told once."""
        try:
            if key_file.stamp(self._path) == self._stamp and not self._complaint:
                return
            self._stamp, found = key_file.read(self._path)
        except (Misconfigured, OSError) as error:
            if (complaint := str(error)) != self._complaint:
                self._complaint = complaint
                _log.error("the key file is broken, the keys read before stay", error=complaint)
            return
        self._complaint = ""
        self._take(found)

    def _take(self, found: Sequence[key_file.ApiKey]) -> None:
        self._entries = {
            key.id: _Entry(
                bytes.fromhex(key.sha256),
                Principal(key.tenant, frozenset(key.scopes), key.id),
                math.inf if key.expires is None else key.expires.timestamp(),
            )
            for key in found
            if key.revoked is None
        }
        _log.info("keys", file=str(self._path), keys=len(self._entries))
