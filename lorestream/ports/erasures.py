"""The port of the erasure ledger: every erasure of an agent or a player that was ever asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorestream.memories import Erasure, Memory


@dataclass(frozen=True, slots=True)
class ErasureState:
    """An erasure as it was asked for, and whether everything that it takes has gone."""

    erasure: Erasure
    done: bool


class ErasureLedger(Protocol):
    """Every erasure that was ever asked for, newest per subject; kept when the log has forgotten."""

    async def add(self, erasure: Erasure) -> None:
        """Remember it durably, as running.

        Adding it again changes nothing; an older one of the same subject takes nothing more. Raises Unavailable.
        """
        ...

    def covers(self, memory: Memory) -> bool:
        """Whether any erasure takes this memory. In memory; never blocks."""
        ...

    def added_since(self, since: int) -> Sequence[Erasure]:
        """Erasures that this process has come to know of, in that order, without the first `since`.

        Each once; of those from before it was opened, perhaps some. In memory; never blocks.
        """
        ...

    async def mark_done(self, erasure_id: str) -> None:
        """Note, durably, that what it takes has gone. Nothing happens for an unknown id. Raises Unavailable."""
        ...

    async def state(self, erasure_id: str) -> ErasureState | None:
        """The erasure of that id, for at least a year after it was asked for. Raises Unavailable."""
        ...
