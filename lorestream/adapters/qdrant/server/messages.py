"""The values of the interface `qdrant.engine` as messages of Qdrant's gRPC protocol, as of Qdrant 1.17."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from lorestream.adapters.qdrant.conditions import Clause, Empty, Group, Ids, Match, Range, Substring
from lorestream.adapters.qdrant.engine import (
    AbsoluteValue,
    Constant,
    ExponentialDecay,
    NearestQuery,
    Negation,
    Product,
    SparseVector,
    Sum,
    Term,
    Variable,
)
from lorestream.adapters.qdrant.server.collection import DENSE_VECTOR, SPARSE_VECTOR
from lorestream.adapters.qdrant.server.protocol import wire

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT = wire.SearchParams(exact=True)
_FLOAT_BYTES = 4
_NO_VECTOR = wire.Vectors(vectors=wire.NamedVectors())


# --- points ------------------------------------------------------------------------------------------------


def point_message(
    id_: str, payload: Mapping[str, Any], vector: NDArray[np.float32] | None, words: SparseVector | None
) -> wire.PointStruct:
    """The message of a point. Without a dense vector it has an empty one: the server rejects a missing field.

    Raises TypeError or ValueError for values that the protocol cannot express.
    """
    message = wire.PointStruct(id=wire.PointId(uuid=id_), payload=payload_message(payload))
    if words is not None:
        message.vectors.vectors.vectors[SPARSE_VECTOR].sparse.CopyFrom(_sparse(words))
    if vector is None:
        message.vectors.MergeFrom(_NO_VECTOR)
    else:
        # In a serialised point with nothing but a vector the floats come last: copy them as bytes, not one by one.
        message.MergeFromString(_serialised_prefix(len(vector)) + vector.astype("<f4").tobytes())
    return message


def payload_message(payload: Mapping[str, Any]) -> dict[str, wire.Value]:
    """A payload as messages. Raises TypeError or ValueError for values that the protocol cannot express."""
    return {key: _value(one) for key, one in payload.items()}


def _sparse(words: SparseVector) -> wire.SparseVector:
    """The message of a sparse vector."""
    return wire.SparseVector(indices=words.indices, values=words.values)


def order_by_time(start: int | None, *, oldest_first: bool) -> wire.OrderBy:
    """The order by the payload key `t`, from the tick `start` on, which is part of it; None: from the first point."""
    direction = wire.Direction.Asc if oldest_first else wire.Direction.Desc
    return wire.OrderBy(
        key="t", direction=direction, start_from=None if start is None else wire.StartFrom(integer=start)
    )


def string_values(payload: Mapping[str, wire.Value]) -> dict[str, str]:
    """A payload whose values are all strings, as are those of `payload.READ_KEYS`. Others become empty strings."""
    return {key: value.string_value for key, value in payload.items()}


def scored_ids(hits: Iterable[wire.ScoredPoint]) -> list[tuple[str, float]]:
    """(id, score) of each hit."""
    return [(one.id.uuid, one.score) for one in hits]


def payloads(hits: Iterable[wire.ScoredPoint]) -> list[dict[str, str]]:
    """The payload of each hit, as `string_values` has it."""
    return [string_values(one.payload) for one in hits]


@lru_cache(maxsize=8)
def _serialised_prefix(dim: int) -> bytes:
    """A serialised point with a dense vector of `dim` components, up to the first of them."""
    dense = wire.DenseVector(data=[0.0] * dim)
    named = wire.NamedVectors(vectors={DENSE_VECTOR: wire.Vector(dense=dense)})
    serialised = wire.PointStruct(vectors=wire.Vectors(vectors=named)).SerializeToString()
    return serialised[: -_FLOAT_BYTES * dim]


def _value(one: object) -> wire.Value:  # noqa: PLR0911 (one for each kind of JSON)
    match one:
        case str():
            return wire.Value(string_value=one)
        case bool():
            return wire.Value(bool_value=one)
        case int():
            return wire.Value(integer_value=one)
        case float():
            return wire.Value(double_value=one)
        case None:
            return wire.Value(null_value=wire.NullValue.NULL_VALUE)
        case dict():
            fields = {key: _value(inner) for key, inner in cast("dict[str, Any]", one).items()}
            return wire.Value(struct_value=wire.Struct(fields=fields))
        case list():
            values = [_value(inner) for inner in cast("list[Any]", one)]
            return wire.Value(list_value=wire.ListValue(values=values))
        case _:
            raise TypeError(f"{type(one).__name__} is not a JSON type")


# --- filters -----------------------------------------------------------------------------------------------


def filter_message(must: Sequence[Clause], *, substring_field: str) -> wire.Filter:
    """The filter that matches if all of `must` do. `substring_field`: see the function of that name."""
    return wire.Filter(must=[_condition(clause, substring_field) for clause in must])


def substring_field(version: tuple[int, int]) -> str | None:
    """The field of the message `Match` that tests for an exact substring; None if this version has none.

    Up to 1.18 it is `text`, on payload keys without a text index, and no key has one (Qdrant's condition_checker.rs).
    Newer engines compare words there. The field `substring` exists in the protocol from 1.20 on. In 1.19 there is
    no exact substring test.
    """
    if version <= (1, 18):
        return "text"
    return "substring" if version >= (1, 20) else None


def _condition(clause: Clause, substring_field: str) -> wire.Condition:
    match clause:
        case Match(key, values):
            return _field(key, match=_match(values))
        case Substring(key, text):
            return _field(key, match=wire.Match(**cast("Any", {substring_field: text})))
        case Range(key, gt, gte, lt, lte):
            return _field(key, range=wire.Range(gt=gt, gte=gte, lt=lt, lte=lte))
        case Empty(key):
            return wire.Condition(is_empty=wire.IsEmptyCondition(key=key))
        case Ids(ids):
            points = [wire.PointId(uuid=one) for one in sorted(ids)]
            return wire.Condition(has_id=wire.HasIdCondition(has_id=points))
        case Group(must, should, must_not):
            group = wire.Filter(
                must=[_condition(one, substring_field) for one in must],
                should=[_condition(one, substring_field) for one in should],
                must_not=[_condition(one, substring_field) for one in must_not],
            )
            return wire.Condition(filter=group)


def _match(values: tuple[str, ...] | tuple[int, ...]) -> wire.Match:
    if isinstance(values[0], str):
        words = cast("tuple[str, ...]", values)
        if len(words) == 1:
            return wire.Match(keyword=words[0])
        return wire.Match(keywords=wire.RepeatedStrings(strings=words))
    numbers = cast("tuple[int, ...]", values)
    if len(numbers) == 1:
        return wire.Match(integer=numbers[0])
    return wire.Match(integers=wire.RepeatedIntegers(integers=numbers))


def _field(key: str, **condition: Any) -> wire.Condition:  # noqa: ANN401 (a field of FieldCondition)
    return wire.Condition(field=wire.FieldCondition(key=key, **condition))


# --- queries -----------------------------------------------------------------------------------------------


def nearest_query(near: NearestQuery) -> wire.Query:
    """The query for the nearest points."""
    if isinstance(near.vector, SparseVector):
        return wire.Query(nearest=wire.VectorInput(sparse=_sparse(near.vector)))
    return wire.Query(nearest=wire.VectorInput(dense=wire.DenseVector(data=near.vector)))


def vector_name(near: NearestQuery) -> str:
    """The name of the stored vector that the query is compared with."""
    return SPARSE_VECTOR if isinstance(near.vector, SparseVector) else DENSE_VECTOR


def prefetch(near: NearestQuery, filter_: wire.Filter) -> wire.PrefetchQuery:
    """The first stage of a query: its hits are ranked again by the second."""
    return wire.PrefetchQuery(
        query=nearest_query(near),
        using=vector_name(near),
        filter=filter_,
        params=EXACT,
        score_threshold=near.threshold,
        limit=near.limit,
    )


def expression(term: Term) -> wire.Expression:  # noqa: PLR0911 (one per kind of term)
    """A scoring formula."""
    match term:
        case Constant(value):
            return wire.Expression(constant=value)
        case Variable(name):
            return wire.Expression(variable=name)
        case Sum(terms):
            return wire.Expression(sum=wire.SumExpression(sum=[expression(one) for one in terms]))
        case Product(terms):
            return wire.Expression(mult=wire.MultExpression(mult=[expression(one) for one in terms]))
        case Negation(inner):
            return wire.Expression(neg=expression(inner))
        case AbsoluteValue(inner):
            return wire.Expression(abs=expression(inner))
        case ExponentialDecay(inner):
            half = wire.DecayParamsExpression(x=expression(inner), midpoint=0.5, scale=1.0)
            return wire.Expression(exp_decay=half)
