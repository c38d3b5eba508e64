"""CrewAI: the memory of a crew. Needs the extra `crewai`: `pip install '.[crewai]'`.

    memory = LorestreamMemory(agent_id="crew:village", memories=MemoryClient("http://127.0.0.1:8080"))
    crew = Crew(agents=[...], tasks=[...], memory=memory)

CrewAI's own `Memory` embeds texts by its own embedder, and lets a language model infer scopes and merge what is alike.
Here Lorestream finds memories, and no model is asked when something is stored or recalled; only if an `llm` is given,
CrewAI uses it to divide the results of tasks into single memories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast

from crewai.memory.storage.backend import StorageBackend
from crewai.memory.types import MemoryMatch, MemoryRecord, ScopeInfo
from crewai.memory.unified_memory import Memory
from crewai.memory.utils import join_scope_paths, normalize_scope_path
from pydantic import ConfigDict, Field

from lorestream.client import Event, FoundMemory, MemoryClient, Weights
from lorestream.integrations.steps import Steps, run
from lorestream.integrations.writes import add_all, delete_all
from lorestream.limits import MAX_K, MAX_PAGE_SIZE, MAX_QUERY_CHARS

TYPE = "crewai"
_DAY_S = 86_400


class LorestreamMemory(Memory):
    """A `Memory` of CrewAI whose records are memories of one agent in Lorestream.

    `recall` ranks by `semantic_weight`, `recency_weight` and `importance_weight`, and ignores `depth`. `update` stores a
    new record in place of the old one: its id changes.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    agent_id: str
    memories: MemoryClient = Field(exclude=True)
    storage: Any = Field(default=None, exclude=True)

    def model_post_init(self, context: Any, /) -> None:
        """Store through Lorestream."""
        self.storage = LorestreamStorage(self.agent_id, self.memories)
        super().model_post_init(context)

    def remember(
        self,
        content: str,
        scope: str | None = None,
        categories: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        importance: float | None = None,
        source: str | None = None,
        private: bool = False,
        agent_role: str | None = None,
        root_scope: str | None = None,
    ) -> MemoryRecord | None:
        """Store one memory; returns when `recall` finds it. None if the memory is read-only."""
        stored = self.remember_many(
            [content], scope, categories, metadata, importance, source, private, agent_role, root_scope
        )
        return stored[0] if stored else None

    def remember_many(
        self,
        contents: list[str],
        scope: str | None = None,
        categories: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        importance: float | None = None,
        source: str | None = None,
        private: bool = False,
        agent_role: str | None = None,
        root_scope: str | None = None,
    ) -> list[MemoryRecord]:
        """Store several memories; returns when `recall` finds them."""
        if self.read_only:
            return []
        role = {} if agent_role is None else {"agent_role": agent_role}
        records = [
            MemoryRecord(
                content=content,
                scope=join_scope_paths(root_scope or self.root_scope, scope),
                categories=categories or [],
                metadata={**role, **(metadata or {})},
                importance=self.default_importance if importance is None else importance,
                source=source,
                private=private,
            )
            for content in contents
            if content.strip()
        ]
        self._storage.save(records)
        return records

    def recall(
        self,
        query: str,
        scope: str | None = None,
        categories: list[str] | None = None,
        limit: int = 10,
        depth: Literal["shallow", "deep"] = "deep",
        source: str | None = None,
        include_private: bool = False,
    ) -> list[MemoryMatch]:
        """The memories that fit the query best, by meaning and words, recency and importance."""
        del depth
        filters = _filters(join_scope_paths(self.root_scope, scope), categories)
        if not include_private:
            shown: list[Any] = [{"crewai.private": {"ne": True}}]
            filters["OR"] = [*shown, {"crewai.source": source}] if source else shown
        answer = self.memories.search(
            self.agent_id,
            query[:MAX_QUERY_CHARS] or None,
            min(limit, MAX_K),
            filters=filters,
            weights=Weights(
                relevance=self.semantic_weight,
                recency=self.recency_weight,
                importance=self.importance_weight,
                half_life_s=self.recency_half_life_days * _DAY_S,
            ),
        )
        return [
            MemoryMatch(
                record=_record(found), score=found.score or 0.0, match_reasons=["semantic", "keyword"]
            )
            for found in answer.memories
        ]

    def update(
        self,
        record_id: str,
        content: str | None = None,
        scope: str | None = None,
        categories: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        importance: float | None = None,
    ) -> MemoryRecord:
        """Store a changed record in place of this one; the new record. Raises ValueError if there is none."""
        existing = self._storage.get_record(record_id)
        if existing is None:
            raise ValueError(f"there is no record {record_id}")
        changed = {
            "content": content,
            "scope": scope,
            "categories": categories,
            "metadata": metadata,
            "importance": importance,
        }
        updated = existing.model_copy(
            update={name: value for name, value in changed.items() if value is not None}
        )
        if not self.read_only:
            self._storage.update(updated)
        return updated

    def extract_memories(self, content: str) -> list[str]:
        """The single memories in a text, by the `llm`; without one, the text as it is."""
        return super().extract_memories(content) if "llm" in self.model_fields_set else [content]


class LorestreamStorage(StorageBackend):
    """CrewAI's storage over the memories of one agent. It finds by text, so a search by a vector is refused."""

    def __init__(self, agent_id: str, memories: MemoryClient) -> None:
        self._agent_id = agent_id
        self._memories = memories

    def save(self, records: list[MemoryRecord]) -> None:
        """Store records; each gets the id of its memory. Returns when searches find them."""
        run(self._memories, self._save(records))

    def search(
        self, query_embedding: list[float], *args: Any, **kwargs: Any
    ) -> list[tuple[MemoryRecord, float]]:
        """Refused: use `LorestreamMemory.recall`."""
        del query_embedding, args, kwargs
        raise TypeError("Lorestream searches by text: use LorestreamMemory, not Memory(storage=...)")

    def delete(
        self,
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        record_ids: list[str] | None = None,
        older_than: datetime | None = None,
        metadata_filter: dict[str, Any] | None = None,
    ) -> int:
        """Delete the records that meet all conditions, for ever; how many."""
        filters = _filters(scope_prefix, categories, metadata_filter)
        if older_than is not None:
            filters["timestamp"] = {"lt": _seconds(older_than)}
        ids = [record.id for record in self._all(filters) if record_ids is None or record.id in record_ids]
        run(self._memories, delete_all(self._agent_id, ids))
        return len(ids)

    def update(self, record: MemoryRecord) -> None:
        """Store the record under a new id, which it gets, and delete the old one. It is as old as it was."""
        old = record.id
        run(self._memories, self._save([record], time=_seconds(record.created_at)))
        run(self._memories, delete_all(self._agent_id, [old]))

    def get_record(self, record_id: str) -> MemoryRecord | None:
        """The record, or None."""
        found = self._memories.get_many(self._agent_id, [record_id])
        return _record(found[0]) if found and found[0].type == TYPE else None

    def list_records(
        self, scope_prefix: str | None = None, limit: int = 200, offset: int = 0
    ) -> list[MemoryRecord]:
        """The records of a scope and those below it, newest first."""
        listed: list[MemoryRecord] = []
        for number, record in enumerate(self._all(_filters(scope_prefix))):
            if number >= offset + limit:
                break
            if number >= offset:
                listed.append(record)
        return listed

    def get_scope_info(self, scope: str) -> ScopeInfo:
        """What a scope and those below it contain."""
        records = list(self._all(_filters(scope)))
        return ScopeInfo(
            path=scope,
            record_count=len(records),
            categories=sorted({name for record in records for name in record.categories}),
            oldest_record=records[-1].created_at if records else None,
            newest_record=records[0].created_at if records else None,
            child_scopes=_children(scope, records),
        )

    def list_scopes(self, parent: str = "/") -> list[str]:
        """The scopes directly below this one."""
        return _children(parent, list(self._all(_filters(parent))))

    def list_categories(self, scope_prefix: str | None = None) -> dict[str, int]:
        """The categories in a scope and those below it, and how many records have each."""
        records = self._all(_filters(scope_prefix))
        return dict(Counter(name for record in records for name in record.categories))

    def count(self, scope_prefix: str | None = None) -> int:
        """How many records a scope and those below it have."""
        return self._memories.recent(self._agent_id, 1, type=TYPE, filters=_filters(scope_prefix)).total

    def reset(self, scope_prefix: str | None = None) -> None:
        """Delete all records of a scope and those below it, for ever."""
        self.delete(scope_prefix)

    async def asave(self, records: list[MemoryRecord]) -> None:
        """As `save`."""
        self.save(records)

    async def asearch(
        self, query_embedding: list[float], *args: Any, **kwargs: Any
    ) -> list[tuple[MemoryRecord, float]]:
        """As `search`."""
        return self.search(query_embedding, *args, **kwargs)

    async def adelete(self, *args: Any, **kwargs: Any) -> int:
        """As `delete`."""
        return self.delete(*args, **kwargs)

    def _all(self, filters: Mapping[str, Any]) -> Iterator[MemoryRecord]:
        cursor: str | None = None
        while True:
            page = self._memories.recent(
                self._agent_id, MAX_PAGE_SIZE, type=TYPE, filters=filters, cursor=cursor
            )
            yield from map(_record, page.memories)
            if (cursor := page.next_cursor) is None:
                return

    def _save(self, records: list[MemoryRecord], time: float | None = None) -> Steps[None]:
        """`time`: when they came to be, in Unix seconds; None: now."""
        ids = yield from add_all([_event(self._agent_id, record, time) for record in records])
        for record, memory_id in zip(records, ids, strict=True):
            record.id = memory_id


def _filters(
    scope: str | None, categories: list[str] | None = None, metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    filters: dict[str, Any] = {f"crewai.metadata.{name}": value for name, value in (metadata or {}).items()}
    filters["type"] = TYPE
    if scope and normalize_scope_path(scope) != "/":
        filters["crewai.scopes"] = {"contains": normalize_scope_path(scope)}
    if categories:
        filters["crewai.categories"] = list(categories)
    return filters


def _event(agent_id: str, record: MemoryRecord, time: float | None) -> Event:
    scope = normalize_scope_path(record.scope)
    parts = scope.strip("/").split("/")
    kept = {
        "scope": scope,
        "scopes": ["/" + "/".join(parts[: end + 1]) for end in range(len(parts))],
        "categories": record.categories,
        "source": record.source,
        "private": record.private,
        "metadata": record.metadata,
    }
    event = Event(
        agent_id=agent_id,
        type=TYPE,
        text=record.content,
        importance=10 * record.importance,
        metadata={"crewai": kept},
    )
    return event if time is None else {**event, "time": time}


def _record(found: FoundMemory) -> MemoryRecord:
    kept: Any = found.metadata.get("crewai")
    fields = cast("dict[str, Any]", kept) if isinstance(kept, dict) else {}
    created = datetime.fromtimestamp(found.timestamp, UTC).replace(tzinfo=None)  # CrewAI's times have no zone
    return MemoryRecord(
        id=found.id,
        content=found.text,
        scope=fields.get("scope") or "/",
        categories=fields.get("categories") or [],
        metadata=fields.get("metadata") or {},
        importance=found.importance / 10,
        created_at=created,
        last_accessed=created,
        source=fields.get("source"),
        private=bool(fields.get("private")),
    )


def _children(scope: str, records: list[MemoryRecord]) -> list[str]:
    above = normalize_scope_path(scope).rstrip("/") + "/"
    below = {record.scope for record in records if record.scope.startswith(above) and record.scope != above}
    return sorted({above + path.removeprefix(above).partition("/")[0] for path in below})


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
