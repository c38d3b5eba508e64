"""The port of the cache of search answers."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorestream.memories import AgentKey


class Cache(Protocol):
    """Encoded answers per agent. Every agent has a generation: random bytes that change whenever it is invalidated.

    A reader calls `get`, computes the answer on a miss, and calls `put` with the generation from `get`. When the agent
    was invalidated in between, the generations differ, and the answer, which may miss the newest writes, is not
    kept. An adapter may evict any entry at any time. If it evicts the generation of an agent, it must drop the agent's
    entries too and give it a new generation, which equals no earlier one (16 random bytes; not a counter).
    """

    async def get(self, agent: AgentKey, key: bytes) -> tuple[bytes | None, bytes]:
        """The cached answer, or None, and the agent's generation.

        Does not raise in an outage: it returns None and a generation that no `put` will match. May wait for the
        backend, but only as long as a search can afford (80 ms in Redis).
        """
        ...

    async def put(self, agent: AgentKey, key: bytes, answer: bytes, generation: bytes, ttl_s: float) -> None:
        """Keep `answer` for at most `ttl_s` seconds. Does nothing when `generation` is not the agent's any more.

        Does not raise in an outage, and may drop the answer (an outage, too large, `ttl_s` not positive).
        """
        ...

    async def invalidate(self, agents: Collection[AgentKey]) -> None:
        """Give each agent a new generation. When this returns, `get` returns no answer computed before, in any process.

        Idempotent. Raises Unavailable; then some of the agents may be invalidated, and the caller has to repeat
        it, because a write counts as finished only after its agents were invalidated.
        """
        ...

    async def clear(self) -> None:
        """Invalidate all agents. Raises Unavailable; then some may be invalidated."""
        ...
