"""Reads the log once per process, and passes the memories that become findable to the receivers of this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Self

import structlog

from lorestream import supervision
from lorestream.errors import LorestreamError, Overloaded, Unavailable
from lorestream.push.findable import Findable, Item

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorestream.memories import Memory
    from lorestream.ports import EventLog, LogReader, Record, WatermarkReader
    from lorestream.push.selection import Selection

MAX_RECEIVERS = 2000
"""How many receivers one process serves."""
MAX_WAITING = 1000
"""Memories that wait for one receiver. With more it reads them from the log again, at its own pace."""
MAX_WAITING_IN_ALL = 20_000
"""Memories that wait for all receivers of the process."""
READ_LIMIT = 256
"""Records of a partition that are read at a time."""
LINGER_S = 30.0
"""How long the log is read on without a receiver: one that connects again soon finds the feed running."""
START_TIMEOUT_S = 5.0
"""How long a receiver waits for the start of the feed."""

_READ_WAIT_S = 5.0
_FINISHED_WAIT_S = 30.0
_CHECK_INTERVAL_S = 5.0
"""How often it is checked whether the log has more partitions, whether reading is stuck, and whether anyone receives."""
_RETRY_DELAY_S = 1.0

_log = structlog.get_logger("lorestream.push")


async def check_deleted(log: EventLog, partition: int, end: int) -> None:
    """Return if retention has deleted all records below `end`. Raises Unavailable if not: then reading is stuck."""
    oldest = await log.offsets_for_time(0.0)
    if partition in oldest and oldest[partition][0] < end:
        raise Unavailable(
            f"no records of partition {partition} arrive, although the log has some: reading begins anew"
        )


class Receiver:
    """What waits for one receiver: `waiting`, from the positions `since` on."""

    def __init__(self, selection: Selection, since: Mapping[int, int]) -> None:
        self.selection = selection
        self.since = dict(since)
        self.waiting = deque[Item]()
        self.overflowed = False
        """More than MAX_WAITING came: nothing waits any more, and nothing will."""
        self.arrived = asyncio.Event()


class Feed:
    """The receivers of a process, and the reader of the log that they share. It reads only while there are receivers.

    Everything up to `positions` is finished, and was passed to the receivers.
    """

    def __init__(self, log: EventLog, watermarks: WatermarkReader, findable: Findable) -> None:
        """Use `open`."""
        self.log = log
        self.findable = findable
        self.closed = False
        self.positions: dict[int, int] = {}
        """The position behind the last record of each partition that was passed on; {} while nothing is read."""
        self.slots = asyncio.Semaphore(4)
        """For reading the past from the log: so many streams do it at a time."""
        self._watermarks = watermarks
        self._by_agent: defaultdict[tuple[str, str], dict[Receiver, None]] = defaultdict(dict)
        self._by_tenant: defaultdict[str, dict[Receiver, None]] = defaultdict(dict)
        """The receivers that want any agent."""
        self._receivers: dict[Receiver, None] = {}
        self._holds = 0
        """How many streams need the feed, with or without a receiver at present."""
        self._needed = asyncio.Event()
        self._reading = asyncio.Event()
        self._waiting = 0
        self._problem: str | None = None
        self._ends: Mapping[int, int] = {}
        self._claimed: dict[int, int] = {}
        """`positions`, with the records whose memories are being looked up: who joins meanwhile does not get these."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, log: EventLog, watermarks: WatermarkReader, findable: Findable
    ) -> AsyncGenerator[Self]:
        """The feed of a process, until the context ends. It reads nothing before the first receiver."""
        self = cls(log, watermarks, findable)
        try:
            async with supervision.restarting(self._run, "feed of memories"):
                yield self
        finally:
            self.close()

    def close(self) -> None:
        """End all streams: a service that stops need not wait for them."""
        self.closed = True
        for receiver in self._receivers:
            receiver.arrived.set()

    # --- receivers -----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Keep the feed reading within this block, which begins when it does.

        Raises Overloaded with MAX_RECEIVERS, and Unavailable when the log cannot be read within START_TIMEOUT_S.
        """
        if self._holds >= MAX_RECEIVERS:
            raise Overloaded(f"this process already serves {MAX_RECEIVERS:,} streams: try another one")
        self._holds += 1
        self._needed.set()
        try:
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await self._reading.wait()
            except TimeoutError:
                raise Unavailable(self._problem or "the log was not read in time: try again") from None
            yield
        finally:
            self._holds -= 1

    def join(self, selection: Selection) -> Receiver:
        """A receiver of everything from now on. Within `held`."""
        receiver = Receiver(selection, self._claimed)
        self._receivers[receiver] = None
        for receivers in self._places(selection):
            receivers[receiver] = None
        return receiver

    def leave(self, receiver: Receiver) -> None:
        """Pass nothing more to the receiver, if it is one."""
        if self._receivers.pop(receiver, receiver) is receiver:
            return
        self._waiting -= len(receiver.waiting)
        for receivers in self._places(receiver.selection):
            receivers.pop(receiver, None)
        tenant = receiver.selection.tenant
        for agent_id in receiver.selection.agents or ():
            if not self._by_agent[tenant, agent_id]:
                del self._by_agent[tenant, agent_id]
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]

    def take(self, receiver: Receiver) -> list[Item]:
        """What waits for the receiver."""
        items = list(receiver.waiting)
        self._waiting -= len(items)
        receiver.waiting.clear()
        receiver.arrived.clear()
        return items

    def _places(self, selection: Selection) -> list[dict[Receiver, None]]:
        if selection.agents is None:
            return [self._by_tenant[selection.tenant]]
        return [self._by_agent[selection.tenant, agent_id] for agent_id in selection.agents]

    def _has_agent(self, tenant: str, agent_id: str) -> bool:
        return tenant in self._by_tenant or (tenant, agent_id) in self._by_agent

    def _receivers_of(self, memory: Memory) -> list[Receiver]:
        candidates = [
            *self._by_tenant.get(memory.tenant, ()),
            *self._by_agent.get((memory.tenant, memory.agent_id), ()),
        ]
        return [one for one in candidates if one.selection.admits(memory)]

    def _pass_on(self, items: Sequence[Item]) -> None:
        for item in items:
            assert item.memory is not None
            for receiver in self._receivers_of(item.memory):
                if item.position <= receiver.since.get(item.partition, 0):
                    continue
                if len(receiver.waiting) >= MAX_WAITING or self._waiting >= MAX_WAITING_IN_ALL:
                    self.take(receiver)
                    self.leave(receiver)
                    receiver.overflowed = True
                else:
                    receiver.waiting.append(item)
                    self._waiting += 1
                receiver.arrived.set()

    # --- reading the log -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._needed.wait()
            try:
                await self._read()
                self._problem = None
            except LorestreamError as error:
                if self._problem != str(error):
                    _log.warning(
                        "the log cannot be read for streams and webhooks, which wait meanwhile",
                        error=str(error),
                    )
                self._problem = str(error)
                await asyncio.sleep(_RETRY_DELAY_S)

    async def _read(self) -> None:
        """Read until nobody receives any more, or the log has more partitions. Raises Unavailable."""
        self._ends = await self.log.end()
        if not self.positions:
            # What was accepted but is not finished yet becomes findable later, so it is part of the feed.
            self.positions = {**self._ends, **await self._watermarks.finished()}
        for partition in self._ends:
            self.positions.setdefault(partition, 0)
        self._claimed = {**self.positions, **self._claimed}
        async with self.log.reader(self.positions) as reader:
            self._reading.set()
            works = {
                f"feed of partition {partition}": self._follow(reader, partition)
                for partition in self.positions
            }
            await supervision.run_together({**works, "check of the feed": self._check()})
        if not self._needed.is_set():
            self.positions, self._claimed = {}, {}

    async def _follow(self, reader: LogReader, partition: int) -> None:
        while True:
            end = self._ends.get(partition, 0)
            records = await reader.read(partition, limit=READ_LIMIT, wait_s=_READ_WAIT_S)
            if records:
                await self._finished(records)
                self._claimed[partition] = records[-1].offset + 1
                self._pass_on(await self.findable.memories(records, self._has_agent, self._is_wanted))
                self.positions[partition] = records[-1].offset + 1
            elif end > self.positions[partition]:
                await check_deleted(self.log, partition, end)
                self._claimed[partition] = self.positions[partition] = end

    async def _finished(self, records: Sequence[Record]) -> None:
        last = records[-1]
        while not await self._watermarks.reached({last.partition: last.offset}, _FINISHED_WAIT_S):
            pass

    def _is_wanted(self, memory: Memory) -> bool:
        return bool(self._receivers_of(memory))

    async def _check(self) -> None:
        """Return when nobody has received for LINGER_S, or when the log has more partitions."""
        idle_s = 0.0
        while not self._ends.keys() - self.positions.keys():
            await asyncio.sleep(_CHECK_INTERVAL_S)
            self._ends = await self.log.end()
            idle_s = 0.0 if self._holds else idle_s + _CHECK_INTERVAL_S
            if idle_s >= LINGER_S:
                self._needed.clear()
                self._reading.clear()
                return
