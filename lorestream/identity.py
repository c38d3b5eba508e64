"""Ids and keys: pseudonyms of players, memory ids, log keys of agents.

The parts of an id are joined as a JSON array, because a separator character could occur in a part.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY_NAMESPACE = uuid.UUID("5f0c5f5e-3b0e-5f0b-9f0e-1a6d9c1f7e42")
"""The UUIDv5 namespace of memory ids. It must never change: a repeated event would get another memory id."""

_PLAYER_AGENT = re.compile(r"(?P<prefix>(?:.*:)?player:)(?P<name>.+)", re.DOTALL)
_PSEUDONYM = re.compile(r"[A-Za-z0-9_-]{1,32}:[0-9a-f]{64}")
_KID = re.compile(r"[A-Za-z0-9_-]{1,32}")


def memory_id(tenant: str, server: str, agent_id: str, event_id: str) -> str:
    """The memory id of an event: UUIDv5 of the JSON array [tenant, server, agent_id, event_id]."""
    return str(uuid.uuid5(MEMORY_NAMESPACE, orjson.dumps([tenant, server, agent_id, event_id]).decode()))


def agent_key(tenant: str, agent_id: str) -> bytes:
    """The log key of an agent's records: the JSON array [tenant, agent_id]."""
    return orjson.dumps([tenant, agent_id])


def player_name(agent_id: str) -> str | None:
    """NAME in an agent id `player:NAME` or `…:player:NAME`, None for any other agent id."""
    match = _PLAYER_AGENT.fullmatch(agent_id)
    return match and match["name"]


def is_pseudonym(name: str) -> bool:
    """Whether `name` has the form of a pseudonym, of any key."""
    return _PSEUDONYM.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class PlayerKey:
    """One HMAC key for player names; `kid` (key id) is the prefix of its pseudonyms."""

    kid: str
    secret: bytes


class Pseudonyms:
    """Replaces player names by `kid:HMAC-SHA-256(key, tenant NUL name)`.

    New pseudonyms use the first key; reads and deletes match the pseudonyms of all keys. A name that already is a
    pseudonym of one of these keys is not replaced again, so that an agent id from a listing can be used.
    """

    def __init__(self, keys: Sequence[PlayerKey]) -> None:
        if not keys:
            raise Misconfigured("LORESTREAM_PLAYER_KEY has no key: set it to kid:key")
        self._keys = tuple(keys)
        kids = "|".join(re.escape(key.kid) for key in keys)
        self._pseudonym = re.compile(rf"(?:{kids}):[0-9a-f]{{64}}")
        self._hash = lru_cache(maxsize=65_536)(self._compute)

    @classmethod
    def parse(cls, text: str) -> Pseudonyms:
        """Parse `kid1:key1,kid2:key2`; a single key without a kid gets the kid `k1`. Raises Misconfigured."""
        parts = [part.strip() for part in text.split(",") if part.strip()]
        keys: list[PlayerKey] = []
        for part in parts:
            kid, colon, secret = part.partition(":")
            if not colon:
                if len(parts) > 1:
                    raise Misconfigured(
                        "LORESTREAM_PLAYER_KEY: with several keys each needs its kid, as kid:key"
                    )
                kid, secret = "k1", part
            if not _KID.fullmatch(kid) or not secret:
                raise Misconfigured(
                    "LORESTREAM_PLAYER_KEY: write kid:key, the kid in letters, digits, _ and -"
                )
            keys.append(PlayerKey(kid, secret.encode()))
        if len({key.kid for key in keys}) != len(keys):
            raise Misconfigured("LORESTREAM_PLAYER_KEY: every kid may appear only once")
        return cls(keys)

    @staticmethod
    def _compute(key: PlayerKey, tenant: str, name: str) -> str:
        digest = hmac.new(key.secret, f"{tenant}\0{name}".encode(), hashlib.sha256)
        return f"{key.kid}:{digest.hexdigest()}"

    def player(self, tenant: str, name: str) -> str:
        """The pseudonym of a player's name with the first key."""
        return name if self._pseudonym.fullmatch(name) else self._hash(self._keys[0], tenant, name)

    def players(self, tenant: str, name: str) -> tuple[str, ...]:
        """All pseudonyms that the name may be stored under: one per key."""
        if self._pseudonym.fullmatch(name):
            return (name,)
        return tuple(self._hash(key, tenant, name) for key in self._keys)

    def agent(self, tenant: str, agent_id: str) -> tuple[str, str | None]:
        """The stored form of an agent id, and the pseudonym of the player that it is named after (None: no player)."""
        match = _PLAYER_AGENT.fullmatch(agent_id)
        if match is None:
            return agent_id, None
        player = self.player(tenant, match["name"])
        return match["prefix"] + player, player

    def lasting_agent(self, tenant: str, agent_id: str) -> str:
        """The stored form with the last key, from which memory ids are computed.

        A new first key then does not change the memory id of an event that is sent again. The old key must stay in
        the list for as long as events may be sent again.
        """
        return self.agents(tenant, agent_id)[-1]

    def agents(self, tenant: str, agent_id: str) -> tuple[str, ...]:
        """All stored forms of an agent id: one per key if it is named after a player, else one."""
        match = _PLAYER_AGENT.fullmatch(agent_id)
        if match is None:
            return (agent_id,)
        return tuple(match["prefix"] + player for player in self.players(tenant, match["name"]))
