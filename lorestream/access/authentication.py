"""Who sends a request: principals, and the authenticators that find them, by API key or without keys."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import math
import os
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import structlog

from lorestream import supervision
from lorestream.access import key_file
from lorestream.access.key_file import KeyScope
from lorestream.errors import Misconfigured
from lorestream.ports import Clock

POLL_INTERVAL_S = 1.0
"""How often the key file is checked for changes: a revoked key may be accepted for this long."""

MISSING_KEY = "a key is needed: send it as Authorization: Bearer ID.SECRET"
INVALID_KEY = "this key is not valid"

_BEARER = re.compile(r"bearer +([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{1,256})", re.IGNORECASE | re.ASCII)

_log = structlog.get_logger("lorestream.keys")


class Unauthenticated(Exception):
    """The request has no API key, or not a valid one: 401 over HTTP, UNAUTHENTICATED over gRPC."""


class Forbidden(Exception):
    """The caller's key lacks the scope that the request needs: 403, PERMISSION_DENIED."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: the tenant that it acts for, and the scopes of its key."""

    tenant: str
    scopes: frozenset[KeyScope]
    key: str = field(default="", compare=False)
    """The id of the key, empty without keys. Rate limits count per key."""

    def require(self, *scopes: KeyScope) -> None:
        """Raise Forbidden without one of these scopes."""
        if self.scopes.isdisjoint(scopes):
            raise Forbidden(f"this needs a key with the scope {' or '.join(scopes)}")


ANONYMOUS = Principal("default", frozenset(KeyScope))
"""Every caller of a service without API keys, which listens on loopback only: tenant `default`, all scopes."""


class Authenticator(Protocol):
    """Finds the principal of a request."""

    @property
    def needs_keys(self) -> bool:
        """Whether callers need an API key. If not, every local caller has all scopes."""
        ...

    def authenticate(self, authorization: str | None) -> Principal:
        """The principal for this Authorization header (None: not sent). Raises Unauthenticated; never blocks."""
        ...


class NoAuthentication:
    """Authenticator without keys: every caller is ANONYMOUS."""

    needs_keys = False

    def authenticate(self, authorization: str | None) -> Principal:
        """Return ANONYMOUS, whatever is sent."""
        del authorization
        return ANONYMOUS


NO_AUTHENTICATION = NoAuthentication()


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes = field(repr=False)
    principal: Principal
    expires: float


_UNKNOWN_KEY = _Entry(os.urandom(32), Principal("", frozenset()), -math.inf)
"""Compared in place of a key id that does not exist, so that the time shows nothing. It never matches."""


class ApiKeyAuthenticator:
    """Authenticator by the keys of a file, which is read again when it changes. Without keys it admits no caller."""

    needs_keys = True

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._read_error = ""
        self._stamp, keys = key_file.read(path)
        self._replace_entries(keys)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, path: Path, clock: Clock, *, poll_interval_s: float = POLL_INTERVAL_S
    ) -> AsyncGenerator[Self]:
        """Read the file, and follow its changes until the context ends. Raises Misconfigured."""
        opened = cls(path, clock)
        async with supervision.restarting(lambda: opened._poll(poll_interval_s), "key file"):
            yield opened

    def authenticate(self, authorization: str | None) -> Principal:
        """The holder of this key. Raises Unauthenticated, with one message for every kind of invalid key."""
        if authorization is None:
            raise Unauthenticated(MISSING_KEY)
        sent = _BEARER.fullmatch(authorization.strip(" \t"))
        if sent is None:
            raise Unauthenticated(INVALID_KEY)
        entry = self._entries.get(sent[1], _UNKNOWN_KEY)
        matches = hmac.compare_digest(hashlib.sha256(sent[2].encode()).digest(), entry.digest)
        if not matches or entry.expires <= self._clock.now():
            raise Unauthenticated(INVALID_KEY)
        return entry.principal

    async def _poll(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await asyncio.to_thread(self._read_if_changed)  # a slow disk must not delay requests

    def _read_if_changed(self) -> None:
        """Read the file again if it changed. On an error the old keys stay, and the error is logged once."""
        try:
            if key_file.stamp(self._path) == self._stamp and not self._read_error:
                return
            self._stamp, keys = key_file.read(self._path)
        except (Misconfigured, OSError) as error:
            if (message := str(error)) != self._read_error:
                self._read_error = message
                _log.error(
                    "the key file cannot be read, the keys read before stay valid: repair the file",
                    error=message,
                )
            return
        self._read_error = ""
        self._replace_entries(keys)

    def _replace_entries(self, keys: Sequence[key_file.ApiKey]) -> None:
        self._entries = {
            key.id: _Entry(
                bytes.fromhex(key.sha256),
                Principal(key.tenant, frozenset(key.scopes), key.id),
                math.inf if key.expires is None else key.expires.timestamp(),
            )
            for key in keys
            if key.revoked is None
        }
        _log.info("API keys read", file=str(self._path), keys=len(self._entries))


def single_authorization(values: Sequence[str]) -> str | None:
    """The one Authorization value of a request: None for no value, "" (never valid) for several.

    Several are refused because proxies differ in which of them counts.
    """
    return None if not values else values[0] if len(values) == 1 else ""


def require_loopback(host: str) -> None:
    """Refuse to listen on other than loopback addresses without API keys. Raises Misconfigured."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise Misconfigured(
            f"refusing to listen on {host} without API keys: anyone who reaches it could read and delete"
            " everything. Make a key (`lorestream keys create --help`) and set LORESTREAM_API_KEYS_FILE, or listen on"
            " 127.0.0.1"
        )
