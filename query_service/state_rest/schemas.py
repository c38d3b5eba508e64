"""Request and response types of the reads of state; the OpenAPI document is made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from lorestream.limits import MAX_EVENT_ID_CHARS, AgentId, DocumentType
from lorestream.state.policies import DEFAULT_NAME, Format, PolicyName
from lorestream.state.q_tables import DEFAULT_TABLE, MAX_UPDATES, QName
from query_service.response_schemas import Entity
from query_service.schemas import After, Limit, WaitMs
from query_service.state.q_tables import ActionValue

Cursor = Annotated[str, Meta(description="The `next_cursor` of the previous page.")]
Version = Annotated[int, Meta(ge=1)]
At = Annotated[float, Meta(description="Unix seconds: the version as it was at that time.")]
EventId = Annotated[str, Meta(min_length=1, max_length=MAX_EVENT_ID_CHARS)]


class WaitParams(Struct, forbid_unknown_fields=True):
    """The write to wait for, at most `wait_ms`."""

    after: After | UnsetType = UNSET
    wait_ms: WaitMs | UnsetType = UNSET


# --- requests --------------------------------------------------------------------------------------------


class TypePath(Struct):
    """A type of documents."""

    type: DocumentType


class EntityPath(TypePath):
    """A document. `id`: the agent that it belongs to."""

    id: AgentId


class EntityWritePath(EntityPath):
    """A write to a document."""

    event_id: EventId


class OwnerPath(Struct):
    """The agent that a Q-table or a policy belongs to."""

    id: AgentId


class OwnerWritePath(OwnerPath):
    """A write to a Q-table or a policy."""

    event_id: EventId


class EntityParams(WaitParams):
    """Which version: a number, or that at a time; the current one without both."""

    version: Version | UnsetType = UNSET
    at: At | UnsetType = UNSET


class EntitiesParams(WaitParams):
    """The documents whose agent's id begins with `prefix`."""

    prefix: str = ""
    limit: Limit = 100
    cursor: Cursor | UnsetType = UNSET


class VersionsParams(WaitParams):
    """A page of versions."""

    limit: Limit = 20
    cursor: Cursor | UnsetType = UNSET


class TableParams(WaitParams):
    """A page of a Q-table."""

    table: QName = DEFAULT_TABLE
    limit: Limit = 1000
    cursor: Cursor | UnsetType = UNSET


class TableWriteParams(WaitParams):
    """The Q-table of a write."""

    table: QName = DEFAULT_TABLE


class Values(Struct, forbid_unknown_fields=True):
    """The states whose values are wanted. Unknown states are absent from the answer."""

    states: Annotated[list[QName], Meta(min_length=1, max_length=MAX_UPDATES)]
    table: QName | None = None
    after: After | None = None
    wait_ms: WaitMs | None = None


class PolicyParams(WaitParams):
    """Which version of which policy; the current one without `version` and `at`."""

    name: PolicyName = DEFAULT_NAME
    version: Version | UnsetType = UNSET
    at: At | UnsetType = UNSET


class PolicyVersionsParams(VersionsParams):
    """A page of the versions of a policy."""

    name: PolicyName = DEFAULT_NAME


class PolicyWriteParams(WaitParams):
    """The policy of a write."""

    name: PolicyName = DEFAULT_NAME


# --- responses -------------------------------------------------------------------------------------------


class EntityResponse(Entity):
    """A document. `fresh`: it contains the write of `after`."""

    fresh: bool


class EntitiesResponse(Struct):
    """The documents of a type, by id. A page ends early where its documents have 4 MiB together.

    An id with a player's name is shown as it is stored, and is accepted in that form.
    """

    entities: Sequence[Entity]
    next_cursor: str | None
    fresh: bool


class EntityVersion(Struct):
    """A version in a list. A deletion is a version without data."""

    type: str
    id: str
    version: int
    data: Mapping[str, Any] | None
    tick: float | None
    created_at: float
    updated_at: float
    deleted: bool


class VersionsResponse(Struct):
    """The kept versions, the newest first. A page ends early where its documents have 4 MiB together."""

    versions: Sequence[EntityVersion]
    next_cursor: str | None
    fresh: bool


class WriteResponse(Struct):
    """What became of a write. `version`: what it made. `code`: why it was not applied; `current`: the version then."""

    applied: bool
    version: int | UnsetType = UNSET
    code: str | UnsetType = UNSET
    current: int | UnsetType = UNSET


class ValuesResponse(Struct):
    """state -> action -> value. `fresh`: it contains the write of `after`."""

    values: Mapping[str, Mapping[str, ActionValue]]
    fresh: bool


class TableResponse(ValuesResponse):
    """A page of a Q-table, in no defined order of states. `next_cursor`: null on the last page."""

    next_cursor: str | None


class PolicyVersion(Struct):
    """A version of a policy. A deletion is a version without bytes."""

    version: int
    format: Format | None
    size: int | None
    sha256: str | None
    created_at: float
    updated_at: float
    deleted: bool


class PolicyVersionsResponse(Struct):
    """The kept versions of a policy, the newest first."""

    versions: Sequence[PolicyVersion]
    next_cursor: str | None
    fresh: bool
