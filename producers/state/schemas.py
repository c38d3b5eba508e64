"""The msgspec types of the routes that write documents, Q-tables and policies.

Unknown fields are refused everywhere: a misspelt `if_version` must not look like a success.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from lorestream.limits import MAX_EVENT_ID_CHARS, AgentId, DocumentType, EmptyList
from lorestream.state.policies import DEFAULT_NAME, Format, PolicyName
from lorestream.state.q_tables import DEFAULT_TABLE, MAX_UPDATES, QName, QOp

DEFAULT_WAIT_MS = 5000.0
_MAX_VERSION = 2**53 - 1
"""Above it not every integer can be written as 3.0: the next two are equal."""

EventId: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_EVENT_ID_CHARS,
        description="The producer's id of this write: with the same one again, it changes nothing. Without one, the"
        " gateway makes one.",
    ),
]
IfVersion: TypeAlias = Annotated[
    float,
    Meta(
        ge=0,
        le=_MAX_VERSION,
        multiple_of=1,
        description="Write only if this is the present version; 0: only if there is none.",
    ),
]
Version: TypeAlias = Annotated[float, Meta(ge=1, le=_MAX_VERSION, multiple_of=1)]
Tick: TypeAlias = Annotated[
    float, Meta(description="The tick of the game; default that of the version before.")
]
Timeout: TypeAlias = Annotated[float, Meta(ge=0, description="The longest wait: 60,000 at most.")]
Wait: TypeAlias = Annotated[
    Literal["applied"], Meta(description="Answer when the write is applied or refused, with its version.")
]

# --- paths and parameters --------------------------------------------------------------------------------


class DocumentPath(Struct):
    """A document: its type, and the agent that it belongs to."""

    type: DocumentType
    id: AgentId


class StatePath(Struct):
    """The agent that the table or the policy belongs to."""

    id: AgentId


class AppliedParams(Struct, forbid_unknown_fields=True):
    """Whether to wait until the write is applied."""

    wait: Wait | UnsetType = UNSET
    timeout_ms: Timeout = DEFAULT_WAIT_MS


class DeleteParams(AppliedParams, forbid_unknown_fields=True):
    """The fields of a deletion, which has no body."""

    tick: Tick | None = None
    if_version: IfVersion | None = None
    event_id: EventId | None = None


class PolicyParams(AppliedParams, forbid_unknown_fields=True):
    """The name of the policy among those of its agent."""

    name: PolicyName = DEFAULT_NAME


class PolicyUploadParams(DeleteParams, forbid_unknown_fields=True):
    """The name of the policy among those of its agent, and the format of its bytes."""

    name: PolicyName = DEFAULT_NAME
    format: Format = "raw"


class PolicyDeleteParams(DeleteParams, forbid_unknown_fields=True):
    """The name of the policy among those of its agent, and the fields of a deletion."""

    name: PolicyName = DEFAULT_NAME


# --- bodies ----------------------------------------------------------------------------------------------


class WriteFields(Struct, forbid_unknown_fields=True):
    """What every write of a document may have. Null counts as missing."""

    tick: Tick | None = None
    if_version: IfVersion | None = None
    event_id: EventId | None = None


class DeleteBody(WriteFields, forbid_unknown_fields=True):
    """A deletion by POST. All fields are optional; null counts as missing."""


class DocumentBody(WriteFields, forbid_unknown_fields=True, kw_only=True):
    """The new data, at most 256 KiB, and under which conditions it is written. Known types: `character`, `encoder`."""

    data: dict[str, Any] | EmptyList


class PatchBody(WriteFields, forbid_unknown_fields=True, kw_only=True):
    """A JSON Merge Patch (RFC 7396): null removes a field, objects are merged, anything else replaces."""

    data: dict[str, Any] | EmptyList


class RollbackBody(WriteFields, forbid_unknown_fields=True, kw_only=True):
    """Makes a new version with the data of the version `to`."""

    to: Version


class QUpdateEntry(Struct, forbid_unknown_fields=True):
    """`set` q = value, `add` q += value, `toward` q += alpha * (value - q). What is unknown begins at 0."""

    state: QName
    action: QName
    op: QOp
    value: float
    alpha: (
        Annotated[float, Meta(ge=0, le=1, description="Needed by `toward`, refused for the others.")] | None
    ) = None


class QUpdateBody(Struct, forbid_unknown_fields=True):
    """1 to 1,000 updates of one table, applied in their order: all of them or none, once for each `event_id`."""

    updates: Annotated[list[QUpdateEntry], Meta(min_length=1, max_length=MAX_UPDATES)]
    table: Annotated[QName, Meta(description=f'Default "{DEFAULT_TABLE}".')] | None = None
    event_id: EventId | None = None


# --- responses -------------------------------------------------------------------------------------------


class StateReceipt(Struct):
    """The write is durable. `applied` is set only with `wait`: whether it was applied already, then with its version."""

    event_id: str
    token: str
    applied: bool | UnsetType = UNSET
    version: int | UnsetType = UNSET
