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
    deleted: bool = False
    """In a list of versions: this version is a deletion, and has no data."""
    fresh: bool = True


class Entities(msgspec.Struct, frozen=True):
    """One page of documents, in the order of their ids; `next_cursor` is for the next page, None on the last one."""

    entities: list[Entity]
    next_cursor: str | None = None


class Versions(msgspec.Struct, frozen=True):
    """One page of the versions that are kept, newest first; `next_cursor` is for the next page."""

    versions: list[Entity]
    next_cursor: str | None = None


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
    """A policy: its bytes, and their SHA-256 in hexadecimal."""

    data: bytes
    sha256: str


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
    """Figures over the records from `start` (seconds or ticks) on. Those without records are left out.

    `std` is the standard deviation of the population; `last` the value of the newest record.
    """

    start: float | None
    count: int
    sum: float
    mean: float | None = None
    min: float | None = None
    max: float | None = None
    std: float | None = None
    last: float | None = None


class Buckets(msgspec.Struct, frozen=True):
    """The result of an aggregation."""

    buckets: list[Bucket]
