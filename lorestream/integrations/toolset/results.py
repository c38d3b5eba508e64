"""The results of the tools, as JSON objects. Fields that are null or empty are left out, to save tokens."""

from __future__ import annotations

from typing import Annotated, Any, Self

from msgspec import Meta, Struct

from lorestream.client import Entity, FoundMemory


class Memory(Struct, frozen=True, omit_defaults=True):
    """One memory. Times are Unix seconds."""

    id: str
    agent_id: str
    text: str
    timestamp: float
    type: str | None = None
    score: float | None = None
    importance: float = 5.0
    player: Annotated[str | None, Meta(description="The pseudonym of the player.")] = None
    server: str = ""
    pos: dict[str, float] | None = None
    tick: float | None = None
    metadata: dict[str, Any] = {}
    about: list[str] = []
    sources: list[str] = []
    supersedes: str | None = None
    superseded_by: str | None = None
    expires_at: float | None = None

    @classmethod
    def of(cls, found: FoundMemory) -> Self:
        """The memory of an answer."""
        return cls(
            id=found.id,
            agent_id=found.agent_id,
            text=found.text,
            timestamp=found.timestamp,
            type=found.type,
            score=None if found.score is None else round(found.score, 4),
            importance=found.importance,
            player=found.player,
            server=found.server,
            pos=found.pos,
            tick=found.tick,
            metadata=found.metadata,
            about=found.about,
            sources=found.sources,
            supersedes=found.supersedes,
            superseded_by=found.superseded_by,
            expires_at=found.expires_at,
        )


class Remembered(Struct, frozen=True):
    """The memory's id, and whether searches find it already (else they will shortly)."""

    id: str
    findable: bool


class Memories(Struct, frozen=True):
    """Memories, the best first."""

    memories: list[Memory]


class Page(Struct, frozen=True):
    """Memories in the order of time. `next_cursor`: for the next page, null on the last one."""

    memories: list[Memory]
    total: int
    next_cursor: str | None


class ContextText(Struct, frozen=True):
    """Memories as text for a prompt, oldest first, and the ids of those in it. `state`: the agent's character.

    `neighbours`: ids of those that stand next to the relevant ones.
    """

    text: str
    tokens: int
    relevant: list[str]
    neighbours: list[str]
    recent: list[str]
    state: dict[str, Any] | None


class AboutSomebody(Struct, frozen=True):
    """What is marked as being about them, newest or best first, and what else resembles it by meaning and words."""

    marked: list[Memory]
    similar: list[Memory]


class Forgotten(Struct, frozen=True):
    """An accepted deletion. `done`: reads show it already; else they will shortly."""

    erasure_id: str
    done: bool


class State(Struct, frozen=True):
    """A document and its version."""

    type: str
    agent_id: str
    version: int
    data: dict[str, Any]
    updated_at: float

    @classmethod
    def of(cls, entity: Entity) -> Self:
        """The document of an answer."""
        return cls(entity.type, entity.id, entity.version, entity.data, entity.updated_at)


class StatePut(Struct, frozen=True):
    """`applied`: whether the write is applied already, as `version`. Else it will be shortly, or with if_version refused."""

    applied: bool
    version: int | None
