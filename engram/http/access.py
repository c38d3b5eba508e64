"""Who may do what: the principal behind a call."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from engram.errors import Misconfigured


class Grant(StrEnum):
    """What a key may do (its scopes)."""

    INGEST = "ingest"
    QUERY = "query"
    ERASE = "erase"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The tenant on whose behalf a call is made, and what it may do there."""

    tenant: str
    grants: frozenset[Grant]


ANYONE = Principal("default", frozenset(Grant))
"""Whoever reaches a service that has no keys: it listens on loopback only."""


def require_loopback(host: str) -> None:
    """Refuse to listen beyond this machine while there are no API keys. Raises Misconfigured."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise Misconfigured(
            f"refusing to listen on {host} without API keys: anyone who reaches it could read and delete"
            " everything. Listen on 127.0.0.1, behind a proxy that knows its callers"
        )
