"""What callers send to the gateway and get from it, beside events: the types of its routes and their documentation."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from producers.admission import AgentId, Details, PlayerName, Seconds

MAX_WAIT_MS = 60_000.0

# --- requests --------------------------------------------------------------------------------------------


class Wait(Struct, forbid_unknown_fields=True):
    """When the answer comes."""

    wait: Annotated[Literal["indexed"], Meta(description="Answer when they can be found.")] | UnsetType = (
        UNSET
    )
    timeout_ms: Annotated[float, Meta(ge=0, description="How long to wait for that: 60,000 at most.")] = (
        5000.0
    )


class Sentence(Struct):
    """A memory in words. `ttl` in seconds: absent = the default, 0 = for ever."""

    agent_id: AgentId
    text: Annotated[str, Meta(min_length=1)]
    metadata: Details = None
    ttl: Seconds | None = None


class Nothing(Struct, forbid_unknown_fields=True):
    """No parameters: a misspelt deletion must not be another deletion."""


class OfAgent(Struct, forbid_unknown_fields=True):
    """Whose memory it is."""

    agent_id: AgentId


class MemoryPlace(Struct):
    """A memory's id, of any form: what is no id of a memory names nothing."""

    id: str


class AgentPlace(Struct):
    """An agent."""

    agent_id: AgentId


class PlayerPlace(Struct):
    """A player, by the plain name."""

    name: PlayerName


class ErasurePlace(Struct):
    """What a deletion was answered with."""

    erasure_id: str


class Subject(Struct, forbid_unknown_fields=True):
    """Exactly one of: `agent_id` with `memory_id`, `agent_id`, `player`. A null is refused: it may be a mistake."""

    agent_id: AgentId | UnsetType = UNSET
    memory_id: str | UnsetType = UNSET
    player: PlayerName | UnsetType = UNSET


class SomeSubject(Struct, forbid_unknown_fields=True):
    """Exactly one of: `agent_id`, `player`."""

    agent_id: AgentId | UnsetType = UNSET
    player: PlayerName | UnsetType = UNSET


# --- answers ---------------------------------------------------------------------------------------------


class Reject(Struct):
    """An event that can never become a memory. Sending it again changes nothing."""

    index: int
    code: str
    message: str


class Accepted(Struct):
    """Every accepted event is durable. `ids` are the memories' ids, null where the event was rejected.

    `indexed` only where it was waited for: whether the log was processed past these events.
    """

    accepted: int
    rejected: list[Reject]
    ids: list[str | None]
    token: str
    retry_after_ms: int = 0
    indexed: bool | UnsetType = UNSET


class Remembered(Struct):
    """It is durable, and will have this id."""

    success: bool
    id: str


class ErasureReceipt(Struct):
    """The erasure is durable. `token` is that of a write."""

    erasure_id: str
    token: str


class ErasureProgress(Struct):
    """`done`: no read shows what it took. Unix seconds: when the log and the dead letters no longer hold it."""

    erasure_id: str
    state: Literal["running", "done"]
    log_gone_by: float
    dead_letters_gone_by: float


class Succeeded(Struct):
    """It is durable."""

    success: bool = True
