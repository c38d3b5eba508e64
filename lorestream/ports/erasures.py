"""The port of the erasure ledger: the erasures of agents and players that were requested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorestream.memories import AgentKey, Erasure, Memory
    from lorestream.ports.rewinds import RewindLedger
    from lorestream.ports.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class ErasureState:
    """An erasure and whether everything that it covers was deleted."""

    erasure: Erasure
    done: bool


class ErasureLedger(Protocol):
    """All erasures, kept longer than the log, and in the memory of every process that writes or reads memories.

    An erasure covers every memory of its subjects with `accepted_at` up to the erasure's own. Writers do not store
    what is covered, readers do not show it, and the indexer deletes it. Of several erasures of one subject, the
    newest covers what the older ones cover.
    """

    @property
    def rewinds(self) -> RewindLedger:
        """The rewinds of servers, which the same file or topic keeps."""
        ...

    @property
    def webhooks(self) -> Webhooks:
        """The webhooks of all tenants, which the same file or topic keeps."""
        ...

    async def add(self, erasure: Erasure) -> None:
        """Store the erasure durably, as not done. Idempotent, by its id.

        When this returns, `covers` takes it into account in this process; other processes learn of it shortly after.
        Raises Unavailable; then it may be stored in part, and the caller has to add it again.
        """
        ...

    def covers(self, memory: Memory) -> bool:
        """Whether any erasure covers this memory. Answers from memory; does not block or raise."""
        ...

    def strip(self, memory: Memory) -> Memory:
        """What stays of a memory that no erasure covers (see `Erasure.strip`). Answers from memory; does not raise."""
        ...

    def covers_state(self, agent: AgentKey, player: str | None, since: float) -> bool:
        """Whether any erasure covers a row of this agent, or an event of its state. Answers from memory.

        `player`: the player that the agent is named after (stored form). `since`: the row's `since`, or the event's time
        of acceptance (Unix seconds).
        """
        ...

    def added_since(self, since: int) -> Sequence[Erasure]:
        """The erasures that this process has learned of, each once, in that order, without the first `since`.

        Erasures that were stored before the ledger was opened may be left out. A caller that counts what it has seen
        gets every later one by passing the count. Answers from memory; does not block or raise.
        """
        ...

    async def mark_done(self, erasure_id: str) -> None:
        """Store durably that everything the erasure covers was deleted. Ignores an unknown id. Raises Unavailable."""
        ...

    async def state(self, erasure_id: str) -> ErasureState | None:
        """The erasure with this id and its state, or None if there is none. Raises Unavailable.

        Finds erasures that another process has added before the call. Kept for at least a year.
        """
        ...

    async def newest(self, tenant: str, limit: int) -> Sequence[ErasureState]:
        """The `limit` newest erasures of a tenant, by their acceptance, the newest first. Raises Unavailable."""
        ...

    async def player_keys(self, new: Mapping[str, str]) -> Mapping[str, str]:
        """The fingerprint of each key for player names by its key id, kept for ever. Raises Unavailable.

        Those of `new` whose key ids are not known are stored durably first. With another key, the erasure of a player
        would cover nothing.
        """
        ...
