"""The AccessTimes in the memory of this process: the newest 100,000, forgotten at exit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from lorestream.ports.accesses import TOUCH_INTERVAL_S

if TYPE_CHECKING:
    from lorestream.memories import Erasure, Memory


class LocalAccessTimes:
    """AccessTimes (lorestream.ports.accesses) for one event loop."""

    def __init__(self, *, max_entries: int = 100_000) -> None:
        """Beyond `max_entries` those that were touched the longest time ago are forgotten; each takes half a kilobyte."""
        self._max_entries = max_entries
        self._entries: OrderedDict[str, tuple[float, Memory]] = OrderedDict()

    async def last(self, memories: Sequence[Memory]) -> Mapping[str, float]:
        """The access times that are known."""
        return {one.id: self._entries[one.id][0] for one in memories if one.id in self._entries}

    async def touch(self, memories: Sequence[Memory], now: float) -> None:
        """Keep the time, unless the last one is newer or less than TOUCH_INTERVAL_S old."""
        for memory in memories:
            known = self._entries.get(memory.id)
            if known is None or now - known[0] >= TOUCH_INTERVAL_S:
                # Only what an erasure asks for is kept of the memory.
                self._entries[memory.id] = (now, structs.replace(memory, text="", metadata={}, pos=None))
                self._entries.move_to_end(memory.id)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def forget(self, erasure: Erasure) -> None:
        """Forget what the erasure covers."""
        for id_ in [id_ for id_, (_, memory) in self._entries.items() if erasure.covers(memory)]:
            del self._entries[id_]
