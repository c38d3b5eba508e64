"""Reading the memories before and behind given ones, in few calls to the engine.

For each memory and each direction the engine returns a few points from the memory's tick on. It does not order points
of the same tick. So where such a page ends inside a tick, all points of that tick are read in the next call, which is
needed for memories that share one time. In process, all memories of an agent or a conversation that has only a few are
read at once instead: that takes as long as some pages.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from lorestream.adapters.qdrant.conditions import Clause, Match, Range, scope_clause
from lorestream.adapters.qdrant.engine import TimePage
from lorestream.adapters.qdrant.exact_filter import matches
from lorestream.adapters.qdrant.payload import TICKS_PER_S, decode_memory, fact_hash, ticks
from lorestream.memories import EVERYTHING, Around, Scope
from lorestream.turns import Turns

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.engine import Engine, Payload
    from lorestream.adapters.qdrant.few import Few, FewMemories
    from lorestream.memories import AroundQuery, Memory

_MARGIN = 2
"""Points to read beyond the neighbours: the memory itself, and one that shows that the tick of the last neighbour ends."""
_MAX_TIED = 256
"""Memories of one tick that are read. Where there are more, none is next to another: reading them takes too long."""
_PAGES = 4
"""So many pages of four take as long as reading a few memories at once."""

_Occasion: TypeAlias = "tuple[str, str, str | int | None]"
"""Tenant, agent and conversation."""


@dataclass(slots=True)
class _Side:
    """One direction from one memory. `found`: what is next to it so far, the nearest first.

    `page`: what is to be read, None at the end. It is a few memories from a tick on, or, as `whole_tick`, all of one.
    """

    query: AroundQuery
    anchor: Memory
    must: tuple[Clause, ...]
    oldest_first: bool
    page: TimePage | None = None
    whole_tick: bool = False
    found: list[Memory] = field(default_factory=list["Memory"])

    def ask(self, tick: int, *, whole_tick: bool = False) -> None:
        """Read the memories of the tick, or some from it on, unless what is needed was found or it is too far."""
        self.page = None
        if len(self.found) >= self.query.span:
            return
        apart_s = abs(tick / TICKS_PER_S - self.anchor.timestamp)
        if apart_s > self.query.gap_s + 1 and self.anchor.conversation is None:
            return
        self.whole_tick = whole_tick
        if whole_tick:
            within = (*self.must, Range("t", gte=tick, lte=tick))
            self.page = TimePage(within, tick, _MAX_TIED + 1, oldest_first=True)
        else:
            self.page = TimePage(self.must, tick, self.query.span + _MARGIN, self.oldest_first)

    def choose(self, occasion: Few) -> None:
        """Take from all memories of the occasion."""
        if self.oldest_first:
            behind = bisect_right(occasion.positions, self.anchor.position)
            self.found = list(occasion.memories[behind : behind + self.query.span])
        else:
            before = bisect_left(occasion.positions, self.anchor.position)
            self.found = list(reversed(occasion.memories[max(0, before - self.query.span) : before]))

    def take(self, page: TimePage, memories: Sequence[Memory]) -> None:
        """Take the memories of the page that was asked for, and ask for what is needed next."""
        self.page = None
        full = len(memories) == page.limit
        if not full:
            self._add(memories)
            if self.whole_tick:
                self.ask(page.start + (1 if self.oldest_first else -1))
        elif not self.whole_tick:
            last = ticks(memories[-1].timestamp)
            self._add([one for one in memories if ticks(one.timestamp) != last])
            self.ask(last, whole_tick=True)

    def _add(self, memories: Sequence[Memory]) -> None:
        here = self.anchor.position
        beyond = [
            one for one in memories if (one.position > here if self.oldest_first else one.position < here)
        ]
        self.found += sorted(beyond, key=lambda one: one.position, reverse=not self.oldest_first)

    def neighbours(self) -> list[Memory]:
        """The next `span` memories, without those of another occasion and those that the filter rejects."""
        anchor, query = self.anchor, self.query
        conversation = anchor.conversation
        return [
            one
            for one in self.found[: query.span]
            if not one.rewound  # since the engine has found it
            and (conversation is not None or abs(one.timestamp - anchor.timestamp) <= query.gap_s)
            and one.conversation == conversation
            and (query.filter is EVERYTHING or matches(query.filter, one))
        ]


async def read_around(
    engine: Engine[Any], few: FewMemories, shown: Sequence[Clause], query: AroundQuery
) -> list[Around]:
    """The memories around each anchor. `shown`: the conditions for memories that may be shown."""
    occasions = [_occasion(anchor) for anchor in query.anchors]
    counted = Counter(occasions)
    clauses = {one: _clauses(one, shown) for one in counted}
    whole = {
        one: found
        for one, anchors in counted.items()
        if 2 * anchors >= _PAGES and (found := await few.of(clauses[one])) is not None
    }
    sides: list[_Side] = []
    for anchor, occasion in zip(query.anchors, occasions, strict=True):
        for oldest_first in (False, True):
            side = _Side(query, anchor, clauses[occasion], oldest_first)
            if occasion in whole:
                side.choose(whole[occasion])
            else:
                side.ask(ticks(anchor.timestamp))
            sides.append(side)
    decoder = _Decoder()
    while wanted := {_key(side.page): side.page for side in sides if side.page is not None}:
        pages = await engine.pages_by_time([*wanted.values()])
        found = {key: await decoder.memories(payloads) for key, payloads in zip(wanted, pages, strict=True)}
        for side in sides:
            if side.page is not None:
                side.take(side.page, found[_key(side.page)])
    chosen = [side.neighbours() for side in sides]
    return [Around(*pair) for pair in zip(chosen[::2], chosen[1::2], strict=True)]


def _key(page: TimePage) -> tuple[int, int, int, bool]:
    """Equal for pages of one call that are equal. Hashing their clauses takes far longer."""
    return (id(page.must), page.start, page.limit, page.oldest_first)


def _occasion(anchor: Memory) -> _Occasion:
    return (anchor.tenant, anchor.agent_id, anchor.conversation)


def _clauses(occasion: _Occasion, shown: Sequence[Clause]) -> tuple[Clause, ...]:
    """The conditions for memories of the same agent, and of the conversation if the occasion is one."""
    tenant, agent_id, conversation = occasion
    agent = scope_clause(Scope(tenant, (agent_id,)))
    if conversation is None:
        return (agent, *shown)
    return (agent, Match("facts", (fact_hash(("metadata", "conversation"), conversation),)), *shown)


class _Decoder:
    """Decodes payloads, each memory once: anchors that are near each other have the same neighbours."""

    def __init__(self) -> None:
        self._memories: dict[str, Memory] = {}
        self._turns = Turns()

    async def memories(self, payloads: Sequence[Payload]) -> list[Memory]:
        """The memories in these payloads."""
        found: list[Memory] = []
        for payload in payloads:
            body = payload["body"]
            if body not in self._memories:
                self._memories[body] = decode_memory(payload)
                await self._turns.next()
            found.append(self._memories[body])
        return found
