"""Memories as the JSON that callers get."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from lorestream.memories import Scope
from query_service.queries import ResolvedAgents
from query_service.record_schemas import ReadMemory
from query_service.response_schemas import ContextMemories, Entity, FoundMemory, GotMemory, StoredMemory
from query_service.state.character import TYPE as CHARACTER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorestream.memories import Memory
    from lorestream.state.documents import Document
    from query_service.context import ContextExcerpt
    from query_service.queries import ContextQuery, SearchQuery
    from query_service.ranking import Ranked
    from query_service.recall import Answer

_encoder = msgspec.json.Encoder()


def stored_memory(memory: Memory, agents: ResolvedAgents) -> StoredMemory:
    """A memory with the agent's id as the caller wrote it."""
    return StoredMemory(*_fields(memory, agents), **_links(memory, agents))


def encode_memory(memory: Memory) -> bytes:
    """A memory as JSON, with the agent's id as it is stored."""
    return _encoder.encode(stored_memory(memory, ResolvedAgents(Scope(memory.tenant), {})))


def read_memory(
    memory: Memory, agents: ResolvedAgents, vector: NDArray[np.float32] | None, *, vectors: bool
) -> ReadMemory:
    """A memory of a read by ids, with its vector (dim,), null without one, if `vectors`."""
    encoded = None if vector is None else vector.astype("<f4").tobytes()
    return ReadMemory(
        *_fields(memory, agents), **_links(memory, agents), vector=encoded if vectors else UNSET
    )


def _fields(memory: Memory, agents: ResolvedAgents) -> tuple[Any, ...]:
    """The values of StoredMemory's fields, in their order."""
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


def _links(memory: Memory, agents: ResolvedAgents) -> dict[str, Any]:
    """The values of StoredMemory's fields that few memories have, by name."""
    links: dict[str, Any] = {}
    if memory.about:
        links["about"] = [agents.name(one) for one in memory.about]
    if memory.sources:
        links["sources"] = memory.sources
    if memory.supersedes is not None:
        links["supersedes"] = memory.supersedes
    if memory.superseded_by and (replaced := memory.replaced_by):
        links["superseded_by"] = replaced[-1].id
    return links


def encode_hits(query: SearchQuery, ranked: Sequence[Ranked]) -> bytes:
    """The memories of a search: a JSON array."""
    return _encoder.encode([found_memory(one, query.agents, explain=query.explain) for one in ranked])


def found_memory(one: Ranked, agents: ResolvedAgents, *, explain: bool) -> FoundMemory:
    """A memory with its score, and with the parts of it if `explain`."""
    details = one.details if explain else UNSET
    return FoundMemory(
        *_fields(one.memory, agents), **_links(one.memory, agents), score=one.score, score_details=details
    )


def entity(document: Document, type_: str, name: str) -> Entity:
    """A version of a document. `name`: the id of its agent, as it is shown."""
    return Entity(
        type_, name, document.version, document.data, document.tick, document.created_at, document.updated_at
    )


def encode_context(query: ContextQuery, excerpt: ContextExcerpt, state: Document | None) -> bytes:
    """The memories, the text and the state of a context: a JSON object."""
    agents = query.search.agents
    return _encoder.encode(
        ContextMemories(
            recent=[stored_memory(memory, agents) for memory in excerpt.recent],
            relevant=[
                FoundMemory(*_fields(one.memory, agents), **_links(one.memory, agents), score=one.score)
                for one in excerpt.relevant
            ],
            neighbours=[stored_memory(memory, agents) for memory in excerpt.neighbours],
            text=excerpt.text,
            tokens=excerpt.tokens,
            state=None if state is None else entity(state, CHARACTER, query.owner.name),
        )
    )


def encode_get(query: SearchQuery, ranked: Sequence[Ranked]) -> bytes:
    """The memories of a search in the older form: a JSON array."""
    return _encoder.encode(
        [
            GotMemory(
                query.agents.name(one.memory.agent_id),
                one.memory.text,
                one.memory.metadata,
                one.memory.timestamp,
                one.score,
            )
            for one in ranked
        ]
    )


def search_response(answer: Answer, started: float) -> bytes:
    """A SearchResponse as JSON. `started`: `time.perf_counter()` of the request."""
    return b'{"memories":' + answer.encoded + _answer_fields(answer, started)


def context_response(answer: Answer, started: float) -> bytes:
    """A ContextResponse as JSON. `started`: `time.perf_counter()` of the request."""
    return answer.encoded[:-1] + _answer_fields(answer, started)


def _answer_fields(answer: Answer, started: float) -> bytes:
    """The last fields of a response and its closing brace."""
    took_ms = (time.perf_counter() - started) * 1000
    fresh = b"true" if answer.fresh else b"false"
    return b',"cache":"%b","fresh":%b,"took_ms":%.3f}' % (answer.cache.encode(), fresh, took_ms)
