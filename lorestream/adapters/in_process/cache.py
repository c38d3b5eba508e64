"""A cache of answers in this process: least recently used out first, bounded in entries, bytes and agents."""

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
"""What an entry takes beside its key and its answer: two dictionary slots and four small objects, about."""


@dataclass(slots=True)
class _Agent:
    generation: bytes
    keys: set[bytes] = field(default_factory=set[bytes])


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: bytes
    dies_at: float
    size: int


class LocalCache:
    """A Cache within one event loop.

    An agent that is invalidated, or pushed out by others, is forgotten together with its entries; who asks for
    it next makes a new random generation. So an answer of a forgotten generation never meets an equal one.
    """

    def __init__(
        self,
        *,
        max_entries: int = 50_000,
        max_bytes: int = 64 * 1024 * 1024,
        max_agents: int = 50_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`monotonic` gives seconds that never go back."""
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_agents = max_agents
        self._monotonic = monotonic
        self._agents: OrderedDict[AgentKey, _Agent] = OrderedDict()
        self._entries: OrderedDict[tuple[AgentKey, bytes], _Entry] = OrderedDict()
        self._bytes = 0

    async def get(self, agent: AgentKey, key: bytes) -> tuple[bytes | None, bytes]:
        """The answer, or None, and the generation to hand to `put`."""
        known = self._agents.get(agent)
        if known is None:
            known = self._agents[agent] = _Agent(secrets.token_bytes(GENERATION_BYTES))
            if len(self._agents) > self._max_agents:
                self._forget(next(iter(self._agents)))
            return None, known.generation
        self._agents.move_to_end(agent)
        entry = self._entries.get((agent, key))
        if entry is None:
            return None, known.generation
        if entry.dies_at <= self._monotonic():
            self._drop(agent, key)
            return None, known.generation
        self._entries.move_to_end((agent, key))
        return entry.answer, known.generation

    async def put(self, agent: AgentKey, key: bytes, answer: bytes, generation: bytes, ttl_s: float) -> None:
        """Keep an answer at most `ttl_s` seconds; void when the generation is no longer the agent's.

        One that is larger than the whole cache is not kept.
        """
        known = self._agents.get(agent)
        size = len(key) + len(answer) + ENTRY_OVERHEAD_BYTES
        if known is None or known.generation != generation or ttl_s <= 0 or size > self._max_bytes:
            return
        self._drop(agent, key)
        known.keys.add(key)
        self._entries[agent, key] = _Entry(answer, self._monotonic() + ttl_s, size)
        self._bytes += size
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._drop(*next(iter(self._entries)))

    async def invalidate(self, agents: Collection[AgentKey]) -> None:
        """Begin a new generation for each."""
        for agent in agents:
            self._forget(agent)

    async def clear(self) -> None:
        """Begin a new generation for everything."""
        self._agents.clear()
        self._entries.clear()
        self._bytes = 0

    @property
    def size(self) -> tuple[int, int, int]:
        """(entries, bytes, agents) held at present."""
        return len(self._entries), self._bytes, len(self._agents)

    def _forget(self, agent: AgentKey) -> None:
        known = self._agents.pop(agent, None)
        if known is not None:
            for key in known.keys:
                self._bytes -= self._entries.pop((agent, key)).size

    def _drop(self, agent: AgentKey, key: bytes) -> None:
        entry = self._entries.pop((agent, key), None)
        if entry is not None:
            self._bytes -= entry.size
            self._agents[agent].keys.discard(key)
