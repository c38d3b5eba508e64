"""Reading memories in their total order (`Memory.position`) from an engine that orders only by tick."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from lorestream.adapters.qdrant.conditions import Clause, Range
from lorestream.adapters.qdrant.payload import ticks
from lorestream.turns import Turns

if TYPE_CHECKING:
    from lorestream.memories import Memory, Position

_GROWTH = 4
_MAX_READ = 4096
"""Memories that one call reads for a page that is smaller."""


@dataclass(frozen=True, slots=True)
class OrderedSource:
    """The calls through which memories are read in order."""

    read_by_tick: Callable[..., Awaitable[Sequence[Memory]]]
    """(limit, *clauses): at most `limit` memories that meet the clauses, ordered by the tick of their time."""
    read_all: Callable[[Clause], AsyncIterator[Memory]]
    """All memories that meet a clause, in no defined order."""
    matches: Callable[[Memory], bool]
    """False for a memory that the engine returned although the filter does not match it."""
    batch_size: int


def in_order(
    memories: Sequence[Memory],
    matches: Callable[[Memory], bool],
    limit: int,
    after: Position | None,
    *,
    oldest_first: bool,
) -> list[Memory]:
    """What `read_in_order` returns, of memories that are all there are, the oldest first."""
    ordered = memories if oldest_first else reversed(memories)
    found = (one for one in ordered if _is_after(one, after, oldest_first=oldest_first) and matches(one))
    return list(islice(found, limit))


async def read_in_order(
    source: OrderedSource, limit: int, after: Position | None, *, oldest_first: bool
) -> list[Memory]:
    """The next `limit` memories in their total order, strictly after a position (None: from the start).

    The engine returns memories of the same tick in an undefined order that may differ between calls. So a tick in
    which a page begins or ends is read completely and sorted here. Where `source.matches` rejects memories, each
    further call reads four times as many.
    """
    found: list[Memory] = []
    factor = 1
    turns = Turns()
    tick = None if after is None else ticks(after[0])
    while len(found) < limit:
        if tick is not None:
            found += await _read_tick(source, tick, limit - len(found), after, oldest_first=oldest_first)
            after = None
            if len(found) >= limit:
                break
        wanted = max(limit - len(found) + 1, min(_MAX_READ, factor * (limit - len(found) + 1)))
        factor *= _GROWTH
        later: tuple[Clause, ...] = ()
        if tick is not None:
            later = (Range("t", gt=tick) if oldest_first else Range("t", lt=tick),)
        batch = complete = await source.read_by_tick(wanted, *later)
        if len(batch) == wanted:
            # The batch may end inside a tick: leave that tick to the next round.
            tick = ticks(batch[-1].timestamp)
            complete = [one for one in batch if ticks(one.timestamp) != tick]
        matching: list[Memory] = []
        for one in complete:
            if source.matches(one):
                matching.append(one)
            await turns.next()
        found += sorted(matching, key=lambda one: one.position, reverse=not oldest_first)
        if len(batch) < wanted:
            break
        await asyncio.sleep(0)
    return found[:limit]


async def _read_tick(
    source: OrderedSource, tick: int, limit: int, after: Position | None, *, oldest_first: bool
) -> list[Memory]:
    """The first `limit` memories of one tick, strictly after a position."""
    choose = heapq.nsmallest if oldest_first else heapq.nlargest
    best: list[Memory] = []
    async for one in source.read_all(Range("t", gte=tick, lte=tick)):
        if _is_after(one, after, oldest_first=oldest_first) and source.matches(one):
            best.append(one)
        if len(best) >= limit + source.batch_size:
            best = choose(limit, best, key=lambda one: one.position)
    return choose(limit, best, key=lambda one: one.position)


def _is_after(one: Memory, position: Position | None, *, oldest_first: bool) -> bool:
    if position is None:
        return True
    return one.position > position if oldest_first else one.position < position
