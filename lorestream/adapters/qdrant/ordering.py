"""Reading in the order of memories from an engine that knows it only to the tick."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorestream.adapters.qdrant.conditions import Clause, Range
from lorestream.adapters.qdrant.payload import ticks

if TYPE_CHECKING:
    from lorestream.memories import Memory, Position


@dataclass(frozen=True, slots=True)
class Source:
    """Where an order is read from."""

    first: Callable[..., Awaitable[Sequence[Memory]]]
    """At most so many of those that meet some clauses, by the tick of their time: (limit, *clauses)."""
    every: Callable[[Clause], AsyncIterator[Memory]]
    """All that meet a clause, in no order."""
    admits: Callable[[Memory], bool]
    step: int


async def in_order(source: Source, limit: int, after: Position | None, *, oldest_first: bool) -> list[Memory]:
    """The next `limit` memories in their order, from a source that knows it only to the tick.

    Those that share a tick come in no order, and not in the same one twice; so a tick at which a page
    begins or ends is read whole.
    """
    found: list[Memory] = []
    tick = None if after is None else ticks(after[0])
    while len(found) < limit:
        if tick is not None:
            found += await _of_tick(source, tick, limit - len(found), after, oldest_first=oldest_first)
            after = None
            if len(found) >= limit:
                break
        wanted = limit - len(found) + 1
        beyond: tuple[Clause, ...] = ()
        if tick is not None:
            beyond = (Range("t", gt=tick) if oldest_first else Range("t", lt=tick),)
        batch = whole = await source.first(wanted, *beyond)
        if len(batch) == wanted:
            tick = ticks(batch[-1].timestamp)
            whole = [one for one in batch if ticks(one.timestamp) != tick]
        admitted = [one for one in whole if source.admits(one)]
        found += sorted(admitted, key=lambda one: one.order, reverse=not oldest_first)
        if len(batch) < wanted:
            break
        await asyncio.sleep(0)
    return found[:limit]


async def _of_tick(
    source: Source, tick: int, limit: int, after: Position | None, *, oldest_first: bool
) -> list[Memory]:
    """The first `limit` memories of one tick, strictly after a position."""
    choose = heapq.nsmallest if oldest_first else heapq.nlargest
    best: list[Memory] = []
    async for one in source.every(Range("t", gte=tick, lte=tick)):
        if _follows(one, after, oldest_first=oldest_first) and source.admits(one):
            best.append(one)
        if len(best) >= limit + source.step:
            best = choose(limit, best, key=lambda one: one.order)
    return choose(limit, best, key=lambda one: one.order)


def _follows(one: Memory, position: Position | None, *, oldest_first: bool) -> bool:
    if position is None:
        return True
    return one.order > position if oldest_first else one.order < position
