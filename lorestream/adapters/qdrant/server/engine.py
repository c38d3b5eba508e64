"""A Qdrant server as an engine: one collection, by gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from qdrant_client import grpc as wire

from lorestream.adapters.qdrant.conditions import Clause
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
from lorestream.adapters.qdrant.server.collection import VECTOR, WORDS
from lorestream.adapters.qdrant.server.filters import server_filter
from lorestream.adapters.qdrant.server.points import point, sparse, strings
from lorestream.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from google.protobuf.message import Message
    from numpy.typing import NDArray

    from lorestream.adapters.qdrant.server.connection import Connection

_log = structlog.get_logger("lorestream.qdrant")

_BATCH = 128  # points in one upsert: from 64 to 256 it makes no difference, 32 lose a tenth
_STREAMS = 4  # upserts under way at once: a server takes more of two to four than of one
_MOST_AGENTS = 2**24
_EXACT = wire.SearchParams(exact=True)
_READ = wire.WithPayloadSelector(include=wire.PayloadIncludeSelector(fields=READ_KEYS))
_VECTOR = wire.WithVectorsSelector(include=wire.VectorsSelector(names=[VECTOR]))
_NOTHING = wire.WithPayloadSelector(enable=False)


class ServerEngine:
    """An Engine over one collection, called by the name that stands behind its alias.

    `substring`: how its version says Substring, None where it cannot. `replicated`: points lie on several
    nodes, and writes have to reach all of them in one order.
    """

    def __init__(
        self, connection: Connection, collection: str, *, substring: str | None, replicated: bool
    ) -> None:
        self.traits = EngineTraits(
            in_process=False, batch_size=500, tie_margin=8, exact_substrings=substring is not None
        )
        self._connection = connection
        self._collection = collection
        self._substring = substring or ""
        kind = wire.WriteOrderingType.Medium if replicated else wire.WriteOrderingType.Weak
        self._ordering = wire.WriteOrdering(type=kind)
        self._streams = asyncio.Semaphore(_STREAMS)

    # --- writing -------------------------------------------------------------------------------------------

    def point(
        self,
        id_: str,
        payload: Mapping[str, Any],
        vector: NDArray[np.float32] | None,
        words: SparseVector | None,
    ) -> wire.PointStruct:
        """A point as a message."""
        return point(id_, payload, vector, words)

    async def upsert(self, points: Sequence[wire.PointStruct], *, insert_only: bool) -> None:
        """Write points, some batches at a time."""
        batches = (points[start : start + _BATCH] for start in range(0, len(points), _BATCH))
        done = await asyncio.gather(
            *(self._upsert(batch, insert_only=insert_only) for batch in batches), return_exceptions=True
        )
        faults = [one for one in done if one is not None]
        # An outage goes before a refusal: the whole is tried again then, and the refusal comes back.
        for fault in sorted(faults, key=lambda one: not isinstance(one, Unavailable)):
            raise fault

    async def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""
        chosen = wire.PointsIdsList(ids=[wire.PointId(uuid=id_) for id_ in ids])
        request = wire.DeletePoints(
            collection_name=self._collection,
            wait=True,
            points=wire.PointsSelector(points=chosen),
            ordering=self._ordering,
        )
        self._completed(await self._call(self._connection.points.Delete, request))

    async def flush(self) -> None:
        """Nothing: a write has been answered once it stands in the server's own log."""

    async def _upsert(self, points: Sequence[wire.PointStruct], *, insert_only: bool) -> None:
        mode = wire.UpdateMode.InsertOnly if insert_only else wire.UpdateMode.Upsert
        async with self._streams:
            request = wire.UpsertPoints(
                collection_name=self._collection,
                wait=True,
                points=points,
                ordering=self._ordering,
                update_mode=mode,
            )
            with _serving():
                answer: Any = await self._connection.write(self._connection.points.Upsert, request)
            self._completed(answer)

    def _completed(self, answer: Any) -> None:  # noqa: ANN401 (PointsOperationResponse)
        """Refuse what the server has only taken note of: a reader may not see it yet."""
        if answer.result.status != wire.UpdateStatus.Completed:
            status = wire.UpdateStatus.Name(answer.result.status)
            raise Unavailable(f"Qdrant did not finish a write to {self._collection}: {status}")

    # --- reading -------------------------------------------------------------------------------------------

    async def nearest(self, must: Sequence[Clause], near: NearestQuery) -> Sequence[tuple[Payload, float]]:
        """(payload, score), the nearest first."""
        request = wire.QueryPoints(
            collection_name=self._collection,
            query=_nearest(near),
            using=_using(near),
            filter=self._filter(must),
            params=_EXACT,
            score_threshold=near.threshold,
            limit=near.limit,
            with_payload=_READ,
        )
        answer: Any = await self._call(self._connection.points.Query, request)
        return [(strings(one.payload), one.score) for one in answer.result]

    async def scores(self, must: Sequence[Clause], near: NearestQuery, *, offset: int) -> Sequence[float]:
        """The scores of `near.limit` more, behind the nearest `offset`."""
        request = wire.QueryPoints(
            collection_name=self._collection,
            query=_nearest(near),
            using=_using(near),
            filter=self._filter(must),
            params=_EXACT,
            score_threshold=near.threshold,
            limit=near.limit,
            offset=offset,
        )
        answer: Any = await self._call(self._connection.points.Query, request)
        return [one.score for one in answer.result]

    async def rescore(
        self, must: Sequence[Clause], near: NearestQuery, formula: Term, *, limit: int
    ) -> Sequence[tuple[Payload, Sequence[float], float]]:
        """(payload, vector, value of the formula) of those near, the highest first."""
        request = wire.QueryPoints(
            collection_name=self._collection,
            prefetch=[_prefetch(near, self._filter(must))],
            query=wire.Query(formula=wire.Formula(expression=_expression(formula))),
            limit=limit,
            with_payload=_READ,
            with_vectors=_VECTOR,
        )
        answer: Any = await self._call(self._connection.points.Query, request)
        return [
            (strings(one.payload), one.vectors.vectors.vectors[VECTOR].dense.data, one.score)
            for one in answer.result
        ]

    async def ordered_by_time(
        self, must: Sequence[Clause], *, limit: int, oldest_first: bool, near: NearestQuery | None = None
    ) -> Sequence[Payload]:
        """The first by the key `t`; with `near`, only of those."""
        direction = wire.Direction.Asc if oldest_first else wire.Direction.Desc
        order = wire.Query(order_by=wire.OrderBy(key="t", direction=direction))
        filter_ = self._filter(must)
        request = wire.QueryPoints(
            collection_name=self._collection, query=order, limit=limit, with_payload=_READ
        )
        if near is None:
            request.filter.CopyFrom(filter_)
        else:
            request.prefetch.append(_prefetch(near, filter_))
        answer: Any = await self._call(self._connection.points.Query, request)
        return [strings(one.payload) for one in answer.result]

    async def scroll(
        self, must: Sequence[Clause], *, limit: int, after: str | None, with_payload: bool = True
    ) -> tuple[Sequence[tuple[str, Payload]], str | None]:
        """(id, payload) in the order of ids, and where to go on."""
        request = wire.ScrollPoints(
            collection_name=self._collection,
            filter=self._filter(must),
            offset=None if after is None else wire.PointId(uuid=after),
            limit=limit,
            with_payload=_READ if with_payload else _NOTHING,
        )
        answer: Any = await self._call(self._connection.points.Scroll, request)
        found = [(one.id.uuid, strings(one.payload)) for one in answer.result]
        return found, answer.next_page_offset.uuid or None

    async def retrieve(self, ids: Sequence[str]) -> Mapping[str, Payload]:
        """The payloads of those points that there are."""
        request = wire.GetPoints(
            collection_name=self._collection, ids=[wire.PointId(uuid=id_) for id_ in ids], with_payload=_READ
        )
        answer: Any = await self._call(self._connection.points.Get, request)
        return {one.id.uuid: strings(one.payload) for one in answer.result}

    async def vectors(self, ids: Sequence[str]) -> Mapping[str, tuple[Payload, Sequence[float]]]:
        """(payload, vector) of those points that have one."""
        request = wire.GetPoints(
            collection_name=self._collection,
            ids=[wire.PointId(uuid=id_) for id_ in ids],
            with_payload=_READ,
            with_vectors=_VECTOR,
        )
        answer: Any = await self._call(self._connection.points.Get, request)
        return {
            one.id.uuid: (
                strings(one.payload),
                one.vectors.vectors.vectors[VECTOR].dense.data,
            )
            for one in answer.result
            if VECTOR in one.vectors.vectors.vectors
        }

    async def count(self, must: Sequence[Clause]) -> int:
        """How many."""
        request = wire.CountPoints(collection_name=self._collection, filter=self._filter(must), exact=True)
        answer: Any = await self._call(self._connection.points.Count, request)
        return answer.result.count

    async def agent_counts(self, must: Sequence[Clause]) -> Sequence[tuple[str, int]]:
        """(value of the key `agent`, how many points have it)."""
        request = wire.FacetCounts(
            collection_name=self._collection,
            key="agent",
            filter=self._filter(must),
            limit=_MOST_AGENTS,
            exact=True,
        )
        answer: Any = await self._call(self._connection.points.Facet, request)
        return [(hit.value.string_value, hit.count) for hit in answer.hits]

    async def _call(self, method: Callable[..., Awaitable[Any]], request: Message) -> Any:  # noqa: ANN401 (the method's)
        with _serving():
            return await self._connection.call(method, request)

    def _filter(self, must: Sequence[Clause]) -> wire.Filter:
        return server_filter(must, substring=self._substring)


@contextmanager
def _serving() -> Generator[None]:
    """What somebody has to mend, such as a key that was changed, is an outage until then: no record is to blame."""
    try:
        yield
    except Misconfigured as error:
        _log.error("Qdrant is set up wrongly", error=str(error))
        raise Unavailable(str(error)) from error


def _nearest(near: NearestQuery) -> wire.Query:
    if isinstance(near.vector, SparseVector):
        return wire.Query(nearest=wire.VectorInput(sparse=sparse(near.vector)))
    return wire.Query(nearest=wire.VectorInput(dense=wire.DenseVector(data=near.vector)))


def _using(near: NearestQuery) -> str:
    return WORDS if isinstance(near.vector, SparseVector) else VECTOR


def _prefetch(near: NearestQuery, filter_: wire.Filter) -> wire.PrefetchQuery:
    return wire.PrefetchQuery(
        query=_nearest(near),
        using=_using(near),
        filter=filter_,
        params=_EXACT,
        score_threshold=near.threshold,
        limit=near.limit,
    )


def _expression(term: Term) -> wire.Expression:  # noqa: PLR0911 (one for each kind)
    match term:
        case Constant(value):
            return wire.Expression(constant=value)
        case Variable(name):
            return wire.Expression(variable=name)
        case Sum(terms):
            return wire.Expression(sum=wire.SumExpression(sum=[_expression(one) for one in terms]))
        case Product(terms):
            return wire.Expression(mult=wire.MultExpression(mult=[_expression(one) for one in terms]))
        case Negation(inner):
            return wire.Expression(neg=_expression(inner))
        case AbsoluteValue(inner):
            return wire.Expression(abs=_expression(inner))
        case ExponentialDecay(inner):
            half = wire.DecayParamsExpression(x=_expression(inner), midpoint=0.5, scale=1.0)
            return wire.Expression(exp_decay=half)
