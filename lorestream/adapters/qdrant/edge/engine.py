"""Qdrant Edge as an engine: Qdrant in this process, with exact search and no graph.

Edge's binding holds the GIL, so a thread would gain nothing: its calls are made on the event loop, in steps of a few
milliseconds between which other tasks run (see steps.py). `optimize()` stops every thread for seconds and is never
called.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import qdrant_edge as edge

from lorestream.adapters.qdrant.conditions import Clause, Group, Ids, Range, payload_conditions
from lorestream.adapters.qdrant.edge.messages import (
    EXACT,
    VECTOR,
    WORDS,
    Slice,
    edge_filter,
    expression,
    nearest_query,
    prefetch,
    sparse_vector,
    translate_errors,
)
from lorestream.adapters.qdrant.edge.pages import Pages
from lorestream.adapters.qdrant.edge.steps import STEP_S, PointSteps, Steps, parts_of_scope
from lorestream.adapters.qdrant.engine import (
    EngineTraits,
    NearestQuery,
    Payload,
    SparseVector,
    Term,
    TimePage,
)
from lorestream.adapters.qdrant.payload import READ_KEYS
from lorestream.adapters.qdrant.row_payload import points_of_space
from lorestream.turns import Turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRAITS = EngineTraits(in_process=True, batch_size=256, tie_margin=1, exact_substrings=True)
_MOST_READ = 64  # points read at once: under 1 ms for the payloads of memories
_MOST_WRITTEN = 64  # points written or removed at once: about 3 ms
_KEPT_ANSWERS = 64

_COMPARE_S = 2.4e-7
_WORDS_S = 1e-7
_ORDER_S = 1e-7
_COUNT_S = 2e-7
_LIST_S = 2e-6
_HIT_S = 5e-6
_PAYLOAD_S = 1e-5
"""CPU seconds for one point: compare its vector, or its words, order it, count it, return its id, order it as a hit, return its
payload. They determine the first step of a call; the further ones are measured."""


class EdgeEngine:
    """An Engine over one shard, which the caller opens and closes."""

    traits = _TRAITS

    def __init__(self, shard: edge.EdgeShard, *, require_space: Callable[[], None] = lambda: None) -> None:
        """`require_space` raises Unavailable when nothing more may be written, because the disk is nearly full."""
        self._shard = shard
        self._require_space = require_space
        self._steps = Steps(shard)
        self._pages = Pages(shard)
        self.writes = 0
        self._answers: dict[tuple[Clause, ...], bool] = {}
        self._writable = asyncio.Event()
        self._writable.set()
        self._read_steps = PointSteps(_MOST_READ)
        self._write_steps = PointSteps(_MOST_WRITTEN, self._writable)
        self._removal_steps = PointSteps(_MOST_WRITTEN, self._writable)
        self.removed = 0
        """Memories removed or replaced since the shard was opened, and rows, which count as often as memories take their
        space. The shard never reuses or frees it."""

    @property
    def paused(self) -> bool:
        """Whether write steps wait for `resume_writes`."""
        return not self._writable.is_set()

    def pause_writes(self) -> None:
        """Let no write step begin until `resume_writes`. No step is running now: each is one call on the event loop."""
        self._writable.clear()

    def resume_writes(self) -> None:
        """Let the waiting write steps begin, in their order."""
        self._writable.set()

    def point(
        self,
        id_: str,
        payload: Mapping[str, Any],
        vector: NDArray[np.float32] | None,
        words: SparseVector | None,
    ) -> edge.Point:
        """A point in Edge's own type."""
        vectors: dict[str, Any] = {} if vector is None else {VECTOR: vector.tolist()}
        if words is not None:
            vectors[WORDS] = sparse_vector(words)
        return edge.Point(id_, vectors, dict(payload))

    async def upsert(
        self,
        points: Sequence[edge.Point],
        *,
        insert_only: bool = False,
        update_only: bool = False,
        replace: Clause | None = None,
    ) -> None:
        """Write points, in steps. With `insert_only`, points that exist are not changed."""
        condition = None if replace is None else edge_filter(replace)
        mode = edge.UpdateMode.InsertOnly if insert_only else edge.UpdateMode.Upsert
        mode = edge.UpdateMode.UpdateOnly if update_only else mode

        def write(step: Sequence[edge.Point]) -> None:
            self._require_space()
            replaced = 0 if insert_only else self._points_of_space([one.id for one in step], condition)
            self._update(
                edge.UpdateOperation.upsert_points(list(step), condition=condition, update_mode=mode)
            )
            self.removed += replaced

        await self._write_steps.run(points, write)

    def _update(self, operation: edge.UpdateOperation) -> None:
        with translate_errors():
            try:
                self._shard.update(operation)
            finally:
                self.writes += 1
                self._answers = {}
                self._steps.points_changed()

    def _points_of_space(self, ids: Sequence[Any], condition: edge.Filter | None = None) -> int:
        """How many memories take about as much space as these points do; only those that meet the condition count.

        Tombstones are not counted: they take almost no space.
        """
        with translate_errors():
            if condition is not None:
                among = _among(ids, condition)
                request = edge.ScrollRequest(limit=len(ids), filter=among, with_payload=READ_KEYS)
                records, _ = self._shard.scroll(request)
            else:
                records = self._shard.retrieve(list(ids), with_payload=READ_KEYS, with_vector=False)
        return sum(points_of_space(record.payload or {}) for record in records)

    async def delete(self, ids: Sequence[str], *, unless: Clause | None = None) -> None:
        """Remove points, in steps."""
        condition = None if unless is None else edge_filter(Group(must_not=(unless,)))

        def remove(step: Sequence[Any]) -> None:
            self._require_space()
            removed = self._points_of_space(step, condition)
            if condition is None:
                self._update(edge.UpdateOperation.delete_points(list(step)))
            else:
                self._update(edge.UpdateOperation.delete_points_by_filter(_among(step, condition)))
            self.removed += removed

        await self._removal_steps.run(ids, remove)

    async def overwrite(self, id_: str, payload: Mapping[str, Any], which: Clause) -> None:
        """Replace the payload of a point that meets the clause: Edge writes it anew."""
        await self._writable.wait()
        self._require_space()
        rewritten = self._points_of_space([id_])
        chosen = edge_filter(Ids(frozenset((id_,))), which)
        self._update(edge.UpdateOperation.overwrite_payload_by_filter(chosen, dict(payload)))
        self.removed += rewritten

    async def remove_key(self, ids: Sequence[str], key: str) -> None:
        """Remove a payload key of points, in steps: Edge writes the whole payload again."""

        def rewrite(step: Sequence[Any]) -> None:
            self._require_space()
            rewritten = self._points_of_space(step)
            known = edge.Filter(must=[edge.HasIdCondition(set(step))])
            self._update(edge.UpdateOperation.delete_payload_by_filter(known, [key]))
            self.removed += rewritten

        await self._write_steps.run(ids, rewrite)

    async def flush(self) -> None:
        """Make every write so far survive a power cut."""
        await self._writable.wait()
        with translate_errors():
            self._shard.flush()

    async def nearest(self, must: Sequence[Clause], near: NearestQuery) -> Sequence[tuple[Payload, float]]:
        """(payload, score) by falling score."""
        return [(point.payload or {}, point.score) for point in await self._hits(must, near, payload=True)]

    async def ranked_ids(
        self,
        must: Sequence[Clause],
        near: NearestQuery,
        *,
        offset: int = 0,
        among: NearestQuery | None = None,
    ) -> Sequence[tuple[str, float]]:
        """(id, score) by falling score, after skipping the first `offset` hits; with `among`, of its hits."""
        points = await self._hits(must, near, offset=offset, among=among)
        return [(str(point.id), point.score) for point in points]

    async def ranked_ids_of(
        self, searches: Sequence[tuple[Sequence[Clause], NearestQuery]]
    ) -> Sequence[Sequence[tuple[str, float]]]:
        """(id, score) by falling score, of each search."""
        return [await self.ranked_ids(must, near) for must, near in searches]

    async def _hits(
        self,
        must: Sequence[Clause],
        near: NearestQuery,
        *,
        payload: bool = False,
        offset: int = 0,
        among: NearestQuery | None = None,
    ) -> list[edge.ScoredPoint]:
        """The hits of a search by falling score, from the slices that it is made on."""
        limit = near.limit + offset
        best: list[edge.ScoredPoint] = []

        def search(within: Slice | None) -> bool:
            if within is None:
                best.extend(self._query(must, near, None, offset=offset, payload=payload, among=among))
                return False
            # What to skip is known when the slices are merged.
            at_least = best[-1].score if len(best) == limit else None
            whole = NearestQuery(near.vector, limit, near.threshold)
            best.extend(self._query(must, whole, within, payload=payload, at_least=at_least, among=among))
            best.sort(key=lambda one: one.score, reverse=True)
            del best[limit:]
            return True

        point_s = _compare_s(near) if among is None else self._prefetch_s(must, among)
        point_s = self._returned_s(must, limit, point_s, _PAYLOAD_S if payload else _LIST_S)
        divided = any(await self._steps.run(must, search, point_s=point_s))
        return best[offset:] if divided else best

    async def rescore(
        self, must: Sequence[Clause], near: NearestQuery, formula: Term, *, limit: int
    ) -> Sequence[tuple[Payload, Sequence[float], float]] | None:
        """Rank the hits of `near` by a formula: (payload, dense vector, value of the formula), highest first.

        None where that would take longer than a step: a formula over slices has no result for the whole.
        """
        if self._steps.expected_s(must, point_s=_COMPARE_S) > STEP_S:
            return None
        request = edge.QueryRequest(
            limit,
            prefetches=[prefetch(near, edge_filter(*must))],
            query=edge.Formula(expression(formula)),
            with_payload=READ_KEYS,
            with_vector=[VECTOR],
        )
        with translate_errors():
            points = self._shard.query(request)
        return [(point.payload or {}, cast("Any", point.vector)[VECTOR], point.score) for point in points]

    async def ordered_by_time(
        self, must: Sequence[Clause], *, limit: int, oldest_first: bool, near: NearestQuery | None = None
    ) -> Sequence[Payload]:
        """The first `limit` points by the payload key `t`; with `near`, only among its hits."""
        if near is None and payload_conditions(must):
            return await self._pages.in_order(must, limit=limit, oldest_first=oldest_first)
        order = edge.OrderBy("t", edge.Direction.Asc if oldest_first else edge.Direction.Desc)
        first: list[tuple[int, Payload]] = []

        def read(within: Slice | None) -> None:
            bound: tuple[Clause, ...] = ()
            if len(first) == limit:  # points behind the last of them are not needed
                tick = first[-1][0]
                bound = (Range("t", lte=tick) if oldest_first else Range("t", gte=tick),)
            filter_ = edge_filter(*must, *bound, within=within)
            if near is None:
                request = edge.QueryRequest(limit, query=order, filter=filter_, with_payload=READ_KEYS)
            else:
                hits = [prefetch(near, filter_)]
                request = edge.QueryRequest(limit, prefetches=hits, query=order, with_payload=READ_KEYS)
            with translate_errors():
                found = self._shard.query(request)
            first.extend((cast("int", point.order_value), point.payload or {}) for point in found)
            if within is not None:
                first.sort(key=lambda one: one[0], reverse=not oldest_first)
                del first[limit:]

        point_s = _ORDER_S if near is None else self._prefetch_s(must, near)
        await self._steps.run(must, read, point_s=self._returned_s(must, limit, point_s))
        return [payload for _, payload in first]

    async def pages_by_time(self, pages: Sequence[TimePage]) -> Sequence[Sequence[Payload]]:
        """The points of each page in its order, one call after the other: a batch of Edge takes as long.

        A call starts at its place in the index of `t` and ends with its last point, so it takes tens of microseconds.
        The payloads take longer than that and lie in several pages, so each is read once, behind the pages. A point
        that is deleted in between is left out.
        """
        keys: list[list[str]] = []
        turns = Turns()
        for page in pages:
            direction = edge.Direction.Asc if page.oldest_first else edge.Direction.Desc
            request = edge.QueryRequest(
                page.limit,
                query=edge.OrderBy("t", direction, page.start),
                filter=edge_filter(*page.must),
                with_payload=False,
            )
            with translate_errors():
                keys.append([str(point.id) for point in self._shard.query(request)])
            await turns.next()
        payloads = await self.retrieve(list(dict.fromkeys(key for page in keys for key in page)))
        return [[payloads[key] for key in page if key in payloads] for page in keys]

    async def scroll(
        self, must: Sequence[Clause], *, limit: int, after: str | None, with_payload: bool = True
    ) -> tuple[Sequence[tuple[str, Payload]], str | None]:
        """One page of (id, payload) by id, starting at the id `after`; and the id of the next page."""
        request = edge.ScrollRequest(
            offset=after,
            limit=limit,
            filter=edge_filter(*must),
            with_payload=READ_KEYS if with_payload else False,
        )
        with translate_errors():
            records, offset = self._shard.scroll(request)
        found = [(str(record.id), record.payload or {}) for record in records]
        return found, None if offset is None else str(offset)

    def scan(self, must: Sequence[Clause]) -> AsyncGenerator[tuple[str, Payload]]:
        """(id, payload) of all points that meet the clauses, read page by page."""
        return self._pages.scan(must)

    def payloads(self, must: Sequence[Clause]) -> AsyncGenerator[Sequence[Payload]]:
        """The payloads of all points that meet the clauses, read page by page."""
        return self._pages.payloads(must)

    async def exists(self, must: Sequence[Clause]) -> bool:
        """True if at least one point meets the clauses. The last answers are kept until the next write.

        The searches of one batch ask the same, and each of them asks twice.
        """

        def any_in(within: Slice | None) -> bool:
            request = edge.ScrollRequest(
                limit=1, filter=edge_filter(*must, within=within), with_payload=False
            )
            with translate_errors():
                records, _ = self._shard.scroll(request)
            return bool(records)

        asked, answers = tuple(must), self._answers
        if asked in answers:
            return answers[asked]
        # With an index for each condition, the first point is found without looking at the others.
        found = [any_in(None)] if not payload_conditions(must) else []
        found = found or await self._steps.run(must, any_in, point_s=_COUNT_S, enough=bool)
        if len(answers) == _KEPT_ANSWERS:
            answers.clear()
        answers[asked] = any(found)  # if a write came in between, nobody reads these answers any more
        return answers[asked]

    async def retrieve(
        self, ids: Sequence[str], keys: Sequence[str] = READ_KEYS, *, agents: frozenset[str] | None = None
    ) -> Mapping[str, Payload]:
        """The payloads of the points that exist, by id, read in steps. There is one shard, so `agents` is not needed."""
        del agents
        found: dict[str, Payload] = {}

        def read(step: Sequence[Any]) -> None:
            with translate_errors():
                records = self._shard.retrieve(list(step), with_payload=list(keys), with_vector=False)
            found.update((str(record.id), record.payload or {}) for record in records)

        await self._read_steps.run(ids, read)
        return found

    async def vectors(self, ids: Sequence[str]) -> Mapping[str, tuple[Payload, Sequence[float]]]:
        """(payload, vector) of the points that have a vector, by id, read in steps."""
        found: dict[str, tuple[Payload, Sequence[float]]] = {}

        def read(step: Sequence[Any]) -> None:
            with translate_errors():
                records = self._shard.retrieve(list(step), with_payload=READ_KEYS, with_vector=[VECTOR])
            for record in records:
                vectors = cast("Any", record.vector) or {}
                if VECTOR in vectors:
                    found[str(record.id)] = (record.payload or {}, vectors[VECTOR])

        await self._read_steps.run(ids, read)
        return found

    async def count(self, must: Sequence[Clause]) -> int:
        """The number of points that meet all clauses. An index knows how many an agent or a tenant has."""
        parts = parts_of_scope(must)
        if not parts:
            return await self._count(must)
        known = [self._steps.exact_points(one) for one in parts]
        return sum(
            [
                await self._count([part]) if number is None else number
                for part, number in zip(parts, known, strict=True)
            ]
        )

    async def _count(self, must: Sequence[Clause]) -> int:
        def count(within: Slice | None) -> int:
            with translate_errors():
                return self._shard.count(edge.CountRequest(filter=edge_filter(*must, within=within)))

        return sum(await self._steps.run(must, count, point_s=_COUNT_S))

    async def most_points(self, must: Sequence[Clause]) -> int:
        """An upper bound of `count`, from the number of points of the agents or tenants in the clauses."""
        return self._steps.points(must)

    async def value_counts(self, key: str, must: Sequence[Clause]) -> Sequence[tuple[str, int]]:
        """(value of an indexed keyword key, how many points have it), in one call.

        Without conditions it takes 2 microseconds for each value, with some 0.1 for each point that meets them. It is not
        divided: a slice finds its points one by one, so each of them takes as long as the whole.
        """
        most = max(1, self._steps.points(must))
        # On one segment, which is all that an unoptimized shard has, this count is exact, 20 times as fast.
        request = edge.FacetRequest(key, most, exact=False, filter=edge_filter(*must))
        with translate_errors():
            return [(str(hit.value), hit.count) for hit in self._shard.facet(request).hits]

    def _query(
        self,
        must: Sequence[Clause],
        near: NearestQuery,
        within: Slice | None,
        *,
        offset: int = 0,
        payload: bool = False,
        at_least: float | None = None,
        among: NearestQuery | None = None,
    ) -> Sequence[edge.ScoredPoint]:
        """One search in one slice. `at_least`: hits with a lower score are not needed."""
        threshold = near.threshold
        if at_least is not None:
            below = float(np.nextafter(np.float32(at_least), np.float32(-np.inf)))
            threshold = below if threshold is None else max(threshold, below)
        filter_ = edge_filter(*must, within=within)
        request = edge.QueryRequest(
            near.limit,
            offset=offset,
            query=nearest_query(near),
            prefetches=None if among is None else [prefetch(among, filter_)],
            filter=filter_ if among is None else None,
            score_threshold=threshold,
            with_payload=READ_KEYS if payload else False,
            params=EXACT,
        )
        with translate_errors():
            return self._shard.query(request)

    def _returned_s(
        self, must: Sequence[Clause], limit: int, point_s: float, returned_s: float = _PAYLOAD_S
    ) -> float:
        """`point_s`, with the time that returning `limit` points takes, spread over all points."""
        points = max(1, self._steps.points(must))
        return point_s + returned_s * min(limit, points) / points

    def _prefetch_s(self, must: Sequence[Clause], near: NearestQuery) -> float:
        """CPU seconds for one point that it takes to find the hits of `near` and to rank them again."""
        return self._returned_s(must, near.limit, _compare_s(near), _HIT_S)


def _compare_s(near: NearestQuery) -> float:
    return _WORDS_S if isinstance(near.vector, SparseVector) else _COMPARE_S


def _among(ids: Sequence[Any], condition: edge.Filter) -> edge.Filter:
    """Those of the points with these ids that meet the condition."""
    return edge.Filter(must=[edge.HasIdCondition(set(ids)), condition])
