"""MemoryRepository, TinyWorldVectorStore and EnhancedMemoryManager: characters, their messages, states and memories.

A character is an agent. Its messages are records of the type `message`, which searches by meaning find too: what
`MemoryRepository.save_message` has saved needs no second copy by `TinyWorldVectorStore.add_memory`.
"""

# ruff: noqa: PLR0917 (the signatures are those of the document)

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lorestream.client import Entity, FoundMemory, MemoryClient, NotFound, VersionConflict
from lorestream.compat.waiting import WAIT_S, decided
from lorestream.limits import MAX_PAGE_SIZE, MAX_TOKEN_BUDGET


class MemoryRepository:
    """The messages and the state of characters."""

    def __init__(self, client: MemoryClient | None = None) -> None:
        self._client = client or MemoryClient()

    def save_message(
        self,
        character_id: str,
        character_name: str,
        content: str,
        tick_count: int,
        message_type: str = "reflection",
        importance: float = 5.0,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Save a message; returns its id. The server trims what is too much (LORESTREAM_KEEP_PER_AGENT)."""
        receipt = self._client.message(
            character_id,
            content,
            name=character_name,
            role=message_type,
            event={
                "tick": tick_count,
                "importance": importance,
                "metadata": {"details": dict(metadata or {})},
            },
            wait_s=WAIT_S,
        )
        return str(receipt.ids[0])

    def get_recent_messages(self, character_id: str, limit: int = 10) -> list[dict[str, Any]]:
        """The newest messages, at most 1,000, in the order of time."""
        page = self._client.messages(character_id, limit)
        return [_message(memory) for memory in reversed(page.memories)]

    def get_messages_by_tick_range(
        self, character_id: str, start_tick: int, end_tick: int
    ) -> list[dict[str, Any]]:
        """The messages from `start_tick` to `end_tick`, both included, by tick: the oldest 1,000."""
        page = self._client.messages(
            character_id, MAX_PAGE_SIZE, order="oldest", tick_from=start_tick, tick_to=end_tick
        )
        return sorted((_message(memory) for memory in page.memories), key=lambda one: one["tick_count"])

    def get_messages_by_type(
        self, character_id: str, message_type: str, limit: int = 10
    ) -> list[dict[str, Any]]:
        """The newest messages of a type, at most 1,000, newest first."""
        page = self._client.recent(
            character_id, limit, type="message", filters={"metadata.role": message_type}
        )
        return [_message(memory) for memory in page.memories]

    def update_character_state(
        self,
        character_id: str,
        character_name: str,
        tick_count: int,
        last_decision_time: float,
        **fields: Any,  # noqa: ANN401 (personality, beliefs, goals and what else is known of the character)
    ) -> None:
        """Update or create the state of a character; a field that is not given stays.

        Of several programs that update one character at the same time, none undoes what another one has written. Raises
        Unavailable if it is not known in time whether the update is applied.
        """
        changes = {"name": character_name, "last_decision_time": last_decision_time, **fields}
        while True:
            present = self._state(character_id)
            data, version = ({}, 0) if present is None else (present.data, present.version)
            try:
                receipt = self._client.put_entity(
                    "character",
                    character_id,
                    data | changes,
                    tick=tick_count,
                    if_version=version,
                    wait_s=WAIT_S,
                )
                decided(self._client, "character", character_id, receipt)
            except VersionConflict:
                continue
            return

    def get_character_state(self, character_id: str) -> dict[str, Any] | None:
        """The state of a character, None if it has none."""
        found = self._state(character_id)
        return None if found is None else _character(found)

    def _state(self, character_id: str) -> Entity | None:
        try:
            return self._client.entity("character", character_id)
        except NotFound:
            return None


class TinyWorldVectorStore:
    """Memories that are searched by meaning. Each character has its own: no search returns those of another one.

    `collection_name` is accepted, and not used: the server has one collection. The methods that named a character's kind of
    memory as part of a collection take it as the type of the memories.
    """

    def __init__(self, client: MemoryClient | None = None) -> None:
        self._client = client or MemoryClient()

    def add_memory(
        self,
        character_id: str,
        content: str,
        collection_name: str | None = None,
        memory_type: str = "general",
        metadata: Mapping[str, Any] | None = None,
        importance: float = 5.0,
    ) -> str:
        """Add a memory; returns its id."""
        del collection_name
        receipt = self._client.add(
            character_id,
            content,
            event={"type": memory_type, "importance": importance, "metadata": dict(metadata or {})},
            wait_s=WAIT_S,
        )
        return str(receipt.ids[0])

    def search_memories(
        self,
        character_id: str,
        query: str,
        memory_type: str | None = None,
        k: int = 5,
        score_threshold: float | None = None,
    ) -> list[dict[str, Any]]:
        """The best memories for the query: `content`, `metadata`, `similarity_score` (the cosine, at most 1).

        `memory_type` None: of all types. `score_threshold` has no default: which cosine is a good one depends on the model.
        """
        filters = None if memory_type is None else {"type": memory_type}
        answer = self._client.search(
            character_id, query, k, filters=filters, mode="dense", min_score=score_threshold
        )
        return [
            {"content": found.text, "metadata": _metadata(found), "similarity_score": found.score}
            for found in answer.memories
        ]

    def similarity_search(
        self, query: str, k: int = 5, character_id: str = "characters"
    ) -> list[dict[str, Any]]:
        """`search_memories` with the query first. "characters" is what the document's example calls all its characters."""
        return self.search_memories(character_id, query, k=k)

    def get_recent_memories(
        self, character_id: str, memory_type: str | None = None, limit: int = 10
    ) -> list[dict[str, Any]]:
        """The newest memories, at most 1,000, newest first: `content`, `metadata`, `timestamp` (Unix seconds)."""
        page = self._client.recent(character_id, limit, type=memory_type)
        return [
            {"content": found.text, "metadata": _metadata(found), "timestamp": found.timestamp}
            for found in page.memories
        ]

    def delete_memory(self, character_id: str, doc_id: str, memory_type: str | None = None) -> bool:
        """Delete a memory. True, also if there is none: it will not be found."""
        del memory_type
        self._client.delete(doc_id, character_id)
        return True

    def clear_character_memories(self, character_id: str, memory_type: str | None = None) -> bool:
        """Erase everything of a character: memories of all types, messages and state.

        Raises ValueError for a `memory_type`: an erasure takes all types, so it would take more than was asked for.
        """
        if memory_type is not None:
            raise ValueError(
                f"memory_type={memory_type!r}: only all memories of a character can be cleared at once. Nothing was"
                " erased: leave memory_type out, or delete the memories of get_recent_memories one by one"
            )
        self._client.forget(character_id)
        return True

    def get_memory_stats(self, character_id: str, memory_type: str | None = None) -> dict[str, Any]:
        """How many memories a character has, of one type or of all, and when the last one was made (ISO 8601)."""
        found = self._client.summary(character_id)
        total = found.total if memory_type is None else found.by_type.get(memory_type, 0)
        return {
            "character_id": character_id,
            "memory_type": memory_type,
            "total_memories": total,
            "by_type": found.by_type,
            "last_memory_time": None if found.last is None else _iso(found.last),
        }


class EnhancedMemoryManager:
    """What a character remembers and is, for a prompt."""

    def __init__(self, character_id: str, client: MemoryClient | None = None) -> None:
        self.character_id = character_id
        self._client = client or MemoryClient()
        self.memory_repo = MemoryRepository(self._client)
        self.vector_store = TinyWorldVectorStore(self._client)

    def get_context_for_prompt(self, current_situation: str | None = None) -> dict[str, Any]:
        """The newest memories (10) in the order of time, the relevant ones (5), and the state; one request, no doubles.

        A memory that is both stands with the relevant ones. `MemoryClient.context` has the same as text.
        """
        context = self._client.context(
            self.character_id,
            current_situation or None,
            recent=10,
            relevant=5,
            neighbours=0,
            token_budget=MAX_TOKEN_BUDGET,  # the number of memories is the limit of a context here
        )
        recent = sorted(context.recent, key=lambda memory: (memory.timestamp, memory.accepted_at))
        return {
            "recent_context": [_message(memory) for memory in recent],
            "relevant_memories": [memory.text for memory in context.relevant],
            "character_state": None if context.state is None else _character(context.state),
        }


def _message(memory: FoundMemory) -> dict[str, Any]:
    is_message = memory.type == "message"
    return {
        "id": memory.id,
        "character_id": memory.agent_id,
        "character_name": memory.metadata.get("name"),
        "content": memory.text,
        "tick_count": None if memory.tick is None else int(memory.tick),
        "timestamp": _iso(memory.timestamp),
        "message_type": memory.metadata.get("role") if is_message else memory.type,
        "importance": memory.importance,
        "metadata": memory.metadata.get("details", {}) if is_message else memory.metadata,
    }


def _metadata(memory: FoundMemory) -> dict[str, Any]:
    own = {
        "character_id": memory.agent_id,
        "memory_type": memory.type,
        "timestamp": memory.timestamp,
        "datetime": _iso(memory.timestamp),
        "importance": memory.importance,
    }
    return own | memory.metadata


def _character(entity: Entity) -> dict[str, Any]:
    known = {"name": None, "last_decision_time": 0.0, "personality": {}, "beliefs": {}, "goals": {}}
    fields = known | entity.data
    return {
        "character_id": entity.id,
        "character_name": fields.pop("name"),
        "current_tick": 0 if entity.tick is None else int(entity.tick),
        **fields,
    }


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat()
