"""The port of the rewind ledger, a part of the erasure ledger: which servers were rewound, and to when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorestream.memories import Memory
    from lorestream.rewinds import Rewind


@dataclass(frozen=True, slots=True)
class RewindState:
    """A rewind, and whether its last change (its beginning, or its undoing) was applied to the store."""

    rewind: Rewind
    done: bool


class RewindLedger(Protocol):
    """All rewinds, kept longer than the log, and in the memory of every process that writes or reads memories.

    Writers store what a rewind covers as rewound, readers do not show it, and the indexer sets it aside in the store.
    """

    async def put(self, rewind: Rewind) -> None:
        """Store a rewind, or its undoing, durably, as not done. Idempotent.

        A rewind that was undone stays undone, and of several undoings the last counts, in whatever order they arrive.
        When this returns, `covers` takes it into account in this process; other processes learn of it shortly after.
        Raises Unavailable.
        """
        ...

    def covers(self, memory: Memory) -> bool:
        """Whether any rewind hides this memory. Answers from memory; does not block or raise."""
        ...

    def replaces(self, old: Memory, new: Memory) -> bool:
        """Whether `new` takes the place of `old`, which has the same id: a rewind hid `old` when `new` was accepted.

        The answer stays the same when the rewind is undone. Answers from memory; does not block or raise.
        """
        ...

    def knows(self, tenant: str, server: str) -> bool:
        """Whether that server was ever rewound. Answers from memory."""
        ...

    def changed_since(self, since: int) -> Sequence[Rewind]:
        """The changes that this process has learned of, each once, in that order, without the first `since`.

        Changes that were stored before the ledger was opened may be left out. A caller that counts what it has seen
        gets every later one by passing the count. Answers from memory; does not block or raise.
        """
        ...

    async def mark_done(self, rewind: Rewind) -> None:
        """Store durably that this change was applied. Ignores one that is not the last of its rewind. Raises Unavailable."""
        ...

    async def state(self, rewind_id: str) -> RewindState | None:
        """The rewind with this id, or None. Finds one that another process has put before the call. Raises Unavailable."""
        ...

    async def states(self, tenant: str) -> Sequence[RewindState]:
        """All rewinds of a tenant, the newest first. Raises Unavailable."""
        ...
