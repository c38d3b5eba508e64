"""The fold of the log: which memories a store must and may hold. Tests compare the result of the workers with it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lorestream import events
from lorestream.memories import Erasure, Memory, PageQuery, Scope
from lorestream.ports import EventLog, Record, VectorStore

MEGABYTE = 2**20
PAGE = 1000


class _Listener:
    """A RebalanceListener that ignores rebalances."""

    async def assigned(self, positions: Mapping[int, int]) -> None:
        """Called at the start, with every partition."""

    async def revoked(self, partitions: Collection[int]) -> None:
        """Called at the end."""


@dataclass
class Fold:
    """The state after all records of the log, whatever their order."""

    puts: dict[str, list[events.Put]] = field(default_factory=dict)
    """memory id -> every event with that id."""
    deleted: set[str] = field(default_factory=set)
    erasures: list[Erasure] = field(default_factory=list)
    unreadable: int = 0
    records: int = 0

    def add(self, record: Record) -> None:
        self.records += 1
        try:
            envelope = events.decode(record)
        except events.Unreadable:
            self.unreadable += 1
            return
        match envelope:
            case events.Put():
                self.puts.setdefault(envelope.memory_id, []).append(envelope)
            case events.Delete():
                self.deleted.add(envelope.memory_id)
            case events.Erase():
                self.erasures.append(envelope.erasure())

    def required(self, now: float) -> set[str]:
        """The ids of memories that must be in the store."""
        return {one for one, puts in self.puts.items() if all(self._lives(put, now) for put in puts)}

    def allowed(self, now: float) -> set[str]:
        """The ids of memories that may be in the store: whether an id makes a memory again after an erasure is not promised."""
        return {one for one, puts in self.puts.items() if any(self._lives(put, now) for put in puts)}

    def _lives(self, put: events.Put, now: float) -> bool:
        return (
            put.memory_id not in self.deleted
            and (put.expires_at is None or put.expires_at > now)
            and not any(erasure.covers(put.memory("")) for erasure in self.erasures)
        )


async def fold(log: EventLog, group: str) -> Fold:
    """The fold of all records that are in the log now, read as the only member of `group`."""
    ends = await log.end()
    total = Fold()
    missing = {partition: end for partition, end in ends.items() if end > 0}
    async with asyncio.timeout(120), log.subscribe(group, _Listener()) as member:
        while missing:
            for record in await member.read(limit=1000, max_bytes=8 * MEGABYTE, wait_s=1):
                total.add(record)
                if record.offset + 1 >= missing.get(record.partition, 0):
                    missing.pop(record.partition, None)
    return total


async def stored(store: VectorStore, now: float, tenant: str = "default") -> list[Memory]:
    """All memories of a tenant, read by `page`."""
    found: list[Memory] = []
    after = None
    while True:
        page = await store.page(PageQuery(Scope(tenant), PAGE, now, oldest_first=True, after=after))
        found += page
        if len(page) < PAGE:
            return found
        after = page[-1].position


def differences(truth: Fold, found: list[Memory], accepted: Mapping[str, str], now: float) -> list[str]:
    """Lost, doubled or unexpected memories of a store, as sentences. `accepted`: memory id -> text of accepted events."""
    ids = [memory.id for memory in found]
    texts = {memory.id: memory.text for memory in found}
    required, allowed = truth.required(now), truth.allowed(now)
    wrong = (
        [f"{one} is in the store twice" for one in {one for one in ids if ids.count(one) > 1}]
        if (len(ids) != len(texts))
        else []
    )
    wrong += [f"{one} is in the log and not in the store" for one in required - texts.keys()]
    wrong += [f"{one} is in the store and should not be" for one in texts.keys() - allowed]
    wrong += [f"{one} was accepted and is not in the log" for one in accepted.keys() - truth.puts.keys()]
    wrong += [
        f"{one} was accepted and reads {texts.get(one)!r}"
        for one in accepted.keys() & texts.keys()
        if texts.get(one) != accepted[one]
    ]
    return wrong


async def level(log: EventLog, group: str, within_s: float = 60.0) -> None:
    """Wait until the group has committed everything that is in the log. Fails after `within_s` seconds."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        ends, committed = await log.end(), await log.committed(group)
        if all(committed.get(partition, 0) >= end for partition, end in ends.items()):
            return
        assert asyncio.get_running_loop().time() < deadline, f"behind: {committed} of {ends}"
        await asyncio.sleep(0.2)
