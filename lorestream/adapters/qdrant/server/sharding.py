"""Custom sharding: which shards of a collection a call is for.

With N shard keys, numbered from 0, a point is in the shard of its agent: the hash of the payload key `agent`, or `owner`,
modulo N. So a call whose conditions name the agents asks only their shards, and all others ask every shard. A tombstone
is where a memory of its agent would be.

Two kinds of writes need more, because the id of a point does not change when a player key is added, and the stored name of
an agent that is named after a player does: such a memory may already be in the shard of the other name
(`may_be_elsewhere`), and a tombstone has to remove it there (`tombstones`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from lorestream.adapters.qdrant.agents import agents_of
from lorestream.adapters.qdrant.conditions import Clause
from lorestream.adapters.qdrant.payload import agent_keyword, decode_point
from lorestream.adapters.qdrant.server.protocol import wire


@lru_cache(maxsize=4096)
def shard_of(agent: str, keys: int) -> int:
    """The number of the shard key of an agent, given as in the payload key `agent`."""
    digest = hashlib.blake2b(agent.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % keys


class Sharding:
    """The shard keys of one collection. With `keys` 0 the server distributes the points, and no call names a shard."""

    def __init__(self, keys: int) -> None:
        self.keys = keys

    def __bool__(self) -> bool:
        return self.keys > 0

    def of_reads(self, must: Sequence[Clause]) -> wire.ShardKeySelector | None:
        """The shards of a read; None: all."""
        return self.of_agents(agents_of(must)) if self.keys else None

    def of_agents(self, agents: frozenset[str] | None) -> wire.ShardKeySelector | None:
        """The shards of agents, as in the payload key `agent`; None: all."""
        if not self.keys or not agents:
            return None
        return _selector(sorted({shard_of(one, self.keys) for one in agents}))

    def every(self) -> wire.ShardKeySelector | None:
        """All shards, for a write by ids: a server refuses a write that names none."""
        return _selector(range(self.keys)) if self.keys else None

    def only(self, shard: int | None) -> wire.ShardKeySelector | None:
        """One shard of `by_shard`."""
        return None if shard is None else _selector((shard,))

    def others(self, shard: int) -> wire.ShardKeySelector:
        """All shards but one; that one if there is no other."""
        return _selector([one for one in range(self.keys) if one != shard] or [shard])

    def by_shard(self, points: Sequence[wire.PointStruct]) -> dict[int | None, list[wire.PointStruct]]:
        """The points of each shard; without shard keys all of them under None."""
        if not self.keys:
            return {None: list(points)}
        found: dict[int | None, list[wire.PointStruct]] = {}
        for point in points:
            found.setdefault(shard_of(_agent(point), self.keys), []).append(point)
        return found


def _selector(shards: Iterable[int]) -> wire.ShardKeySelector:
    return wire.ShardKeySelector(shard_keys=[wire.ShardKey(number=one) for one in shards])


def may_be_elsewhere(point: wire.PointStruct) -> bool:
    """Whether it is a memory of an agent that is named after a player, which may be stored under another name."""
    return "agent_player" in point.payload and "row" not in point.payload


def is_tombstone(point: wire.PointStruct) -> bool:
    """Whether the point is a tombstone."""
    return "grave" in point.payload


def _agent(point: wire.PointStruct) -> str:
    """The agent that decides on the shard of a point."""
    payload: Any = point.payload
    for key in ("agent", "owner"):
        if key in payload:
            return payload[key].string_value
    grave = decode_point({"grave": payload["grave"].string_value})
    return agent_keyword(grave.tenant, grave.agent_id)
