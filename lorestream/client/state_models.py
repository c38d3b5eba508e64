"""The types of documents, Q-tables, policies and states: what their calls take and return. Times are Unix seconds."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

import msgspec

PolicyFormat: TypeAlias = Literal["safetensors", "npy", "raw"]


class StateReceipt(msgspec.Struct, frozen=True):
    """A write of state that is durable. A read with `after=token` sees it.

    `applied`: True if the call waited until it was applied. Then `version` is the new version of the document or policy.
    """

    event_id: str
    token: str
    applied: bool = False
    version: int | None = None


class WriteOutcome(msgspec.Struct, frozen=True):
    """What became of a write. If it was refused: the `code` of the reason, and the version at that time as `current`."""

    applied: bool
    version: int | None = None
    code: str | None = None
    current: int | None = None


class Entity(msgspec.Struct, frozen=True):
    """One version of a document. `id` is the agent that it belongs to."""

    type: str
    id: str
    version: int
    data: dict[str, Any] = {}
    tick: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    fresh: bool = True


class EntityVersion(msgspec.Struct, frozen=True):
    """A version in a list. A deletion is a version too, and has no data."""

    type: str
    id: str
    version: int
    data: dict[str, Any] | None = None
    tick: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    deleted: bool = False


class Entities(msgspec.Struct, frozen=True):
    """One page of documents, in the order of their ids; `next_cursor` is for the next page, None on the last one."""

    entities: list[Entity]
    next_cursor: str | None = None
    fresh: bool = True


class Versions(msgspec.Struct, frozen=True):
    """One page of the versions that are kept, newest first; `next_cursor` is for the next page."""

    versions: list[EntityVersion]
    next_cursor: str | None = None
    fresh: bool = True


class QUpdate(TypedDict):
    """One update of a Q-table: `set` q = value, `add` q += value, `toward` q += alpha * (value - q).

    `alpha` (0 to 1) is needed by `toward` alone. What is unknown begins at 0.
    """

    state: str
    action: str
    op: Literal["set", "add", "toward"]
    value: float
    alpha: NotRequired[float]


class QValue(msgspec.Struct, frozen=True):
    """The value of an action in a state, and how often it was updated."""

    q: float
    n: int


class QValues(msgspec.Struct, frozen=True):
    """The values by state and action; states that are unknown are absent. `next_cursor`: for the next page of a table."""

    values: dict[str, dict[str, QValue]]
    fresh: bool = True
    next_cursor: str | None = None


class Policy(msgspec.Struct, frozen=True):
    """A version of a policy: its bytes, and their SHA-256 in hexadecimal."""

    data: bytes
    sha256: str
    version: int
    format: PolicyFormat = "raw"
    fresh: bool = True


class PolicyVersion(msgspec.Struct, frozen=True):
    """A version of a policy in a list. A deletion is a version too, and has no bytes: no format, size and SHA-256."""

    version: int
    format: PolicyFormat | None = None
    size: int | None = None
    sha256: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    deleted: bool = False


class PolicyVersions(msgspec.Struct, frozen=True):
    """One page of the versions that are kept, newest first; `next_cursor` is for the next page."""

    versions: list[PolicyVersion]
    next_cursor: str | None = None
    fresh: bool = True


class AgentState(msgspec.Struct, frozen=True):
    """A state of an agent, as bytes that its `codec` explains. `id` is the id of its record."""

    id: str
    agent_id: str
    data: bytes
    timestamp: float
    codec: str | None = None
    encoder_version: str | int | None = None
    tick: float | None = None
    metadata: dict[str, Any] = {}


class AgentStates(msgspec.Struct, frozen=True):
    """One page of states; `next_cursor` is for the next page, None on the last one."""

    states: list[AgentState]
    total: int
    next_cursor: str | None = None


class Bucket(msgspec.Struct, frozen=True):
    """Figures over the records from `start` (Unix seconds or ticks) on. There is none without records.

    `std` is the standard deviation of the population; `last` the value of the newest record. `sum` and `std` are None where
    no float can hold them.
    """

    start: float
    count: int
    sum: float | None
    mean: float
    min: float
    max: float
    std: float | None
    last: float
    group: str | None = None
    """With `group_by`: the value of that field, "" for records without one."""


class Buckets(msgspec.Struct, frozen=True):
    """The result of an aggregation."""

    buckets: list[Bucket]
