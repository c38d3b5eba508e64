"""Request and response types of reads over many memories: several by id, and aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lorestream.limits import MAX_IDS, MAX_TYPE_CHARS, AgentId, EmptyList
from query_service.response_schemas import StoredMemory
from query_service.schemas import Filters

MIN_BUCKET = 0.001
"""The least width of a bucket, in seconds or ticks."""

_Width = Annotated[float, Meta(ge=MIN_BUCKET)]
_Time = Annotated[float, Meta(description="Unix seconds, inclusive.")]


class GetMany(Struct, forbid_unknown_fields=True):
    """Several memories or records of one agent by id."""

    agent_id: AgentId
    ids: Annotated[list[str], Meta(max_length=MAX_IDS)]
    vectors: Annotated[bool, Meta(description="Also return the vector of each.")] | None = None


class ReadMemory(StoredMemory):
    """A memory. `vector`, where it was asked for: its numbers as float32, little-endian, in base64; null for a record."""

    vector: bytes | UnsetType | None = UNSET


class GetManyResponse(Struct):
    """The memories in the order of the ids. Ids that the agent has no memory of are left out."""

    memories: Sequence[ReadMemory]


class Aggregate(Struct, forbid_unknown_fields=True):
    """The numbers at `field` of an agent's memories, or of its records where `type` or `filters` name their type.

    `every_s` and `every_ticks` exclude each other; without both there is one bucket.
    """

    field: Annotated[
        str,
        Meta(
            min_length=1,
            description=(
                "`tick`, `timestamp`, `importance`, `pos.x`, `pos.y`, `pos.z`, or a metadata key, with or without"
                " `metadata.`. Memories that have no number there are left out."
            ),
        ),
    ]
    type: Annotated[str, Meta(max_length=MAX_TYPE_CHARS)] | None = None
    every_s: (
        Annotated[_Width, Meta(description="Seconds of a bucket; it starts at a multiple of them.")] | None
    ) = None
    every_ticks: (
        Annotated[
            _Width,
            Meta(
                description="Ticks of a bucket; it starts at a multiple. Memories without a tick are left out."
            ),
        ]
        | None
    ) = None
    since: _Time | None = None
    until: _Time | None = None
    filters: Filters | EmptyList | None = None
    group_by: (
        Annotated[
            Literal["type", "server", "player"],
            Meta(description="Each value of this field has buckets of its own."),
        ]
        | None
    ) = None


class Bucket(Struct):
    """The numbers of one bucket; there is none without numbers.

    `group`, with `group_by`: the value of that field, "" where memories have none.

    `start`: Unix seconds, or the tick; of a single bucket `since`, or the time of its first number. `std`: the standard
    deviation of the population. `last`: the number of the last memory in their order. A sum that no float can hold is null.
    """

    start: float
    count: int
    sum: float | None
    mean: float
    min: float
    max: float
    std: float | None
    last: float
    group: str | UnsetType = UNSET


class AggregateResponse(Struct):
    """The buckets in order of their start, then of their group."""

    buckets: Sequence[Bucket]
