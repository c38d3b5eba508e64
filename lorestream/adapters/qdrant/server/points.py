"""Points as the messages of Qdrant's wire."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from qdrant_client import grpc as wire

from lorestream.adapters.qdrant.server.collection import VECTOR, WORDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorestream.adapters.qdrant.engine import SparseVector

_FLOAT_BYTES = 4
_NO_VECTOR = wire.Vectors(vectors=wire.NamedVectors())


def point(
    id_: str, payload: Mapping[str, Any], vector: NDArray[np.float32] | None, words: SparseVector | None
) -> wire.PointStruct:
    """A point; one without a vector says so, because the server refuses a point that says nothing.

    Raises TypeError or ValueError for what the wire cannot hold.
    """
    made = wire.PointStruct(
        id=wire.PointId(uuid=id_), payload={key: _value(one) for key, one in payload.items()}
    )
    if words is not None:
        made.vectors.vectors.vectors[WORDS].sparse.CopyFrom(sparse(words))
    if vector is None:
        made.vectors.MergeFrom(_NO_VECTOR)
    else:
        # The floats lie at the end of a point that has nothing else: they are copied, not read one by one.
        made.MergeFromString(_before_the_floats(len(vector)) + vector.astype("<f4").tobytes())
    return made


def sparse(words: SparseVector) -> wire.SparseVector:
    """The vector of a text's words."""
    return wire.SparseVector(indices=words.indices, values=words.values)


def strings(payload: Mapping[str, wire.Value]) -> dict[str, str]:
    """The keys of a payload that are strings, as those are that `qdrant_payload.memory` reads."""
    return {key: value.string_value for key, value in payload.items()}


@lru_cache(maxsize=8)
def _before_the_floats(dim: int) -> bytes:
    dense = wire.DenseVector(data=[0.0] * dim)
    named = wire.NamedVectors(vectors={VECTOR: wire.Vector(dense=dense)})
    whole = wire.PointStruct(vectors=wire.Vectors(vectors=named)).SerializeToString()
    return whole[: -_FLOAT_BYTES * dim]


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
            raise TypeError(f"{type(one).__name__} is nothing that JSON has")
