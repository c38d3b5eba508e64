"""One receiver of the memories that become findable, from any position in the log on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Self

from lorestream.errors import InvalidToken, Unavailable
from lorestream.push.feed import check_deleted
from lorestream.push.findable import Item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorestream.ports import LogReader
    from lorestream.push.feed import Feed, Receiver
    from lorestream.push.selection import Selection

SLICE_RECORDS = 4096
"""Records of the past that a stream reads from the log before others get their turn."""
AT_ONCE = 100
"""Memories that are passed on at a time, at most."""

_READ_LIMIT = 512
_READ_WAIT_S = 5.0
_RETRY_DELAY_S = 1.0


class MemoryStream:
    """The memories that become findable, each once, in the order of the log within an agent.

    At first it reads what lies between its positions and those of the feed from the log itself; then it receives from
    the feed. A stream that is too slow for the feed reads from the log again. So its memory is bounded.
    """

    def __init__(self, feed: Feed, selection: Selection, positions: Mapping[int, int]) -> None:
        """Use `open`."""
        self.positions = dict(positions)
        """Behind the last item that was taken. Here another stream can go on."""
        self._feed = feed
        self._selection = selection
        self._receiver: Receiver | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, feed: Feed, selection: Selection, positions: Mapping[int, int] | None = None
    ) -> AsyncGenerator[Self]:
        """A stream from these positions on; without any, from now on.

        Raises InvalidToken for positions behind the end of the log, Overloaded, and Unavailable.
        """
        if positions is not None:
            ends = await feed.log.end()
            if any(position > ends.get(partition, 0) for partition, position in positions.items()):
                raise InvalidToken(
                    "the id of this event lies behind the end of the log, which was restored or replaced: begin without"
                    " it",
                    path="Last-Event-ID",
                )
        async with feed.held():
            receiver = feed.join(selection)
            self = cls(feed, selection, receiver.since if positions is None else positions)
            self._receiver = receiver
            try:
                yield self
            finally:
                self._leave()

    def take(self, item: Item) -> None:
        """Note that the item was passed on."""
        self.positions[item.partition] = max(item.position, self.positions.get(item.partition, 0))

    def skip_unwanted(self) -> None:
        """Move the positions past what others received, while nothing waits: who goes on later reads less."""
        receiver = self._receiver
        if receiver is not None and not receiver.waiting and not self._is_behind(receiver):
            for partition, position in self._feed.positions.items():
                self.positions[partition] = max(position, self.positions.get(partition, 0))

    async def lost(self) -> int:
        """How many records from the positions on retention has deleted already. Raises Unavailable."""
        oldest = await self._feed.log.offsets_for_time(0.0)
        return sum(max(0, at - self.positions.get(partition, at)) for partition, (at, _) in oldest.items())

    async def items(self) -> AsyncGenerator[Sequence[Item]]:
        """The memories, AT_ONCE at a time, until the feed is closed. What is yielded counts as taken only by `take`.

        While it reads the past, it also yields empty sequences. An outage is waited for.
        """
        while not self._feed.closed:
            receiver = self._receiver = self._receiver or self._feed.join(self._selection)
            async with contextlib.aclosing(self._past(receiver)) as past:
                async for items in past:
                    for start in range(0, max(1, len(items)), AT_ONCE):
                        yield items[start : start + AT_ONCE]
            async with contextlib.aclosing(self._present(receiver)) as present:
                async for items in present:
                    yield items
            self._leave()

    async def _present(self, receiver: Receiver) -> AsyncGenerator[Sequence[Item]]:
        while not receiver.overflowed and not self._feed.closed:
            await receiver.arrived.wait()
            items = [one for one in self._feed.take(receiver) if self._is_new(one)]
            for start in range(0, len(items), AT_ONCE):
                yield items[start : start + AT_ONCE]

    async def _past(self, receiver: Receiver) -> AsyncGenerator[Sequence[Item]]:
        """What lies between the positions of the stream and those at which the receiver joined."""
        while self._is_behind(receiver) and not receiver.overflowed and not self._feed.closed:
            try:
                async with self._feed.slots:
                    items = await self._slice(receiver.since)
            except Unavailable:
                await asyncio.sleep(_RETRY_DELAY_S)
                continue
            yield items

    def _is_behind(self, receiver: Receiver) -> bool:
        return any(self.positions.get(partition, 0) < end for partition, end in receiver.since.items())

    def _leave(self) -> None:
        if self._receiver is not None:
            self._feed.leave(self._receiver)
            self._receiver = None

    def _is_new(self, item: Item) -> bool:
        return item.position > self.positions.get(item.partition, 0)

    async def _slice(self, target: Mapping[int, int]) -> list[Item]:
        """The memories of about the next SLICE_RECORDS records below the positions `target`. Raises Unavailable."""
        behind = {
            partition: position
            for partition, end in target.items()
            if (position := self.positions.get(partition, 0)) < end
        }
        items: list[Item] = []
        left = SLICE_RECORDS
        async with self._feed.log.reader(behind) as reader:
            for partition, start in behind.items():
                position = start
                while position < target[partition] and left > 0:
                    found, position, count = await self._portion(reader, partition, target[partition])
                    items += [*found, Item(partition, position, None)]
                    left -= count
        return items

    async def _portion(self, reader: LogReader, partition: int, end: int) -> tuple[list[Item], int, int]:
        """The memories of the next records below `end`, the position behind these, and the number of records read."""
        records = await reader.read(partition, limit=_READ_LIMIT, wait_s=_READ_WAIT_S)
        if not records:
            await check_deleted(self._feed.log, partition, end)
            return [], end, 0
        below = [record for record in records if record.offset < end]
        found = await self._feed.findable.memories(below, self._has_agent, self._selection.admits)
        return found, min(end, records[-1].offset + 1), len(records)

    def _has_agent(self, tenant: str, agent_id: str) -> bool:
        agents = self._selection.agents
        return tenant == self._selection.tenant and (agents is None or agent_id in agents)
