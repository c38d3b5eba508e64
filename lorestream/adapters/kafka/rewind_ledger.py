"""The rewinds in the erasures topic, for which `KafkaErasureLedger` reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorestream.adapters.in_process.known_rewinds import KnownRewinds
from lorestream.adapters.kafka.erasure_entry import AnyEntry, RewindEntry
from lorestream.ports import RewindState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from lorestream.memories import Memory
    from lorestream.rewinds import Rewind


class KafkaRewinds:
    """A RewindLedger (lorestream.ports.rewinds)."""

    def __init__(
        self,
        write: Callable[[Mapping[bytes, AnyEntry]], Awaitable[None]],
        read_to_end: Callable[[], Awaitable[None]],
    ) -> None:
        """`write`: writes entries until they were read back. `read_to_end`: waits for all that is in the topic by now."""
        self._write = write
        self._read_to_end = read_to_end
        self._known = KnownRewinds()

    def apply(self, entry: RewindEntry) -> None:
        """Take an entry into account that was read from the topic."""
        self._known.put(entry.state())

    async def put(self, rewind: Rewind) -> None:
        """Store a rewind, or its undoing, durably. Raises Unavailable."""
        await self._put(RewindState(rewind, done=False))

    def covers(self, memory: Memory) -> bool:
        """Whether any rewind hides this memory."""
        return self._known.covers(memory)

    def knows(self, tenant: str, server: str) -> bool:
        """Whether that server was ever rewound."""
        return self._known.knows(tenant, server)

    def changed_since(self, since: int) -> Sequence[Rewind]:
        """The changes that this process has read, in order, without the first `since`."""
        return self._known.changed_since(since)

    async def mark_done(self, rewind: Rewind) -> None:
        """Store durably that this change was applied. Raises Unavailable."""
        state = self._known.get(rewind.id)
        if state is not None and state.rewind == rewind:
            await self._put(RewindState(rewind, done=True))

    async def state(self, rewind_id: str) -> RewindState | None:
        """The rewind of that id, or None. Raises Unavailable."""
        if (known := self._known.get(rewind_id)) is not None:
            return known
        await self._read_to_end()
        return self._known.get(rewind_id)

    async def states(self, tenant: str) -> Sequence[RewindState]:
        """All rewinds of a tenant, the newest first. Raises Unavailable."""
        await self._read_to_end()
        return self._known.of_tenant(tenant)

    async def _put(self, state: RewindState) -> None:
        entry = RewindEntry.of(state)
        await self._write({entry.key(): entry})
