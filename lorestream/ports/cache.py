"""The port of the answer cache."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorestream.memories import AgentKey


class Cache(Protocol):
    """Answers per agent, valid only within the generation in which their search began.

    An outage of the cache is a miss on the reading side; `invalidate` raises Unavailable, because a write
    that the cache was not told of is not finished.
    """

    async def get(self, agent: AgentKey, key: bytes) -> tuple[bytes | None, bytes]:
        """The answer, or None, and the generation to hand to `put`."""
        ...

    async def put(self, agent: AgentKey, key: bytes, answer: bytes, generation: bytes, ttl_s: float) -> None:
        """Keep an answer at most `ttl_s`; void when the generation is no longer the agent's."""
        ...

    async def invalidate(self, agents: Collection[AgentKey]) -> None:
        """Begin a new generation for each: no answer computed before can be in use any more."""
        ...

    async def clear(self) -> None:
        """Begin a new generation for everything."""
        ...
