"""Conditions on points, independent of any client library: the terms, and those of scopes, expiry and links."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from lorestream.adapters.qdrant.payload import (
    FLOAT_INDEX_KEYS,
    agent_keyword,
    link_hash,
    links_hash,
    record_group,
    ticks,
)

if TYPE_CHECKING:
    from lorestream.memories import Scope


@dataclass(frozen=True, slots=True)
class Match:
    """The value at `key`, or an element of it, is one of `values`: all strings, or all integers."""

    key: str
    values: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Substring:
    """The string at `key`, or an element of it, contains `text`."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Range:
    """The number at `key`, or an element of it, is within the bounds."""

    key: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class Empty:
    """The value at `key` is missing, null or []."""

    key: str


@dataclass(frozen=True, slots=True)
class Ids:
    """The points with these ids."""

    ids: frozenset[str]
    agents: frozenset[str] | None = None
    """The payload keys `agent` of these points, if they are known: only the shards of these agents are asked."""


@dataclass(frozen=True, slots=True)
class Group:
    """All of `must` hold, none of `must_not`, and at least one of `should` unless `should` is empty."""

    must: tuple[Clause, ...] = ()
    should: tuple[Clause, ...] = ()
    must_not: tuple[Clause, ...] = ()


Clause: TypeAlias = "Match | Substring | Range | Empty | Ids | Group"

ALWAYS = Group()
NEVER = Group(must_not=(ALWAYS,))


_INDEXED_KEYS = frozenset(
    {
        "agent",
        "tenant",
        "owner",
        "group",
        "type",
        "server",
        "player",
        "agent_player",
        "facts",
        "t",
        "accepted",
        "expires",
        "row_expires",
        "deleted",
    }
    | set(FLOAT_INDEX_KEYS)
)


def scope_clause(scope: Scope) -> Clause:
    """The memories of the scope's agents, or of its whole tenant. Never matches a tombstone or a row."""
    agents = tuple(agent_keyword(scope.tenant, agent) for agent in scope.agents or ())
    if scope.agents is not None and not agents:
        return NEVER
    memories = Match("agent", agents) if agents else Match("tenant", (scope.tenant,))
    if not scope.records:
        return memories
    records = Match("group", (record_group(scope.tenant),))
    return Group(should=(memories, Group(must=(Match("owner", agents), records)) if agents else records))


def conjuncts(clauses: Iterable[Clause]) -> Iterator[Clause]:
    """The clauses that all have to hold, those within groups that consist of nothing else included."""
    for one in clauses:
        if isinstance(one, Group) and not one.should and not one.must_not:
            yield from conjuncts(one.must)
        else:
            yield one


def payload_conditions(clauses: Iterable[Clause]) -> int:
    """How many conditions have no index, so that the engine reads the payload of a point to evaluate them."""
    return sum(
        payload_conditions((*one.must, *one.should, *one.must_not))
        if isinstance(one, Group)
        else not isinstance(one, Ids) and one.key not in _INDEXED_KEYS
        for one in clauses
    )


SUPERSEDED = Match("facts", (links_hash("superseded"),))
"""The memories that another one replaces (`Memory.replaced_by`)."""


def linked_clause(link: str, values: Iterable[str]) -> Clause:
    """The memories whose `link` (see `payload`) has one of the values."""
    hashes = tuple({link_hash(link, one) for one in values})
    return Match("facts", hashes) if hashes else NEVER


def expired_clause(now: float) -> Clause:
    """The memories whose `expires_at` is at or before `now` (Unix seconds)."""
    return Range("expires", lte=ticks(now))
