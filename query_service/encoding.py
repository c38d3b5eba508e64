"""From memories to what readers get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from query_service.schemas import ContextMemories, FoundMemory, GotMemory, StoredMemory

if TYPE_CHECKING:
    from lorestream.memories import Memory
    from query_service.context import Excerpt
    from query_service.queries import ContextQuestion, Named, Question
    from query_service.ranking import Ranked

_encoder = msgspec.json.Encoder()


def stored(memory: Memory, agents: Named) -> StoredMemory:
    """A memory as readers get it."""
    return StoredMemory(*_fields(memory, agents))


def _fields(memory: Memory, agents: Named) -> tuple[Any, ...]:
    """In the order of StoredMemory."""
    return (
        memory.id,
        agents.name(memory.agent_id),
        memory.text,
        memory.type,
        memory.metadata,
        memory.pos,
        memory.tick,
        memory.timestamp,
        memory.importance,
        memory.server,
        memory.player,
        memory.accepted_at,
        memory.expires_at,
        memory.truncated,
    )


def encode_found(question: Question, ranked: Sequence[Ranked]) -> bytes:
    """The memories of a search, as JSON."""
    return _encoder.encode(
        [
            FoundMemory(
                *_fields(one.memory, question.agents),
                score=one.score,
                score_details=one.details if question.explain else UNSET,
            )
            for one in ranked
        ]
    )


def encode_context(asked: ContextQuestion, found: Excerpt) -> bytes:
    """The memories of a context and their text, as JSON."""
    agents = asked.question.agents
    return _encoder.encode(
        ContextMemories(
            recent=[stored(memory, agents) for memory in found.recent],
            relevant=[FoundMemory(*_fields(one.memory, agents), score=one.score) for one in found.relevant],
            text=found.text,
            tokens=found.tokens,
        )
    )


def encode_got(question: Question, ranked: Sequence[Ranked]) -> bytes:
    """The memories of a search in its older form, as JSON."""
    return _encoder.encode(
        [
            GotMemory(
                question.agents.name(one.memory.agent_id),
                one.memory.text,
                one.memory.metadata,
                one.memory.timestamp,
                one.score,
            )
            for one in ranked
        ]
    )
