"""All rewinds and their states, in memory, and the ledger over them that the adapters share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING

from lorestream.ports import RewindState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lorestream.memories import Memory
    from lorestream.rewinds import Rewind


def merged(known: RewindState | None, arrived: RewindState) -> RewindState:
    """The state of a rewind after `arrived` was read, independent of the order of arrival.

    The last change counts; a change that is done stays done.
    """
    return arrived if known is None else max(known, arrived, key=_rank)


def _rank(state: RewindState) -> tuple[bool, float, bool]:
    return state.rewind.undone_at is not None, state.rewind.changed_at, state.done


class KnownRewinds:
    """Rewinds with their states. `put` adds one, the other methods answer about all."""

    def __init__(self, stored: Iterable[RewindState] = ()) -> None:
        """`stored`: rewinds from before this process, which `changed_since` leaves out."""
        self._states: dict[str, RewindState] = {}
        self._changes: list[Rewind] = []
        self._of_server: dict[tuple[str, str], Sequence[Rewind]] = {}
        self._spans: dict[tuple[str, str], tuple[Sequence[float], Sequence[float]]] = {}
        """(tenant, server) -> the ends of the spans of time that are hidden: (after these, up to these), both rising."""
        for state in stored:
            self.put(state)
        self._changes.clear()

    def put(self, state: RewindState) -> None:
        """Add a rewind, its undoing, or that one of them is done."""
        rewind = state.rewind
        known = self._states.get(rewind.id)
        self._states[rewind.id] = after = merged(known, state)
        if known is not None and known.rewind == after.rewind:
            return
        self._changes.append(after.rewind)
        server = (rewind.tenant, rewind.server)
        every = (each.rewind for each in self._states.values())
        own = [one for one in every if (one.tenant, one.server) == server]
        self._of_server[server] = own
        self._spans[server] = _spans((one.to, one.accepted_at) for one in own if one.undone_at is None)

    def get(self, rewind_id: str) -> RewindState | None:
        """The rewind with this id, or None."""
        return self._states.get(rewind_id)

    def of_tenant(self, tenant: str) -> Sequence[RewindState]:
        """All rewinds of a tenant, the newest first."""
        own = [state for state in self._states.values() if state.rewind.tenant == tenant]
        return sorted(own, key=lambda state: (state.rewind.accepted_at, state.rewind.id), reverse=True)

    def covers(self, memory: Memory) -> bool:
        """Whether any rewind hides this memory."""
        # Fast path: this is called for every memory read or written, and most deployments have no rewinds.
        if not self._spans or (spans := self._spans.get((memory.tenant, memory.server))) is None:
            return False
        after, until = spans
        span = bisect_left(after, memory.accepted_at) - 1
        return span >= 0 and memory.accepted_at <= until[span]

    def replaces(self, old: Memory, new: Memory) -> bool:
        """Whether `new` takes the place of `old`, which has the same id: a rewind hid `old` when `new` was accepted."""
        of_server = self._of_server.get((old.tenant, old.server), ())
        return any(one.hid(old, new.accepted_at) for one in of_server)

    def knows(self, tenant: str, server: str) -> bool:
        """Whether that server was ever rewound."""
        return (tenant, server) in self._of_server

    def changed_since(self, since: int) -> Sequence[Rewind]:
        """The changes, each once, in the order of `put`, without the first `since`."""
        return list(islice(self._changes, since, None)) if len(self._changes) > since else ()


class RewindsInMemory(ABC):
    """A RewindLedger (lorestream.ports.rewinds) that answers from memory. An adapter stores a state by `_write`."""

    def __init__(self, known: KnownRewinds) -> None:
        self._known = known

    @abstractmethod
    async def _write(self, state: RewindState) -> None:
        """Store a state durably, merged with what is stored, and put it into `_known`. Raises Unavailable."""

    async def put(self, rewind: Rewind) -> None:
        """Store a rewind, or its undoing, durably. Raises Unavailable."""
        await self._write(RewindState(rewind, done=False))

    def covers(self, memory: Memory) -> bool:
        """Whether any rewind hides this memory."""
        return self._known.covers(memory)

    def replaces(self, old: Memory, new: Memory) -> bool:
        """Whether `new` takes the place of `old`, which has the same id: a rewind hid `old` when `new` was accepted."""
        return self._known.replaces(old, new)

    def knows(self, tenant: str, server: str) -> bool:
        """Whether that server was ever rewound."""
        return self._known.knows(tenant, server)

    def changed_since(self, since: int) -> Sequence[Rewind]:
        """The changes that this process has learned of, in order, without the first `since`."""
        return self._known.changed_since(since)

    async def mark_done(self, rewind: Rewind) -> None:
        """Store durably that this change was applied. Raises Unavailable."""
        state = self._known.get(rewind.id)
        if state is not None and state.rewind == rewind:
            await self._write(RewindState(rewind, done=True))

    async def state(self, rewind_id: str) -> RewindState | None:
        """The rewind of that id, or None."""
        return self._known.get(rewind_id)

    async def states(self, tenant: str) -> Sequence[RewindState]:
        """All rewinds of a tenant, the newest first."""
        return self._known.of_tenant(tenant)


def _spans(rewinds: Iterable[tuple[float, float]]) -> tuple[Sequence[float], Sequence[float]]:
    """The spans (after, until] as two rising sequences; those that overlap or touch become one."""
    after: list[float] = []
    until: list[float] = []
    for begin, end in sorted(rewinds):
        if until and begin <= until[-1]:
            until[-1] = max(until[-1], end)
        else:
            after.append(begin)
            until.append(end)
    return after, until
