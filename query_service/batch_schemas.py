"""Request and response types of the batch route; the OpenAPI document is made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lorestream.http.errors import ErrorBody
from lorestream.limits import AgentId, DocumentType
from query_service.response_schemas import Entity, FoundMemory, StoredMemory
from query_service.schemas import After, Context, ReadRequest, Search, WaitMs
from query_service.state_rest.schemas import At

MAX_BATCH_READS = 64
"""The most reads of one batch, of all kinds together."""

_UP_TO_ALL = Meta(max_length=MAX_BATCH_READS)


class AgentContext(Context, kw_only=True):
    """A context of an agent."""

    agent_id: AgentId


class EntityRead(ReadRequest):
    """One version of a document: a number, or that at a time; the current one without both."""

    type: DocumentType
    id: AgentId
    version: Annotated[float, Meta(ge=1, multiple_of=1, description="A whole number.")] | None = None
    at: At | None = None
    after: After | None = None
    wait_ms: WaitMs | None = None


class Batch(ReadRequest):
    """Several reads, at most 64 of all kinds together, each answered or rejected on its own.

    `searches` may be missing where there are others.
    """

    searches: Annotated[Sequence[Search], _UP_TO_ALL] | None
    contexts: Annotated[Sequence[AgentContext], _UP_TO_ALL] | None = None
    entities: Annotated[Sequence[EntityRead], _UP_TO_ALL] | None = None


class RawBatch(ReadRequest):
    """A Batch whose reads are not decoded yet, so that each can be rejected on its own."""

    searches: Annotated[Sequence[Raw], _UP_TO_ALL] | UnsetType | None = UNSET
    contexts: Annotated[Sequence[Raw], _UP_TO_ALL] | None = None
    entities: Annotated[Sequence[Raw], _UP_TO_ALL] | None = None


class SearchResult(Struct):
    """The answer to one search of a batch: `error` if it was rejected, else the other fields."""

    memories: Sequence[FoundMemory] | UnsetType = UNSET
    cache: Literal["hit", "miss", "off"] | UnsetType = UNSET
    fresh: bool | UnsetType = UNSET
    took_ms: float | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class ContextResult(Struct):
    """The answer to one context of a batch: `error` if it was rejected, else the fields of a context."""

    recent: Sequence[StoredMemory] | UnsetType = UNSET
    relevant: Sequence[FoundMemory] | UnsetType = UNSET
    neighbours: Sequence[StoredMemory] | UnsetType = UNSET
    text: str | UnsetType = UNSET
    tokens: int | UnsetType = UNSET
    state: Entity | UnsetType | None = UNSET
    cache: Literal["hit", "miss", "off"] | UnsetType = UNSET
    fresh: bool | UnsetType = UNSET
    took_ms: float | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class EntityResult(Struct):
    """The answer to one read of a document in a batch: `error` if it was rejected, else the fields of a document."""

    type: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    data: Mapping[str, Any] | UnsetType = UNSET
    tick: float | UnsetType | None = UNSET
    created_at: float | UnsetType = UNSET
    updated_at: float | UnsetType = UNSET
    fresh: bool | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class BatchResponse(Struct):
    """One answer per read, in the order of the reads. `contexts` and `entities` are left out where there were none."""

    results: Sequence[SearchResult]
    contexts: Sequence[ContextResult] | UnsetType = UNSET
    entities: Sequence[EntityResult] | UnsetType = UNSET
