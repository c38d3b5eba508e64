"""The Engine over one collection of a Qdrant server, by gRPC. Its methods are described in `qdrant.engine`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from lorestream.adapters.qdrant.conditions import Clause, Group, Ids
from lorestream.adapters.qdrant.engine import (
    EngineTraits,
    NearestQuery,
    Payload,
    SparseVector,
    Term,
    TimePage,
)
from lorestream.adapters.qdrant.payload import READ_KEYS
from lorestream.adapters.qdrant.server import messages
from lorestream.adapters.qdrant.server.collection import DENSE_VECTOR
from lorestream.adapters.qdrant.server.protocol import wire
from lorestream.adapters.qdrant.server.sharding import Sharding, is_tombstone, may_be_elsewhere
from lorestream.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from google.protobuf.message import Message
    from numpy.typing import NDArray

    from lorestream.adapters.qdrant.server.connection import Connection

_log = structlog.get_logger("lorestream.qdrant")

_BATCH_SIZE = 500
"""Points in one page of a scan, and in one deletion."""
_UPSERT_BATCH_SIZE = 128
"""Points in one upsert. From 64 to 256 the throughput is the same; with 32 it is a tenth lower."""
_MAX_CONCURRENT_UPSERTS = 4
"""A server writes more with two to four concurrent upserts than with one."""
_MOST_VALUES = 2**24
"""The limit of a facet: more values than any collection has."""
_WITH_READ_KEYS = wire.WithPayloadSelector(include=wire.PayloadIncludeSelector(fields=READ_KEYS))
_WITH_DENSE_VECTOR = wire.WithVectorsSelector(include=wire.VectorsSelector(names=[DENSE_VECTOR]))
_WITHOUT_PAYLOAD = wire.WithPayloadSelector(enable=False)


@dataclass(frozen=True, slots=True)
class ServedCollection:
    """A collection of a server, and what its requests depend on."""

    connection: Connection
    name: str
    """Its own, not an alias; only for reads it may be one."""
    substring_field: str | None
    """See `messages.substring_field`."""
    replicated: bool
    """Whether points are stored on several nodes, so that all of them have to apply writes in the same order."""
    sharding: Sharding


class ServerEngine:
    """An Engine over one collection."""

    def __init__(self, served: ServedCollection) -> None:
        self.writes = 0
        self.traits = EngineTraits(
            in_process=False,
            batch_size=_BATCH_SIZE,
            tie_margin=8,
            exact_substrings=served.substring_field is not None,
        )
        self._connection = served.connection
        self._collection = served.name
        self._substring_field = served.substring_field or ""
        self._sharding = served.sharding
        kind = wire.WriteOrderingType.Medium if served.replicated else wire.WriteOrderingType.Weak
        self._ordering = wire.WriteOrdering(type=kind)
        self._upsert_slots = asyncio.Semaphore(_MAX_CONCURRENT_UPSERTS)

    # --- writing -------------------------------------------------------------------------------------------

    def point(
        self,
        id_: str,
        payload: Mapping[str, Any],
        vector: NDArray[np.float32] | None,
        words: SparseVector | None,
    ) -> wire.PointStruct:
        """Build the message of a point."""
        return messages.point_message(id_, payload, vector, words)

    async def upsert(
        self,
        points: Sequence[wire.PointStruct],
        *,
        insert_only: bool = False,
        update_only: bool = False,
        replace: Clause | None = None,
    ) -> None:
        """Write points, several batches concurrently."""
        condition = None if replace is None else self._filter((replace,))
        mode = wire.UpdateMode.InsertOnly if insert_only else wire.UpdateMode.Upsert
        mode = wire.UpdateMode.UpdateOnly if update_only else mode
        if insert_only and self._sharding:
            points = await self._new_ones(points)
        await self._make_room_for_tombstones(points)
        batches = [
            (some[start : start + _UPSERT_BATCH_SIZE], shard)
            for shard, some in self._sharding.by_shard(points).items()
            for start in range(0, len(some), _UPSERT_BATCH_SIZE)
        ]
        done = await asyncio.gather(  # noqa: TID251 (all batches end)
            *(self._upsert(batch, shard, condition, mode) for batch, shard in batches),
            return_exceptions=True,
        )
        errors = [one for one in done if one is not None]
        # Unavailable takes precedence: the caller then repeats all batches, and sees the rejected point again.
        for error in sorted(errors, key=lambda one: not isinstance(one, Unavailable)):
            raise error

    async def _make_room_for_tombstones(self, points: Sequence[wire.PointStruct]) -> None:
        """Remove the memories that tombstones are to replace, where they are in another shard."""
        for shard, some in self._sharding.by_shard([one for one in points if is_tombstone(one)]).items():
            if shard is not None:
                chosen = wire.PointsSelector(points=wire.PointsIdsList(ids=[one.id for one in some]))
                await self._delete(chosen, self._sharding.others(shard))

    async def _new_ones(self, points: Sequence[wire.PointStruct]) -> Sequence[wire.PointStruct]:
        """The points without those that are stored already, maybe in another shard than they would be written to now."""
        uncertain = [one.id.uuid for one in points if may_be_elsewhere(one)]
        if not uncertain:
            return points
        stored = await self.retrieve(uncertain, ())
        return [one for one in points if one.id.uuid not in stored]

    async def delete(self, ids: Sequence[str], *, unless: Clause | None = None) -> None:
        """Remove points."""
        if unless is None:
            chosen = wire.PointsSelector(
                points=wire.PointsIdsList(ids=[wire.PointId(uuid=id_) for id_ in ids])
            )
        else:
            among = (Ids(frozenset(ids)), Group(must_not=(unless,)))
            chosen = wire.PointsSelector(filter=self._filter(among))
        await self._delete(chosen, self._sharding.every())

    async def _delete(self, chosen: wire.PointsSelector, shards: wire.ShardKeySelector | None) -> None:
        request = wire.DeletePoints(
            collection_name=self._collection,
            wait=True,
            points=chosen,
            ordering=self._ordering,
            shard_key_selector=shards,
        )
        self._check_completed(await self._call(self._connection.points.Delete, request))

    async def overwrite(self, id_: str, payload: Mapping[str, Any], which: Clause) -> None:
        """Replace the payload of a point that meets the clause."""
        request = wire.SetPayloadPoints(
            collection_name=self._collection,
            wait=True,
            payload=messages.payload_message(payload),
            points_selector=wire.PointsSelector(filter=self._filter((Ids(frozenset((id_,))), which))),
            ordering=self._ordering,
            shard_key_selector=self._sharding.every(),
        )
        self._check_completed(await self._call(self._connection.points.OverwritePayload, request))

    async def remove_key(self, ids: Sequence[str], key: str) -> None:
        """Remove a payload key of points."""
        # By a filter, which ignores unknown ids; a list of them would be refused.
        request = wire.DeletePayloadPoints(
            collection_name=self._collection,
            wait=True,
            keys=[key],
            points_selector=wire.PointsSelector(filter=self._filter((Ids(frozenset(ids)),))),
            ordering=self._ordering,
            shard_key_selector=self._sharding.every(),
        )
        self._check_completed(await self._call(self._connection.points.DeletePayload, request))

    async def flush(self) -> None:
        """Nothing to do: the server confirms a write after appending it to its own log."""

    async def _upsert(
        self,
        points: Sequence[wire.PointStruct],
        shard: int | None,
        condition: wire.Filter | None,
        mode: wire.UpdateMode.ValueType,
    ) -> None:
        async with self._upsert_slots:
            request = wire.UpsertPoints(
                collection_name=self._collection,
                wait=True,
                points=points,
                ordering=self._ordering,
                update_mode=mode,
                update_filter=condition,
                shard_key_selector=self._sharding.only(shard),
            )
            with _as_outage():
                response: Any = await self._connection.write(self._connection.points.Upsert, request)
            self._check_completed(response)

    def _check_completed(self, response: Any) -> None:  # noqa: ANN401 (PointsOperationResponse)
        """Raise Unavailable for a write that was only acknowledged: readers may not see it yet."""
        if response.result.status != wire.UpdateStatus.Completed:
            status = wire.UpdateStatus.Name(response.result.status)
            raise Unavailable(f"Qdrant did not complete a write to {self._collection}: {status}")

    # --- reading -------------------------------------------------------------------------------------------

    async def nearest(self, must: Sequence[Clause], near: NearestQuery) -> Sequence[tuple[Payload, float]]:
        """(payload, score) by falling score."""
        request = wire.QueryPoints(
            collection_name=self._collection,
            query=messages.nearest_query(near),
            using=messages.vector_name(near),
            filter=self._filter(must),
            params=messages.EXACT,
            score_threshold=near.threshold,
            limit=near.limit,
            with_payload=_WITH_READ_KEYS,
            shard_key_selector=self._sharding.of_reads(must),
        )
        response: Any = await self._call(self._connection.points.Query, request)
        return [(messages.string_values(one.payload), one.score) for one in response.result]

    async def ranked_ids(
        self,
        must: Sequence[Clause],
        near: NearestQuery,
        *,
        offset: int = 0,
        among: NearestQuery | None = None,
    ) -> Sequence[tuple[str, float]]:
        """(id, score) by falling score, after skipping the first `offset` hits; with `among`, of its hits."""
        request = self._ids_query(must, near)
        request.offset = offset
        if among is not None:
            request.prefetch.append(messages.prefetch(among, request.filter))
            request.ClearField("filter")
        response: Any = await self._call(self._connection.points.Query, request)
        return messages.scored_ids(response.result)

    async def ranked_ids_of(
        self, searches: Sequence[tuple[Sequence[Clause], NearestQuery]]
    ) -> Sequence[Sequence[tuple[str, float]]]:
        """(id, score) by falling score, of each search, in one call."""
        if len(searches) == 1:
            return [await self.ranked_ids(*searches[0])]
        found = await self._query_all([self._ids_query(must, near) for must, near in searches])
        return [messages.scored_ids(some) for some in found]

    def _ids_query(self, must: Sequence[Clause], near: NearestQuery) -> wire.QueryPoints:
        return wire.QueryPoints(
            collection_name=self._collection,
            query=messages.nearest_query(near),
            using=messages.vector_name(near),
            filter=self._filter(must),
            params=messages.EXACT,
            score_threshold=near.threshold,
            limit=near.limit,
            shard_key_selector=self._sharding.of_reads(must),
        )

    async def rescore(
        self, must: Sequence[Clause], near: NearestQuery, formula: Term, *, limit: int
    ) -> Sequence[tuple[Payload, Sequence[float], float]]:
        """The hits of `near` ranked by a formula: (payload, dense vector, value of the formula)."""
        request = wire.QueryPoints(
            collection_name=self._collection,
            prefetch=[messages.prefetch(near, self._filter(must))],
            query=wire.Query(formula=wire.Formula(expression=messages.expression(formula))),
            limit=limit,
            with_payload=_WITH_READ_KEYS,
            with_vectors=_WITH_DENSE_VECTOR,
            shard_key_selector=self._sharding.of_reads(must),
        )
        response: Any = await self._call(self._connection.points.Query, request)
        return [
            (
                messages.string_values(one.payload),
                one.vectors.vectors.vectors[DENSE_VECTOR].dense.data,
                one.score,
            )
            for one in response.result
        ]

    async def ordered_by_time(
        self, must: Sequence[Clause], *, limit: int, oldest_first: bool, near: NearestQuery | None = None
    ) -> Sequence[Payload]:
        """The first `limit` points by the payload key `t`."""
        order = wire.Query(order_by=messages.order_by_time(None, oldest_first=oldest_first))
        filter_ = self._filter(must)
        request = wire.QueryPoints(
            collection_name=self._collection,
            query=order,
            limit=limit,
            with_payload=_WITH_READ_KEYS,
            shard_key_selector=self._sharding.of_reads(must),
        )
        if near is None:
            request.filter.CopyFrom(filter_)
        else:
            request.prefetch.append(messages.prefetch(near, filter_))
        response: Any = await self._call(self._connection.points.Query, request)
        return messages.payloads(response.result)

    async def pages_by_time(self, pages: Sequence[TimePage]) -> Sequence[Sequence[Payload]]:
        """The points of each page in its order."""
        found = await self._query_all([self._page_query(page, with_payload=True) for page in pages])
        return [messages.payloads(page) for page in found]

    def _page_query(self, page: TimePage, *, with_payload: bool) -> wire.QueryPoints:
        return wire.QueryPoints(
            collection_name=self._collection,
            query=wire.Query(order_by=messages.order_by_time(page.start, oldest_first=page.oldest_first)),
            filter=self._filter(page.must),
            limit=page.limit,
            with_payload=_WITH_READ_KEYS if with_payload else None,
            shard_key_selector=self._sharding.of_reads(page.must),
        )

    async def _query_all(self, queries: Sequence[wire.QueryPoints]) -> Sequence[Sequence[wire.ScoredPoint]]:
        """The hits of each query, in one call."""
        request = wire.QueryBatchPoints(collection_name=self._collection, query_points=queries)
        response: Any = await self._call(self._connection.points.QueryBatch, request)
        return [one.result for one in response.result]

    async def scroll(
        self, must: Sequence[Clause], *, limit: int, after: str | None, with_payload: bool = True
    ) -> tuple[Sequence[tuple[str, Payload]], str | None]:
        """One page of (id, payload), and the id of the next page."""
        request = wire.ScrollPoints(
            collection_name=self._collection,
            filter=self._filter(must),
            offset=None if after is None else wire.PointId(uuid=after),
            limit=limit,
            with_payload=_WITH_READ_KEYS if with_payload else _WITHOUT_PAYLOAD,
            shard_key_selector=self._sharding.of_reads(must),
        )
        response: Any = await self._call(self._connection.points.Scroll, request)
        found = [(one.id.uuid, messages.string_values(one.payload)) for one in response.result]
        return found, response.next_page_offset.uuid or None

    async def scan(self, must: Sequence[Clause]) -> AsyncGenerator[tuple[str, Payload]]:
        """(id, payload) of all points that meet the clauses, page by page."""
        async with aclosing(self._pages(must)) as pages:
            async for records in pages:
                for record in records:
                    yield record

    async def payloads(self, must: Sequence[Clause]) -> AsyncGenerator[Sequence[Payload]]:
        """The payloads of all points that meet the clauses, page by page."""
        async with aclosing(self._pages(must)) as pages:
            async for records in pages:
                yield [payload for _, payload in records]

    async def _pages(self, must: Sequence[Clause]) -> AsyncGenerator[Sequence[tuple[str, Payload]]]:
        after: str | None = None
        while True:
            records, after = await self.scroll(must, limit=_BATCH_SIZE, after=after)
            yield records
            if after is None:
                return

    async def exists(self, must: Sequence[Clause]) -> bool:
        """True if at least one point meets the clauses."""
        records, _ = await self.scroll(must, limit=1, after=None, with_payload=False)
        return bool(records)

    async def retrieve(
        self, ids: Sequence[str], keys: Sequence[str] = READ_KEYS, *, agents: frozenset[str] | None = None
    ) -> Mapping[str, Payload]:
        """The payloads of the points that exist, by id."""
        request = wire.GetPoints(
            collection_name=self._collection,
            ids=[wire.PointId(uuid=id_) for id_ in ids],
            with_payload=wire.WithPayloadSelector(include=wire.PayloadIncludeSelector(fields=keys)),
            shard_key_selector=self._sharding.of_agents(agents),
        )
        response: Any = await self._call(self._connection.points.Get, request)
        return {one.id.uuid: messages.string_values(one.payload) for one in response.result}

    async def vectors(self, ids: Sequence[str]) -> Mapping[str, tuple[Payload, Sequence[float]]]:
        """(payload, dense vector) of the points that have one, by id."""
        request = wire.GetPoints(
            collection_name=self._collection,
            ids=[wire.PointId(uuid=id_) for id_ in ids],
            with_payload=_WITH_READ_KEYS,
            with_vectors=_WITH_DENSE_VECTOR,
        )
        response: Any = await self._call(self._connection.points.Get, request)
        return {
            one.id.uuid: (
                messages.string_values(one.payload),
                one.vectors.vectors.vectors[DENSE_VECTOR].dense.data,
            )
            for one in response.result
            if DENSE_VECTOR in one.vectors.vectors.vectors
        }

    async def count(self, must: Sequence[Clause]) -> int:
        """The exact number of points."""
        return await self._count(must, exact=True)

    async def most_points(self, must: Sequence[Clause]) -> int:
        """Qdrant's estimate of `count`."""
        return await self._count(must, exact=False)

    async def _count(self, must: Sequence[Clause], *, exact: bool) -> int:
        request = wire.CountPoints(
            collection_name=self._collection,
            filter=self._filter(must),
            exact=exact,
            shard_key_selector=self._sharding.of_reads(must),
        )
        response: Any = await self._call(self._connection.points.Count, request)
        return response.result.count

    async def value_counts(self, key: str, must: Sequence[Clause]) -> Sequence[tuple[str, int]]:
        """(value of a payload key, number of its points)."""
        request = wire.FacetCounts(
            collection_name=self._collection,
            key=key,
            filter=self._filter(must),
            limit=_MOST_VALUES,
            exact=True,
            shard_key_selector=self._sharding.of_reads(must),
        )
        response: Any = await self._call(self._connection.points.Facet, request)
        return [(hit.value.string_value, hit.count) for hit in response.hits]

    async def _call(self, method: Callable[..., Awaitable[Any]], request: Message) -> Any:  # noqa: ANN401 (the method's response)
        with _as_outage():
            return await self._connection.call(method, request)

    def _filter(self, must: Sequence[Clause]) -> wire.Filter:
        return messages.filter_message(must, substring_field=self._substring_field)


@contextmanager
def _as_outage() -> Generator[None]:
    """Turn Misconfigured into Unavailable: the service runs already, so callers retry until it is corrected."""
    try:
        yield
    except Misconfigured as error:
        _log.error(
            "Qdrant rejects requests, they fail as unavailable: correct what the error names",
            error=str(error),
        )
        raise Unavailable(str(error)) from error
