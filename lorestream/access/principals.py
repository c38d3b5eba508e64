"""Who may do what: the principal behind a call, and how a caller shows to be one."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from lorestream.errors import Misconfigured


class Unauthenticated(Exception):
    """Whoever calls has shown no key, or none that is valid: 401 over HTTP, UNAUTHENTICATED over gRPC."""


class Forbidden(Exception):
    """The caller's key has not the scope that this call needs: 403, PERMISSION_DENIED."""


class Grant(StrEnum):
    """What a key may do (its scopes). None of them stands for another one."""

    INGEST = "ingest"
    QUERY = "query"
    ERASE = "erase"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The tenant on whose behalf a call is made, and what it may do there."""

    tenant: str
    grants: frozenset[Grant]
    key: str = field(default="", compare=False)
    """The id of the key, empty without keys: who is counted together."""

    def require(self, grant: Grant) -> None:
        """Raise Forbidden without this scope."""
        if grant not in self.grants:
            raise Forbidden(f"this needs a key with the scope {grant}")


ANYONE = Principal("default", frozenset(Grant))
"""Whoever reaches a service that has no keys: it listens on loopback only."""


class Access(Protocol):
    """Tells callers apart."""

    @property
    def needs_keys(self) -> bool:
        """Whether a caller needs a key. Where not, everybody on this machine is trusted with everything."""
        ...

    def principal(self, authorization: str | None) -> Principal:
        """Who sends this Authorization (None: none was sent). Raises Unauthenticated; never blocks."""
        ...


class Keyless:
    """Access without keys: everybody is ANYONE."""

    needs_keys = False

    def principal(self, authorization: str | None) -> Principal:
        """ANYONE, whatever is sent."""
        del authorization
        return ANYONE


KEYLESS = Keyless()


def only(values: Sequence[str]) -> str | None:
    """The one Authorization of a call. Two of them are as good as a wrong one: proxies differ in which counts."""
    return None if not values else values[0] if len(values) == 1 else ""


def require_loopback(host: str) -> None:
    """Refuse to listen beyond this machine while there are no API keys. Raises Misconfigured."""
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
