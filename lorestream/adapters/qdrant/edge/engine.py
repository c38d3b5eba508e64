"""Qdrant Edge as an engine: Qdrant in this process, with exact search and no graph.

Edge's binding holds the GIL, so a thread would gain nothing: its calls are made on the event loop, in steps of a few
milliseconds between which other tasks run. `optimize()` stops every thread for seconds and is never called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import qdrant_edge as edge

from lorestream.adapters.qdrant.conditions import Clause, Empty, Group, Match, Range, Substring
from lorestream.adapters.qdrant.engine import (
    AbsoluteValue,
    Constant,
    EngineTraits,
    ExponentialDecay,
    NearestQuery,
    Negation,
    Payload,
    Product,
    SparseVector,
    Sum,
    Term,
    Variable,
)
from lorestream.adapters.qdrant.payload import READ_KEYS
from lorestream.errors import Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VECTOR = "dense"
WORDS = "words"
"""The names of the vectors."""

_TRAITS = EngineTraits(in_process=True, batch_size=256, tie_margin=1, exact_substrings=True)
_WRITE_STEP = 64  # points written at once: about 3 ms
_EXACT = edge.SearchParams(exact=True)
_MODES = {True: edge.UpdateMode.InsertOnly, False: edge.UpdateMode.Upsert}


class EdgeEngine:
    """An Engine over one shard, which the caller opens and closes."""

    traits = _TRAITS

    def __init__(self, shard: edge.EdgeShard, *, require_space: Callable[[], None] = lambda: None) -> None:
        """`require_space` raises Unavailable when nothing more may be written, because the disk is nearly full."""
        self._shard = shard
        self._require_space = require_space
        self._writable = asyncio.Event()
        self._writable.set()
        self.removed = 0
        """Memories removed or replaced since the shard was opened. The shard never reuses or frees their space."""

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
            vectors[WORDS] = _sparse(words)
        return edge.Point(id_, vectors, dict(payload))

    async def upsert(self, points: Sequence[edge.Point], *, insert_only: bool) -> None:
        """Write points, in steps of 64. With `insert_only`, points that exist are not changed."""
        for start in range(0, len(points), _WRITE_STEP):
            step = list(points[start : start + _WRITE_STEP])
            await self._writable.wait()
            self._require_space()
            replaced = 0 if insert_only else self._memories_among([one.id for one in step])
            with translate_errors():
                self._shard.update(edge.UpdateOperation.upsert_points(step, update_mode=_MODES[insert_only]))
            self.removed += replaced
            await asyncio.sleep(0)

    def _memories_among(self, ids: Sequence[Any]) -> int:
        """How many of these points are memories. Tombstones are not counted: they take almost no space."""
        with translate_errors():
            records = self._shard.retrieve(list(ids), with_payload=READ_KEYS, with_vector=False)
        return sum("body" in (record.payload or {}) for record in records)

    async def delete(self, ids: Sequence[str]) -> None:
        """Remove points, in one step."""
        await self._writable.wait()
        self._require_space()
        removed = self._memories_among(ids)
        with translate_errors():
            self._shard.update(edge.UpdateOperation.delete_points(list(ids)))
        self.removed += removed

    async def flush(self) -> None:
        """Make every write so far survive a power cut."""
        await self._writable.wait()
        with translate_errors():
            self._shard.flush()

    async def nearest(self, must: Sequence[Clause], near: NearestQuery) -> Sequence[tuple[Payload, float]]:
        """(payload, score) by falling score."""
        request = edge.QueryRequest(
            near.limit,
            query=_nearest(near),
            filter=edge_filter(*must),
            score_threshold=near.threshold,
            with_payload=READ_KEYS,
            params=_EXACT,
        )
        with translate_errors():
            points = self._shard.query(request)
        return [(point.payload or {}, point.score) for point in points]

    async def scores(self, must: Sequence[Clause], near: NearestQuery, *, offset: int) -> Sequence[float]:
        """Only the scores of `nearest`, after skipping the first `offset` hits."""
        request = edge.QueryRequest(
            near.limit,
            offset=offset,
            query=_nearest(near),
            filter=edge_filter(*must),
            score_threshold=near.threshold,
            params=_EXACT,
        )
        with translate_errors():
            return [point.score for point in self._shard.query(request)]

    async def rescore(
        self, must: Sequence[Clause], near: NearestQuery, formula: Term, *, limit: int
    ) -> Sequence[tuple[Payload, Sequence[float], float]]:
        """Rank the hits of `near` by a formula: (payload, dense vector, value of the formula), highest first."""
        request = edge.QueryRequest(
            limit,
            prefetches=[_prefetch(near, edge_filter(*must))],
            query=edge.Formula(_expression(formula)),
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
        filter_ = edge_filter(*must)
        order = edge.OrderBy("t", edge.Direction.Asc if oldest_first else edge.Direction.Desc)
        if near is None:
            request = edge.QueryRequest(limit, query=order, filter=filter_, with_payload=READ_KEYS)
        else:
            prefetches = [_prefetch(near, filter_)]
            request = edge.QueryRequest(limit, prefetches=prefetches, query=order, with_payload=READ_KEYS)
        with translate_errors():
            points = self._shard.query(request)
        return [point.payload or {} for point in points]

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

    async def retrieve(self, ids: Sequence[str]) -> Mapping[str, Payload]:
        """The payloads of the points that exist, by id, read in steps."""
        found: dict[str, Payload] = {}
        for start in range(0, len(ids), _TRAITS.batch_size):
            with translate_errors():
                records = self._shard.retrieve(
                    list(ids[start : start + _TRAITS.batch_size]), with_payload=READ_KEYS, with_vector=False
                )
            found |= {str(record.id): record.payload or {} for record in records}
            if len(ids) > _TRAITS.batch_size:
                await asyncio.sleep(0)
        return found

    async def vectors(self, ids: Sequence[str]) -> Mapping[str, tuple[Payload, Sequence[float]]]:
        """(payload, vector) of the points that have a vector, by id, read in steps."""
        found: dict[str, tuple[Payload, Sequence[float]]] = {}
        for start in range(0, len(ids), _WRITE_STEP):
            with translate_errors():
                records = self._shard.retrieve(
                    list(ids[start : start + _WRITE_STEP]), with_payload=READ_KEYS, with_vector=[VECTOR]
                )
            for record in records:
                vectors = cast("Any", record.vector) or {}
                if VECTOR in vectors:
                    found[str(record.id)] = (record.payload or {}, vectors[VECTOR])
            await asyncio.sleep(0)
        return found

    async def count(self, must: Sequence[Clause]) -> int:
        """The number of points that meet all clauses."""
        with translate_errors():
            return self._shard.count(edge.CountRequest(filter=edge_filter(*must)))

    async def agent_counts(self, must: Sequence[Clause]) -> Sequence[tuple[str, int]]:
        """(value of the key `agent`, how many points have it)."""
        with translate_errors():
            most = max(1, self._shard.info().points_count)
            request = edge.FacetRequest("agent", most, exact=True, filter=edge_filter(*must))
            hits = self._shard.facet(request).hits
        return [(str(hit.value), hit.count) for hit in hits]


def _nearest(near: NearestQuery) -> edge.Query:
    if isinstance(near.vector, SparseVector):
        return edge.Query.Nearest(_sparse(near.vector), WORDS)
    return edge.Query.Nearest(list(near.vector), VECTOR)


def _sparse(words: SparseVector) -> edge.SparseVector:
    return edge.SparseVector(list(words.indices), list(words.values))


def _prefetch(near: NearestQuery, filter_: edge.Filter) -> edge.Prefetch:
    return edge.Prefetch(
        near.limit,
        query=_nearest(near),
        params=_EXACT,
        filter=filter_,
        score_threshold=near.threshold,
    )


def _expression(term: Term) -> edge.Expression:  # noqa: PLR0911 (one for each kind)
    match term:
        case Constant(value):
            return edge.Expression.Constant(value)
        case Variable(name):
            return edge.Expression.Variable(name)
        case Sum(terms):
            return edge.Expression.Sum([_expression(one) for one in terms])
        case Product(terms):
            return edge.Expression.Mult([_expression(one) for one in terms])
        case Negation(inner):
            return edge.Expression.Neg(_expression(inner))
        case AbsoluteValue(inner):
            return edge.Expression.Abs(_expression(inner))
        case ExponentialDecay(inner):
            half = _expression(inner)
            return edge.Expression.Decay(edge.DecayKind.Exp, half, None, 0.5, 1.0)


def edge_filter(*must: Clause, must_not: tuple[Clause, ...] = ()) -> edge.Filter:
    """The filter for points that meet all of `must` and none of `must_not`."""
    return edge.Filter(
        must=[_condition(clause) for clause in must] or None,
        must_not=[_condition(clause) for clause in must_not] or None,
    )


def _condition(clause: Clause) -> edge.ConditionType:
    match clause:
        case Match(key, (value,)):
            return edge.FieldCondition(key, match=edge.MatchValue(value))
        case Match(key, values):
            return edge.FieldCondition(key, match=edge.MatchAny(list[Any](values)))
        case Substring(key, text):
            return edge.FieldCondition(key, match=edge.MatchSubstring(text))
        case Range(key, gt, gte, lt, lte):
            return edge.FieldCondition(key, range=edge.RangeFloat(gt=gt, gte=gte, lt=lt, lte=lte))
        case Empty(key):
            return edge.IsEmptyCondition(key)
        case Group(must, should, must_not):
            # None where a list is empty: a Group without `should` demands nothing of it.
            return edge.Filter(
                must=[_condition(one) for one in must] or None,
                should=[_condition(one) for one in should] or None,
                must_not=[_condition(one) for one in must_not] or None,
            )


@contextmanager
def translate_errors() -> Generator[None]:
    """Raises Unavailable for every error of Edge, which raises bare `Exception`: put only calls to Edge inside."""
    try:
        yield
    except BaseException as error:
        if not is_edge_error(error):
            raise
        raise Unavailable(f"Qdrant Edge: {one_line(error)}") from error


def is_edge_error(error: BaseException) -> bool:
    """Whether it is an error of Edge. A panic of its Rust code is raised as a class that is no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def one_line(error: BaseException) -> str:
    """The message of an error of Edge, which may have several lines, in one."""
    return " ".join(str(error).split())
