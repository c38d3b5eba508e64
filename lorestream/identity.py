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
    from collections.abc import Iterator, Sequence

MEMORY_NAMESPACE = uuid.UUID("5f0c5f5e-3b0e-5f0b-9f0e-1a6d9c1f7e42")
"""The UUIDv5 namespace of memory ids. It must never change: a repeated event would get another memory id."""

MAX_NAME_COLONS = 2
"""Colons that a player's NAME may have in an agent id `ROLE:NAME`, as in `smith:steam:7656`."""

_PLAYER_AGENT = re.compile(r"(?P<prefix>(?:.*:)?player:)(?P<name>.+)", re.DOTALL)
_PSEUDONYM = re.compile(r"[A-Za-z0-9_-]{1,32}:[0-9a-f]{64}")
_PSEUDONYM_AGENT = re.compile(rf"(?P<prefix>.+:)(?P<name>{_PSEUDONYM.pattern})", re.DOTALL)
_PLAYER = "player:"
_KID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_FINGERPRINT = b"lorestream: fingerprint of a key for player names"


def memory_id(tenant: str, server: str, agent_id: str, event_id: str) -> str:
    """The memory id of an event: UUIDv5 of the JSON array [tenant, server, agent_id, event_id]."""
    return str(uuid.uuid5(MEMORY_NAMESPACE, orjson.dumps([tenant, server, agent_id, event_id]).decode()))


def agent_key(tenant: str, agent_id: str) -> bytes:
    """The log key of an agent's records: the JSON array [tenant, agent_id]."""
    return orjson.dumps([tenant, agent_id])


def player_name(agent_id: str) -> str | None:
    """The player that the id itself says the agent is named after, or None.

    That is NAME in `player:NAME` and `…:player:NAME`, and PSEUDONYM in `ROLE:PSEUDONYM`. A plain `ROLE:NAME` may be
    any agent: only an event whose player is NAME makes it the player's, see `Pseudonyms.agent`.
    """
    match = _PLAYER_AGENT.fullmatch(agent_id) or _PSEUDONYM_AGENT.fullmatch(agent_id)
    return match and match["name"]


def about_player(entry: str, player: str | None) -> str | None:
    """The name (or pseudonym) of the player that an entry of `about` is; None for an agent id."""
    if entry == player or ":" not in entry or is_pseudonym(entry):
        return entry
    return entry.removeprefix(_PLAYER) if entry.startswith(_PLAYER) and entry != _PLAYER else None


def pseudonym_in(about: str) -> str | None:
    """The pseudonym in a stored entry of `about`: the entry itself, or that of the player that an agent is named after."""
    if is_pseudonym(about):
        return about
    name = player_name(about)
    return name if name is not None and is_pseudonym(name) else None


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

    def fingerprints(self) -> dict[str, str]:
        """For each key id, a digest that tells whether two keys are the same without showing them."""
        return {
            key.kid: hmac.new(key.secret, _FINGERPRINT, hashlib.sha256).hexdigest()[:32] for key in self._keys
        }

    def player(self, tenant: str, name: str) -> str:
        """The pseudonym of a player's name with the first key."""
        return name if self._pseudonym.fullmatch(name) else self._hash(self._keys[0], tenant, name)

    def players(self, tenant: str, name: str) -> tuple[str, ...]:
        """All pseudonyms that the name may be stored under: one per key."""
        if self._pseudonym.fullmatch(name):
            return (name,)
        return tuple(self._hash(key, tenant, name) for key in self._keys)

    def about(self, tenant: str, entry: str, player: str | None = None) -> str:
        """The stored form of an entry of an event's `about`: a player's name, or an agent id.

        An entry without a colon, `player:NAME`, and the name of the event's `player` are players; the others are agents.
        """
        name = about_player(entry, player)
        return self.agent(tenant, entry, player)[0] if name is None else self.player(tenant, name)

    def abouts(self, tenant: str, entry: str) -> tuple[str, ...]:
        """All forms that an entry of `about` may be stored in: for filters."""
        name = about_player(entry, None)
        if name is not None:
            return self.players(tenant, name)
        # An event whose player has a colon in the name stores the player, and a filter does not say whether it is one.
        return tuple(dict.fromkeys((*self.agents(tenant, entry), *self.players(tenant, entry))))

    def agent(self, tenant: str, agent_id: str, player: str | None = None) -> tuple[str, str | None]:
        """The stored form of an event's agent id, and the pseudonym of the player that it is named after, or None.

        `player`: the event's player. An agent `ROLE:NAME` is named after the player NAME if that is the event's.
        """
        named = self._named_after(tenant, agent_id, player)
        if named is None:
            return agent_id, None
        prefix, pseudonyms = named
        return prefix + pseudonyms[0], pseudonyms[0]

    def lasting_agent(self, tenant: str, agent_id: str, player: str | None = None) -> str:
        """The stored form with the last key, from which memory ids are computed. Arguments as for `agent`.

        A new first key then does not change the memory id of an event that is sent again. The old key must stay in
        the list for as long as events may be sent again.
        """
        named = self._named_after(tenant, agent_id, player)
        return agent_id if named is None else named[0] + named[1][-1]

    def agents(self, tenant: str, agent_id: str) -> tuple[str, ...]:
        """All stored forms of an agent id in a read, a deletion or an erasure.

        One per key if the id says that it is named after a player. A read of `ROLE:NAME` does not say whether NAME
        is a player, and events with and without that player may exist: then the id itself, and one form per key.
        """
        named = self._named_after(tenant, agent_id, None)
        if named is not None:
            return tuple(named[0] + pseudonym for pseudonym in named[1])
        return (
            agent_id,
            *(
                f"{role}:{pseudonym}"
                for role, name in _roles_and_names(agent_id)
                for pseudonym in self.players(tenant, name)
            ),
        )

    def _named_after(
        self, tenant: str, agent_id: str, player: str | None
    ) -> tuple[str, tuple[str, ...]] | None:
        """(the id up to the player's name, the player's pseudonyms), None if the agent is named after no player."""
        if match := _PLAYER_AGENT.fullmatch(agent_id):
            return match["prefix"], self.players(tenant, match["name"])
        if match := _PSEUDONYM_AGENT.fullmatch(agent_id):
            return match["prefix"], (match["name"],)
        for role, name in _roles_and_names(agent_id) if player else ():
            if name == player:
                return f"{role}:", self.players(tenant, name)
        return None


def _roles_and_names(agent_id: str) -> Iterator[tuple[str, str]]:
    """The ways to read an agent id as `ROLE:NAME`; NAME has at most MAX_NAME_COLONS colons."""
    role = agent_id
    for _ in range(MAX_NAME_COLONS + 1):
        role = role.rpartition(":")[0]
        if not role:
            return
        if name := agent_id[len(role) + 1 :]:
            yield role, name
