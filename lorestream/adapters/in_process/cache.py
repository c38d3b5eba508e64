"""The Cache in the memory of this process: least recently used (LRU), limited in entries, bytes and agents."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorestream.memories import AgentKey

GENERATION_BYTES = 16

ENTRY_OVERHEAD_BYTES = 300
"""Memory of an entry besides its key and answer, estimated: two dictionary slots and four small objects."""


@dataclass(slots=True)
class _Agent:
    generation: bytes
    keys: set[bytes] = field(default_factory=set[bytes])


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: bytes
    expires_at: float
    """In monotonic seconds."""
    size: int


class LocalCache:
    """A Cache (lorestream.ports.cache) for one event loop.

    An agent that is invalidated or evicted is removed together with its entries. The next `get` gives it a new random
    generation, so an answer that was computed under the old one is not kept.
    """

    def __init__(
        self,
        *,
        max_entries: int = 50_000,
        max_bytes: int = 64 * 1024 * 1024,
        max_agents: int = 100_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """The least recently used entries are evicted beyond `max_entries` or `max_bytes`, agents beyond `max_agents`.

        `monotonic` returns seconds that never go back.
        """
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_agents = max_agents
        self._monotonic = monotonic
        self._agents: OrderedDict[AgentKey, _Agent] = OrderedDict()
        self._entries: OrderedDict[tuple[AgentKey, bytes], _Entry] = OrderedDict()
        self._bytes = 0

    async def get(self, agent: AgentKey, key: bytes) -> tuple[bytes | None, bytes]:
        """The cached answer, or None, and the generation to pass to `put`."""
        known = self._agents.get(agent)
        if known is None:
            known = self._agents[agent] = _Agent(secrets.token_bytes(GENERATION_BYTES))
            if len(self._agents) > self._max_agents:
                self._remove_agent(next(iter(self._agents)))
            return None, known.generation
        self._agents.move_to_end(agent)
        entry = self._entries.get((agent, key))
        if entry is None:
            return None, known.generation
        if entry.expires_at <= self._monotonic():
            self._remove_entry(agent, key)
            return None, known.generation
        self._entries.move_to_end((agent, key))
        return entry.answer, known.generation

    async def put(self, agent: AgentKey, key: bytes, answer: bytes, generation: bytes, ttl_s: float) -> None:
        """Keep an answer for at most `ttl_s` seconds, unless the generation has changed.

        An answer that is larger than the whole cache is not kept.
        """
        known = self._agents.get(agent)
        size = len(key) + len(answer) + ENTRY_OVERHEAD_BYTES
        if known is None or known.generation != generation or ttl_s <= 0 or size > self._max_bytes:
            return
        self._remove_entry(agent, key)
        known.keys.add(key)
        self._entries[agent, key] = _Entry(answer, self._monotonic() + ttl_s, size)
        self._bytes += size
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._remove_entry(*next(iter(self._entries)))

    async def invalidate(self, agents: Collection[AgentKey]) -> None:
        """Remove the generation and the answers of each agent."""
        for agent in agents:
            self._remove_agent(agent)

    async def clear(self) -> None:
        """Remove all generations and answers."""
        self._agents.clear()
        self._entries.clear()
        self._bytes = 0

    @property
    def size(self) -> tuple[int, int, int]:
        """(entries, bytes, agents) in the cache at present."""
        return len(self._entries), self._bytes, len(self._agents)

    def _remove_agent(self, agent: AgentKey) -> None:
        known = self._agents.pop(agent, None)
        if known is not None:
            for key in known.keys:
                self._bytes -= self._entries.pop((agent, key)).size

    def _remove_entry(self, agent: AgentKey, key: bytes) -> None:
        entry = self._entries.pop((agent, key), None)
        if entry is not None:
            self._bytes -= entry.size
            self._agents[agent].keys.discard(key)
