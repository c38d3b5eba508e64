"""Which memories a receiver of a stream wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorestream.memories import Memory


@dataclass(frozen=True, slots=True)
class Selection:
    """Memories of one tenant. All that is given must hold; None: any.

    `agents`, `players`: stored forms. Records (`recall` False) are wanted only where `types` names their type, as in reads.
    """

    tenant: str
    agents: frozenset[str] | None = None
    players: frozenset[str] | None = None
    types: frozenset[str] | None = None
    min_importance: float = 0.0

    def admits(self, memory: Memory) -> bool:
        """Whether the memory is wanted."""
        return (
            memory.tenant == self.tenant
            and (self.agents is None or memory.agent_id in self.agents)
            and (self.players is None or memory.player in self.players)
            and (memory.recall if self.types is None else memory.type in self.types)
            and memory.importance >= self.min_importance
        )
