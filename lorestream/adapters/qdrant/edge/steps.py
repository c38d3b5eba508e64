"""Long calls to Edge, divided into steps between which the event loop runs other tasks.

A call to Edge holds the GIL until it returns, so no other thread and no other task runs meanwhile. Its duration grows
with the number of points that it looks at: 25 ms for the vectors of 100,000 memories, half a second for a condition
that reads each payload. Edge can restrict a call to the points whose id has a given hash modulo a number (a slice).
So a call that would take long is made on one slice after the other, and the caller merges the results (`Steps`). Calls
about given points, such as writes, are made for some of the points at a time (`PointSteps`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import qdrant_edge as edge

from lorestream.adapters.qdrant.conditions import Clause, Group, Ids, Match, Range, payload_conditions
from lorestream.adapters.qdrant.edge.messages import Slice, edge_filter, translate_errors

T = TypeVar("T")
R = TypeVar("R")
STEP_S = 0.010
"""CPU seconds that one call may take, apart from finding the slice."""
_WHOLE_S = 0.045
"""A call over indexed conditions that is expected to take at most this long is not divided: one search by meaning over
100,000 memories takes 19 to 24 ms whole, 25 ms in each of 4 slices, 13 ms in each of 16, because a slice finds its points
one by one and reads their vectors from scattered places."""
_SHORT_S = 0.001
"""A call that is expected to be shorter does not wait for the turn of the long ones."""
_FIRST_STEP_S = STEP_S / 8
"""The first step of a call that reads payloads: how long that takes depends on the size of the payloads."""
_PAYLOAD_CONDITION_S = 6e-6
_CONDITION_S = 1.7e-7
"""CPU seconds that a condition takes for a point, where it has to read the payload, and where it has an index. The one of
the scope takes next to nothing: it finds the points."""
_SLICING_S = 6e-8
"""CPU seconds that it takes for a point to find out that it is in another slice."""
_MOST_SLICES = 2**14
_FIRST_POINTS = 16
"""Points of the first step of a process: 6 ms to write those with payloads of 350 KiB."""
_KEPT_COUNTS = 256
_MEASURED_FROM = 16
"""With this many steps, the time for finding a slice is measured first: on a busy machine it is a multiple of the above."""
_SCOPE_KEYS = frozenset({"agent", "tenant", "owner", "group"})
_HALF_HELPS = 0.75
"""A slice of half the size takes at most this part of the time, unless most of it goes into finding the slice."""


class Steps:
    """Makes calls to one shard in steps, one step of all callers in each turn of the event loop."""

    def __init__(self, shard: edge.EdgeShard) -> None:
        self._shard = shard
        self._turn = asyncio.Lock()
        self._counted: dict[Clause, int] = {}

    def points_changed(self) -> None:
        """To be called after each write: how many points the agents have is kept until then."""
        self._counted = {}

    def points(self, must: Sequence[Clause]) -> int:
        """An upper bound of the number of points that meet the clauses; takes some microseconds."""
        named = [len(one.ids) for one in must if isinstance(one, Ids)]
        if named:
            return min(named)
        return min(self._scope_points(one) for one in [one for one in must if _is_scope(one)] or [Group()])

    def exact_points(self, clause: Clause) -> int | None:
        """How many points meet the clause, where an index has the number: those of one agent or tenant. Else None."""
        match clause:
            case Match(_, (_,)) if _is_scope(clause):
                return self._scope_points(clause)
            case _:
                return None

    def _scope_points(self, scope: Clause) -> int:
        if isinstance(scope, Group) and scope.should:  # Edge only estimates how many points a group has
            return sum(map(self._scope_points, scope.should))
        if isinstance(scope, Group) and scope.must:
            return min(map(self._scope_points, scope.must))
        if scope not in self._counted:
            if len(self._counted) == _KEPT_COUNTS:
                self._counted.clear()
            with translate_errors():
                request = edge.CountRequest(filter=edge_filter(scope), exact=False)
                self._counted[scope] = self._shard.count(request)
        return self._counted[scope]

    def _likely_points(self, must: Sequence[Clause]) -> int:
        """About how many points meet the clauses that have an index."""
        indexed = [one for one in must if not payload_conditions([one])]
        with translate_errors():
            estimated = self._shard.count(edge.CountRequest(filter=edge_filter(*indexed), exact=False))
        return min(self.points(must), estimated)

    def expected_s(self, must: Sequence[Clause], *, point_s: float) -> float:
        """About how many CPU seconds a call over these points takes."""
        return self.points(must) * self._point_s(must, point_s)

    async def run(
        self,
        must: Sequence[Clause],
        call: Callable[[Slice | None], T],
        *,
        point_s: float,
        enough: Callable[[T], bool] = lambda _: False,
    ) -> list[T]:
        """Call `call` for slices that together hold all points, or once without a slice; return the results.

        `must`: the conditions of the call, apart from the slice. `point_s`: the CPU seconds that the call takes for a
        point, apart from the conditions. Ends early after a result for which `enough` is true.
        """
        points, point_s = self.points(must), self._point_s(must, point_s)
        if points * point_s < _SHORT_S or (
            any(map(_is_indexed_range, must)) and self._likely_points(must) * point_s < _SHORT_S
        ):
            return [call(None)]
        results: list[T] = []
        slicing_s = points * _SLICING_S
        # Among a million points finding a slice takes longer than a short step: then a step does as much work as that, so
        # that all of them take twice as long as the whole, and not a multiple of it.
        step_s = max(STEP_S, slicing_s)
        wanted = _first_slices(
            points, points * point_s, step_s, reads_payloads=bool(payload_conditions(must))
        )
        if wanted >= _MEASURED_FROM:
            slicing_s = self._measured_slicing_s(must)
            await asyncio.sleep(0)
        long_s = slicing_s + 2 * step_s
        least_s = float("inf")
        halved_s = float("inf")  # the time of the step before, where this one is half as large because of it
        remaining = [(1, 0)]  # (number of slices, index of this one)
        while remaining:
            total, index = remaining.pop()
            if total < wanted:
                # Slice i of n consists of the slices i and i + n of 2 n.
                remaining += [(2 * total, index + total), (2 * total, index)]
                continue
            async with self._turn:
                started = time.thread_time()
                results.append(call(Slice(total, index) if total > 1 else None))
                spent_s = time.thread_time() - started
            least_s = min(least_s, spent_s)
            # The next slice is as large as this one was fast: payloads may be far larger than expected, or smaller.
            if spent_s > _HALF_HELPS * halved_s:
                # Most of the time goes into finding the slice: smaller ones would only be more of them.
                # Finding a slice takes at most as long as the shortest step so far; one slow step of a busy machine
                # must not make all others longer.
                long_s = max(slicing_s, least_s) + 2 * step_s
                wanted, halved_s = total // 2, float("inf")
            elif spent_s > long_s and total < min(points, _MOST_SLICES):
                wanted, halved_s = 2 * total, spent_s
            else:
                halved_s = float("inf")
                if total == wanted and 2 * spent_s - slicing_s <= step_s + slicing_s:
                    wanted = max(1, wanted // 2)
            if enough(results[-1]):
                break
            await asyncio.sleep(0)
        return results

    def _measured_slicing_s(self, must: Sequence[Clause]) -> float:
        """CPU seconds that a call takes to find its slice, measured on one of which next to no point is left."""
        indexed = [one for one in must if not payload_conditions([one])]
        started = time.thread_time()
        with translate_errors():
            self._shard.count(edge.CountRequest(filter=edge_filter(*indexed, within=Slice(_MOST_SLICES, 0))))
        return time.thread_time() - started

    def _point_s(self, must: Sequence[Clause], point_s: float) -> float:
        return (
            point_s
            + payload_conditions(must) * _PAYLOAD_CONDITION_S
            + _count([one for one in must if not _is_scope(one)]) * _CONDITION_S
        )


class PointSteps:
    """Makes calls about given points in steps of as many points as take STEP_S, by what the calls before have taken.

    How long a point takes depends on its payload, which has 1 KiB or 350, and on what the disk and the machine do.
    """

    def __init__(self, most: int, ready: asyncio.Event | None = None) -> None:
        """`most`: points of the largest step. `ready`: each step waits for it."""
        self._most = most
        self._ready = ready
        self._size = min(most, _FIRST_POINTS)

    async def run(self, items: Sequence[T], call: Callable[[Sequence[T]], R]) -> list[R]:
        """Call `call` for all items, some at a time; return the results in order."""
        results: list[R] = []
        start = 0
        while start < len(items):
            if self._ready is not None:
                await self._ready.wait()
            step = items[start : start + self._size]
            started = time.thread_time()
            results.append(call(step))
            spent_s = time.thread_time() - started
            start += len(step)
            if spent_s > STEP_S:
                self._size = max(1, len(step) // 2)
            elif spent_s < STEP_S / 4 and len(step) == self._size:
                self._size = min(self._most, 2 * self._size)
            if start < len(items) or spent_s > _SHORT_S:
                await asyncio.sleep(0)
        return results


def parts_of_scope(must: Sequence[Clause]) -> Sequence[Clause]:
    """Clauses of which each point meets at most one, and one if it meets `must`; none where `must` is not only a scope."""
    match must:
        case [Match(key, values) as scope] if _is_scope(scope):
            # The values of a scope are strings.
            return [Match(key, (str(value),)) for value in dict.fromkeys(values)]
        case [Group((), should, ()) as scope] if _is_scope(scope):
            return [part for one in should for part in parts_of_scope([one]) or [one]]
        case _:
            return []


def _is_scope(clause: Clause) -> bool:
    """Whether the clause is about whose points they are, and nothing else: `conditions.scope_clause`."""
    if isinstance(clause, Group):
        inner = (*clause.must, *clause.should)
        return bool(inner) and not clause.must_not and all(map(_is_scope, inner))
    return isinstance(clause, Match) and clause.key in _SCOPE_KEYS


def _is_indexed_range(clause: Clause) -> bool:
    return isinstance(clause, Range) and not payload_conditions([clause])


def _first_slices(points: int, expected_s: float, step_s: float, *, reads_payloads: bool) -> int:
    """Into how many slices a call over so many points, which is expected to take so long, is divided at first."""
    if not reads_payloads and expected_s <= _WHOLE_S:
        return 1
    wanted, first_s = 1, _FIRST_STEP_S if reads_payloads else step_s
    while expected_s / wanted > first_s and wanted < min(points, _MOST_SLICES):
        wanted *= 2
    return wanted


def _count(clauses: Sequence[Clause]) -> int:
    return sum(
        _count((*one.must, *one.should, *one.must_not)) if isinstance(one, Group) else 1 for one in clauses
    )
