"""The rewinds in the erasures topic, for which `KafkaErasureLedger` reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorestream.adapters.in_process.known_rewinds import KnownRewinds, RewindsInMemory
from lorestream.adapters.kafka.erasure_entry import AnyEntry, RewindEntry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from lorestream.ports import RewindState


class KafkaRewinds(RewindsInMemory):
    """A RewindLedger (lorestream.ports.rewinds)."""

    def __init__(
        self,
        write: Callable[[Mapping[bytes, AnyEntry]], Awaitable[None]],
        read_to_end: Callable[[], Awaitable[None]],
    ) -> None:
        """`write`: writes entries until they were read back. `read_to_end`: waits for all that is in the topic by now."""
        super().__init__(KnownRewinds())
        self._write_entries = write
        self._read_to_end = read_to_end

    def apply(self, entry: RewindEntry) -> None:
        """Take an entry into account that was read from the topic."""
        self._known.put(entry.state())

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

    async def _write(self, state: RewindState) -> None:
        entry = RewindEntry.of(state)
        await self._write_entries({entry.key(): entry})
