"""Custom sharding in one shard: each point has its shard key as a payload key, by which every call is restricted.

A call without a selector reads all shards, and writes nothing: a server refuses it. A point that two shards would have is
refused here, where a server would store it twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qdrant_edge as edge

from tests.qdrant_stand_in.catalogue import Catalogue, Collection
from tests.qdrant_stand_in.filters import edge_filter
from tests.qdrant_stand_in.refusals import invalid, unimplemented

PAYLOAD_KEY = "shard_key"


def of_call(catalogue: Catalogue, found: Collection, sent: Any, *, write: bool = False) -> list[int] | None:
    """The shard keys that a call names; None: all. Raises RequestError as a server does."""
    selector = sent.shard_key_selector
    if selector.HasField("fallback"):
        raise unimplemented("the fallback of a selector")
    named = [one.number for one in selector.shard_keys]
    known = catalogue.shard_keys(found.name) if found.custom else []
    for one in selector.shard_keys:
        if one.WhichOneof("key") != "number" or one.number not in known:
            raise invalid(f"Shard key {one.number} not found")
    if found.custom and write and not named:
        raise invalid("Shard key not specified")
    return named or None


def restricted(sent: Any, keys: Sequence[int] | None) -> edge.Filter | None:
    """The filter of a message, for the points of these shards only."""
    own = edge_filter(sent.filter) if sent.HasField("filter") else None
    if keys is None:
        return own
    return edge.Filter(must=[_within(keys), *([] if own is None else [own])])


def among(ids: Sequence[str], keys: Sequence[int]) -> edge.Filter:
    """These points, as far as they are in these shards."""
    return edge.Filter(must=[edge.HasIdCondition(set(ids)), _within(keys)])


def within(filter_: edge.Filter, keys: Sequence[int] | None) -> edge.Filter:
    """The filter, for the points of these shards only."""
    return filter_ if keys is None else edge.Filter(must=[_within(keys), filter_])


def refuse_doubles(found: Collection, ids: Sequence[str], key: int) -> None:
    """Raise RequestError for a point that is in another shard already."""
    for one in found.shard.retrieve(list(ids), [PAYLOAD_KEY], False):  # noqa: FBT003
        if (one.payload or {}).get(PAYLOAD_KEY) != key:
            raise invalid(f"{one.id} would be in the shard {key}, and is in another one already")


def _within(keys: Sequence[int]) -> edge.FieldCondition:
    return edge.FieldCondition(PAYLOAD_KEY, match=edge.MatchAny(list(keys)))
